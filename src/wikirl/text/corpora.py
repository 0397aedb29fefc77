"""Corpora as streams of documents.

A document is a block of non-blank lines: an article where articles are separated by blank lines, a paragraph in
WikiText's format. This file knows files; it does not know tokens.

    FOLDER or FILE       text as it is
    shuffled:CORPUS      the same words in random order within blocks
    synthetic:PROCESS    no text at all (synthetic.py)
    images:FOLDER        pictures as rows of pixels (images.py)
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from wikirl.errors import CorpusError
from wikirl.text.images import open_images
from wikirl.text.states import StateCorpus
from wikirl.text.synthetic import open_synthetic

Part = Literal["whole", "training", "held-out"]
HELD_OUT_EVERY = 100
# Words shuffled among each other: about 800 tokens of the shipped tokenizer, most of a block of 1,024.
SHUFFLED_WORDS = 512
SUFFIXES = (".txt", ".txt.gz", ".md", ".raw", ".tokens")


@runtime_checkable
class TextCorpus(Protocol):
    """Documents under a name."""

    @property
    def name(self) -> str:
        """What it is called in cards and messages."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides its documents."""

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """The documents of a part, in a fixed order.

        Raises:
            CorpusError: they cannot be read, or there are too few to hold some out.
        """


@dataclass(frozen=True)
class FileCorpus:
    """Text files in a fixed order; every 100th document is held out."""

    name: str
    files: tuple[Path, ...]

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """Blocks of non-blank lines, joined by newlines."""
        every = (document for path in self.files for document in _documents(path))
        if part == "whole":
            yield from every
            return
        beginning = list(islice(every, HELD_OUT_EVERY))
        if len(beginning) < HELD_OUT_EVERY:
            raise CorpusError(
                f"expected at least {HELD_OUT_EVERY} documents (separated by blank lines) in {self.name}, so that "
                f"every {HELD_OUT_EVERY}th can be held out; found fewer; give other text with --held-out"
            )
        held_out = part == "held-out"
        for number, document in enumerate(chain(beginning, every), start=1):
            if (number % HELD_OUT_EVERY == 0) == held_out:
                yield document

    @property
    def fingerprint(self) -> str:
        """Hash of the names and contents of all files."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ShuffledCorpus:
    """A corpus with its words in random order: what word counts and topics alone can teach.

    Source: LaMo (Shi et al. 2023), the ablation with shuffled pre-training text.
    """

    corpus: TextCorpus

    @property
    def name(self) -> str:
        """The corpus's own, marked."""
        return f"shuffled:{self.corpus.name}"

    @property
    def fingerprint(self) -> str:
        """The corpus's own, marked."""
        return f"{self.corpus.fingerprint}-shuffled"

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """Each document of the corpus, its words shuffled under a seed that is its number."""
        for number, document in enumerate(self.corpus.documents(part)):
            yield shuffle_words(document, np.random.default_rng(number))


def shuffle_words(text: str, random: np.random.Generator, block: int = SHUFFLED_WORDS) -> str:
    """The words of a text in random order within blocks of `block` words.

    Each word keeps the white space before it, and the first one, which has none, its place; so a byte-level tokenizer
    finds exactly the same tokens as before, each as often.
    """
    first, *words = re.findall(r"\s*\S+", text) or [text]
    blocks = [words[start : start + block] for start in range(0, len(words), block)]
    return "".join([first, *(word for some in blocks for word in random.permuted(np.array(some, dtype=object)))])


Corpus = TextCorpus | StateCorpus


def open_corpus(spec: str) -> Corpus:
    """A text file, a folder whose text files are read in the order of their names, or one of the controls.

    Raises:
        CorpusError: nothing readable is there, or options that cannot be.
    """
    kind, _, rest = spec.partition(":")
    if kind == "synthetic":
        return open_synthetic(rest)
    if kind == "images":
        return open_images(Path(rest))
    if kind == "shuffled":
        corpus = open_corpus(rest)
        if isinstance(corpus, StateCorpus):
            raise CorpusError(f"expected text to shuffle; {rest} has no words")
        return ShuffledCorpus(corpus)
    path = Path(spec)
    if path.is_file():
        return FileCorpus(path.name, (path,))
    if path.is_dir():
        files = tuple(sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES)))
        if files:
            return FileCorpus(path.name, files)
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
