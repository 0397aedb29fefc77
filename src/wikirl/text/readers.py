"""Files as documents: text, JSONL and Parquet, plain or compressed.

    .txt .md .raw .tokens   blocks of non-blank lines
    .jsonl                  one record a line, its text in a field
    .parquet                one record a row, its text in a column

All but Parquet may be followed by .gz, .xz or .zst. This file knows formats; it does not know corpora or tokens.
"""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from wikirl.errors import CorpusError, MissingExtraError

TEXT_SUFFIXES = (".txt", ".md", ".raw", ".tokens")
COMPRESSIONS = (".gz", ".xz", ".zst")
FORMATS = (*TEXT_SUFFIXES, ".jsonl", ".parquet")


def is_readable(path: Path) -> bool:
    """Whether the name of a file in a folder says that it holds documents."""
    return _format(path) in FORMATS


def read_documents(path: Path, text_field: str = "text") -> Iterator[str]:
    """The documents of a file, without white space around them; what holds nothing else is left out.

    A file of any other name is read as text.

    Raises:
        CorpusError: the file is damaged, is not UTF-8, or a record has no such field; names the line.
        MissingExtraError: its format needs a package that is not installed.
    """
    match _format(path):
        case ".parquet":
            documents = _parquet(path, text_field)
        case ".jsonl":
            documents = _records(path, text_field)
        case _:
            documents = _blocks(path)
    return filter(None, map(str.strip, documents))


def text_size(path: Path) -> int | None:
    """Bytes of text in a file, roughly, where that is known without reading it."""
    match path.suffix:
        case ".gz":  # its last four bytes, modulo 2³² (RFC 1952, section 2.3.1)
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - 4, 0))
                return int.from_bytes(file.read(), "little")
        case ".xz" | ".zst" | ".parquet":
            return None
    return path.stat().st_size


def missing_extra(what: str, error: ImportError) -> MissingExtraError:
    """What to say when a package of the extra `text` is not installed."""
    return MissingExtraError(
        f"{what} needs the package {error.name}; pip install {error.name}, or the whole extra with pip install -e "
        "'.[text]' in wikirl's folder"
    )


def _format(path: Path) -> str:
    """The suffix that names the format, below one of compression."""
    suffixes = path.suffixes
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSIONS:
        return suffixes[-2] if suffixes[-2] != ".parquet" else ""
    return path.suffix


def _blocks(path: Path) -> Iterator[str]:
    block: list[str] = []
    for _, line in _lines(path):
        if stripped := line.strip():
            block.append(stripped)
        elif block:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)


def _records(path: Path, text_field: str) -> Iterator[str]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        place = f"line {number} of {path}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise CorpusError(f"expected a JSON object in {place}; found: {error}; mend or drop that line") from error
        yield text_of(record, text_field, place)


def text_of(record: Any, text_field: str, place: str) -> str:
    """The text of a record; empty for null.

    Raises:
        CorpusError: the record has no such field, or it holds no text.
    """
    if not isinstance(record, dict) or text_field not in record:
        found = ", ".join(map(str, record)) if isinstance(record, dict) else repr(record)[:40]
        raise CorpusError(
            f"expected a field {text_field!r} in {place}; found {found or 'none'}; name the field after the corpus, "
            "as in CORPUS#FIELD"
        )
    text = record[text_field]
    if not isinstance(text, str | None):
        raise CorpusError(f"expected text in the field {text_field!r} in {place}; found {repr(text)[:40]}")
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"expected Unicode text in {place}; found half of a surrogate pair; mend or drop it"
        ) from error
    return text or ""


def _parquet(path: Path, column: str) -> Iterator[str]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra(f"reading {path}", error) from error
    try:
        with parquet.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                text_of(dict.fromkeys(file.schema_arrow.names), column, str(path))
            batches = (batch.column(0).to_pylist() for batch in file.iter_batches(1000, columns=[column]))
            for number, text in enumerate(chain.from_iterable(batches), start=1):
                yield text_of({column: text}, column, f"row {number} of {path}")
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:  # the disk's complaint, not the library's
            raise
        reason = str(error).split("\n")[0]
        raise CorpusError(f"expected a whole Parquet file at {path}; found: {reason}; copy it again") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file of UTF-8 text and their numbers, from 1."""
    try:
        with _opener(path)() as binary, io.TextIOWrapper(binary, encoding="utf-8") as file:
            yield from enumerate(file, start=1)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"expected UTF-8 text in {path}; found other bytes in line {_first_bad_line(path)}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        kind = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}[path.suffix]
        raise CorpusError(f"expected a whole {kind} file at {path}; found: {error}; copy it again") from error


def _first_bad_line(path: Path) -> int:
    """The number, from 1, of the first line that is not UTF-8."""
    with _opener(path)() as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("a file that is not UTF-8 has such a line")


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    match path.suffix:
        case ".gz":
            return lambda: cast(IO[bytes], gzip.open(path))
        case ".xz":
            return lambda: cast(IO[bytes], lzma.open(path))
        case ".zst":
            return lambda: io.BufferedReader(_Unzstd(path), 2**20)
    return lambda: path.open("rb")


class _Unzstd(io.RawIOBase):
    """The bytes in a .zst file of any number of frames; unlike the package's own reader, it notices a missing end."""

    def __init__(self, path: Path) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise missing_extra(f"reading {path}", error) from error
        self._damaged = zstandard.ZstdError
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._file = path.open("rb")
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; 0 at the end.

        Raises:
            EOFError: the file is damaged, or ends within a frame.
        """
        while not self._ready:
            packed = self._frame.unused_data if self._frame and self._frame.eof else b""
            if self._frame and self._frame.eof:
                self._frame = None
            if not (packed := packed or self._file.read(2**17)):
                if self._frame:
                    raise EOFError("it ends too early")
                return 0
            self._frame = self._frame or self._new_frame()
            try:
                self._ready = memoryview(self._frame.decompress(packed))
            except self._damaged as error:
                raise EOFError(str(error)) from error
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:
        """Close the file too."""
        if not self.closed:
            self._file.close()
        super().close()
