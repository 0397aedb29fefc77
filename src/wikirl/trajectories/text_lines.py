"""Lines of text files that nobody vouches for, in blocks of bounded size; gzip or not.

This file knows bytes, UTF-8 and line ends. It deliberately does not know what the lines say.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import FREE_GROWTH_BYTES, MAX_GROWTH, require_file

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20


def text_blocks(path: Path, kind: str) -> Iterator[str]:
    """Whole lines that end in a line feed, about a megabyte together; a byte-order mark is taken off.

    Args:
        path: UTF-8 text, compressed if its name ends in `.gz`.
        kind: What it should be, for messages.

    Raises:
        DatasetError: it is missing, damaged, not UTF-8, or one line is longer than `MAX_LINE_BYTES`.
    """
    require_file(path, kind)
    packed = path.suffix.lower() == ".gz"
    most = MAX_GROWTH * path.stat().st_size + FREE_GROWTH_BYTES if packed else None
    seen, rest = 0, b""
    with _readable(path, kind), gzip.open(path) if packed else path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            if seen == 0:
                block = _without_mark(path, block)
            seen += len(block)
            if most is not None and seen > most:
                raise DatasetError(f"{path} inflates to more than {MAX_GROWTH} times its size; that is refused")
            end = block.rfind(b"\n") + 1
            if end == 0:
                rest += block
                if len(rest) > MAX_LINE_BYTES:
                    raise DatasetError(f"{path}: a line is longer than {MAX_LINE_BYTES} bytes; is this a {kind}?")
                continue
            yield _text(path, rest + block[:end], seen - len(block) - len(rest))
            rest = block[end:]
        if rest:
            yield _text(path, rest, seen - len(rest)) + "\n"


def _text(path: Path, block: bytes, position: int) -> str:
    if b"\0" in block:
        raise DatasetError(f"{path}: byte {position + block.index(0)} is zero; this is no text")
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: byte {position + error.start} is not UTF-8; write the file again with that encoding"
        ) from error
    return text.replace("\r\n", "\n") if "\r" in text else text


def _without_mark(path: Path, block: bytes) -> bytes:
    if block.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DatasetError(f"{path} is UTF-16; write it again as UTF-8")
    return block.removeprefix(b"\xef\xbb\xbf")


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: not a readable {kind} ({error}); is it complete?") from error
