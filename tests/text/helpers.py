"""What tests of packed text have in common."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Packs 60 documents, every few of them a recorded piece, and says so for each document that is read.
PROGRAM = """
import sys, time
from pathlib import Path
from tests.text.helpers import many_documents
from wikirl.text import pack_writer, packing
from wikirl.text.tokenizers import byte_tokenizer

packing.CHUNK, pack_writer.RECORD_EVERY = 500, 0
pause = float(sys.argv[2])

def documents():
    for document in many_documents():
        time.sleep(pause)
        yield document

packing.pack(documents(), byte_tokenizer(), Path(sys.argv[1]))
"""
ROOT = Path(__file__).parents[2]


def many_documents() -> list[str]:
    """Documents of a kilobyte, each its own."""
    return [f"{n} naïve " * 100 for n in range(60)]


def files_of(folder: Path) -> dict[str, bytes]:
    """The contents of all files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def packer(folder: Path, pause: float) -> "subprocess.Popen[str]":
    """A process that packs `many_documents` into `folder`, with a pause before each."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(pause)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def killed_half_way(folder: Path) -> Path:
    """The folder that a packer leaves when it is killed after some documents were recorded."""
    process = packer(folder, 0.05)
    partial = folder.with_name(f".{folder.name}.partial")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        progress = partial / "progress.json"
        if progress.exists() and json.loads(progress.read_text())["num_documents"] >= 10:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, complaint = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaint
    return partial
