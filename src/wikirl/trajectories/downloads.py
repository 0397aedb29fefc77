"""Files from a server or a folder: resumed where they stopped, compared, their SHA-256 kept beside them.

    NAME               the file, once it is whole
    NAME.sha256        its SHA-256, as `sha256sum -c` reads it
    NAME.part          what came so far
    NAME.part.json     from where, and what the server said of the file then: `source`, `etag`, `modified`, `length`

This file knows what to keep and what to throw away. It deliberately does not know which files there are, nor formats.
"""

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from wikirl.errors import DatasetError
from wikirl.runs import noting
from wikirl.trajectories.connections import (
    BrokenError,
    Opened,
    Version,
    is_url,
    opened_at,
    read_some,
    require_reachable,
)

_ATTEMPTS = 5  # for a connection that breaks after some bytes; one that brings none is not tried again


def fetch(source: str, target: Path, *, is_right: Callable[[Path], bool], kind: str) -> str:
    """Get one file, or the rest of it, and compare its SHA-256 with a recorded one.

    Several processes may ask for the same file; one gets it, the others wait.

    Args:
        source: `http://…`, `https://…` or a path.
        target: Where it shall be; it appears complete or not at all.
        is_right: Whether what came is a file of the right kind.
        kind: What that kind is called.

    Returns:
        Its SHA-256.

    Raises:
        DatasetError: the source does not answer (what came is kept), sends something else, or has another SHA-256 than
            `target`'s or a mirror folder's `.sha256` file says.
    """
    part = target.with_name(target.name + ".part")
    notes = part.with_name(part.name + ".json")
    target.parent.mkdir(parents=True, exist_ok=True)
    with noting(target), _locked(part) as file:
        if target.is_file():  # another process was faster
            part.unlink()
            return sha256_of(target)
        try:
            _fill(source, file, notes)
        except DatasetError:
            if _size(file) == 0:
                _discard(part, notes)
            raise
        sha256 = sha256_of(part)
        expected = recorded_sha256(target) or (None if is_url(source) else recorded_sha256(Path(source)))
        try:
            if not is_right(part):
                raise DatasetError(f"what came from {source} is no {kind}; it begins with {_beginning(part)!r}")
            if expected not in (None, sha256):
                raise DatasetError(
                    f"what came from {source} has SHA-256 {sha256}, {target.name}.sha256 expects {expected}; if the "
                    "file was changed on purpose, delete that record"
                )
        except DatasetError:
            _discard(part, notes)
            raise
        target.with_name(target.name + ".sha256").write_text(f"{sha256}  {target.name}\n", encoding="utf-8")
        part.replace(target)
        notes.unlink(missing_ok=True)
    size = target.stat().st_size
    tqdm.write(f"{target.name}: {size:,} bytes, SHA-256 {sha256}, from {source}", file=sys.stderr)
    return sha256


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_sha256(path: Path) -> str | None:
    """What the `.sha256` file beside a file says, if there is one."""
    beside = path.with_name(path.name + ".sha256")
    try:
        words = beside.read_text(encoding="utf-8").split()
    except OSError:
        return None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{beside} holds no SHA-256; delete it") from error
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise DatasetError(f"{beside} holds no SHA-256; delete it")
    return words[0]


def _fill(source: str, file: BinaryIO, notes: Path) -> None:
    """Bring a `.part` file to its full length."""
    if is_url(source):
        require_reachable(source)
    for attempt in range(1, _ATTEMPTS + 1):
        before = _size(file)
        try:
            return _continue(source, file, notes)
        except BrokenError as error:
            came = _size(file)
            if came == before or attempt == _ATTEMPTS:
                kept = f"; {came:,} bytes are kept, the same command goes on from there" if came else ""
                raise DatasetError(f"{source} cannot be had ({error}){kept}") from error
    return None


def _continue(source: str, file: BinaryIO, notes: Path) -> None:
    """Go on behind the bytes at hand if they are of the same file, else begin anew."""
    have, known = _size(file), _recall(notes)
    # Without a name or a date for its versions nothing would tell a file that changed.
    same = known is not None and known.source == source and bool(known.etag or known.modified)
    offset = have if same else 0
    if offset and known is not None and offset == known.length:
        return
    with opened_at(source, offset) as opened:
        if opened.first == 0 or (opened.first == offset and opened.version == known):
            _receive(opened, file, notes)
            return
    with opened_at(source, 0) as opened:
        _receive(opened, file, notes)


def _receive(opened: Opened, file: BinaryIO, notes: Path) -> None:
    version = opened.version
    if opened.first == 0:
        file.truncate(0)
        notes.write_text(json.dumps(asdict(version)), encoding="utf-8")
    name = version.source.rpartition("/")[2]
    with tqdm(total=version.length, initial=opened.first, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        while chunk := read_some(opened.stream):
            file.write(chunk)
            bar.update(len(chunk))
    file.flush()
    os.fsync(file.fileno())
    if version.length is not None and _size(file) != version.length:
        raise BrokenError(f"the connection broke after {_size(file):,} of {version.length:,} bytes")


def _recall(notes: Path) -> Version | None:
    """What is known of the bytes at hand; nothing if the note is missing or damaged, and then they are not used."""
    try:
        return Version(**json.loads(notes.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The `.part` file, opened by this process alone."""
    while True:
        with part.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tqdm.write(f"waiting for another process that downloads {part.stem}", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who had it before may have renamed or deleted it.
            if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
                yield file
                return


def _discard(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(40).decode("ascii", errors="replace")
