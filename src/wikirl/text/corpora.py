"""Corpora as streams of documents.

A document is a block of non-blank lines: an article where articles are separated by blank lines, a paragraph in
WikiText's format. This file knows files; it does not know tokens.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wikirl.errors import CorpusError

SUFFIXES = (".txt", ".txt.gz", ".md", ".raw", ".tokens")


@dataclass(frozen=True)
class Corpus:
    """Text files in a fixed order."""

    name: str
    files: tuple[Path, ...]

    def documents(self) -> Iterator[str]:
        """Blocks of non-blank lines, joined by newlines.

        Raises:
            CorpusError: a file is not UTF-8 text or is damaged.
        """
        for path in self.files:
            yield from _documents(path)

    @property
    def fingerprint(self) -> str:
        """Hash of the names and contents of all files."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]


def open_corpus(spec: str) -> Corpus:
    """A text file, or a folder whose text files are read in the order of their names.

    Raises:
        CorpusError: nothing readable is there.
    """
    path = Path(spec)
    if path.is_file():
        return Corpus(path.name, (path,))
    if path.is_dir():
        files = tuple(sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES)))
        if files:
            return Corpus(path.name, files)
        raise CorpusError(f"expected text files ({', '.join(SUFFIXES)}) in {path}; found none")
    raise CorpusError(f"expected a text file or a folder of text files as corpus; found nothing at {spec!r}")


def _documents(path: Path) -> Iterator[str]:
    lines: list[str] = []
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                if stripped := line.strip():
                    lines.append(stripped)
                elif lines:
                    yield "\n".join(lines)
                    lines = []
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"expected UTF-8 text in {path}; found other bytes in line {_first_bad_line(path)}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"expected a whole gzip file at {path}; found: {error}; copy it again") from error
    if lines:
        yield "\n".join(lines)


def _first_bad_line(path: Path) -> int:
    """The number, from 1, of the first line that is not UTF-8."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("a file that is not UTF-8 has such a line")
