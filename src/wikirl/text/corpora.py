"""Corpora as streams of documents, with what is known of their licence.

    FOLDER or FILE              text, JSONL or Parquet (readers.py)
    hf:ID, hf:ID:CONFIG         a dataset of the Hugging Face hub, streamed (hub.py)
    wikitext-103, wikipedia     short names of two of them
    shuffled:CORPUS             the same words in random order within blocks
    synthetic:PROCESS           no text at all (synthetic.py)
    images:FOLDER               pictures as rows of pixels (images.py)

`#FIELD` behind a file, a folder or a dataset names the field of its records that holds the text; else it is `text`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from wikirl.errors import CorpusError
from wikirl.text.hub import SHORT_NAMES, HubCorpus, open_hub
from wikirl.text.images import open_images
from wikirl.text.notices import attribution_in, notices_in
from wikirl.text.parts import BY_NUMBER, HELD_OUT_EVERY, Part, part_of
from wikirl.text.readers import COMPRESSIONS, FORMATS, is_readable, read_documents, text_size
from wikirl.text.states import StateCorpus
from wikirl.text.synthetic import open_synthetic

__all__ = [
    "HELD_OUT_EVERY", "Corpus", "FileCorpus", "HubCorpus", "Part", "ShuffledCorpus", "TextCorpus", "open_corpus",
    "shuffle_words",
]  # fmt: skip

# Words shuffled among each other: about 800 tokens of the shipped tokenizer, most of a block of 1,024.
SHUFFLED_WORDS = 512
SPLITS = {
    "train": "train", "training": "train", "valid": "validation", "validation": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip


@runtime_checkable
class TextCorpus(Protocol):
    """Documents under a name."""

    @property
    def name(self) -> str:
        """What it is called in cards and messages."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides its documents."""

    @property
    def attribution(self) -> str:
        """Source and licence as far as they are known; else empty."""

    @property
    def held_out_name(self) -> str:
        """What its held-out part is called in cards."""

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """The documents of a part, in a fixed order; the whole is all but validation and test, where it has such.

        Raises:
            CorpusError: they cannot be read, or there are too few to hold some out.
        """

    def num_bytes(self, part: Part = "whole") -> int | None:
        """Bytes of text in a part, roughly, where that is cheap to know."""


@dataclass(frozen=True)
class FileCorpus:
    """Files in a fixed order; every 100th document is held out, unless some files are there for that.

    Attributes:
        name: Of the file or folder.
        files: Those to train on.
        held_out_files: Those to score on, if there are any.
        notices: Folder of the files that tell its licence.
        text_field: Field of a record that holds its text.
    """

    name: str
    files: tuple[Path, ...]
    held_out_files: tuple[Path, ...] = ()
    notices: Path | None = None
    text_field: str = "text"

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """Blocks of non-blank lines, or records."""
        if self.held_out_files:
            yield from self._read(self.held_out_files if part == "held-out" else self.files)
        else:
            yield from part_of(self._read(self.files), part, self.name)

    def num_bytes(self, part: Part = "whole") -> int | None:
        """The sum over files, if it is known of all."""
        if part == "held-out" and not self.held_out_files:
            return None
        sizes = [text_size(path) for path in (self.held_out_files if part == "held-out" else self.files)]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the names and contents of all files."""
        digest = hashlib.sha256()
        for number, path in enumerate(self.files + self.held_out_files):
            if number == len(self.files):
                digest.update(b"held out\0")
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if self.text_field != "text":
            digest.update(self.text_field.encode())
        return digest.hexdigest()[:16]

    @property
    def attribution(self) -> str:
        """What the notices beside the text say."""
        return attribution_in(self.notices) if self.notices else ""

    @property
    def held_out_name(self) -> str:
        """Which documents are held out."""
        return "its validation files" if self.held_out_files else BY_NUMBER

    def _read(self, files: tuple[Path, ...]) -> Iterator[str]:
        return chain.from_iterable(read_documents(path, self.text_field) for path in files)


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

    @property
    def attribution(self) -> str:
        """The corpus's own."""
        return self.corpus.attribution

    @property
    def held_out_name(self) -> str:
        """The corpus's own."""
        return self.corpus.held_out_name

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """Each document of the corpus, its words shuffled under a seed that is its number."""
        for number, document in enumerate(self.corpus.documents(part)):
            yield shuffle_words(document, np.random.default_rng(number))

    def num_bytes(self, part: Part = "whole") -> int | None:
        """The corpus's own."""
        return self.corpus.num_bytes(part)


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
    """A file, a folder whose files are read in the order of their names, a dataset of the hub, or a control.

    Raises:
        CorpusError: nothing readable is there, or options that cannot be.
        MissingExtraError: a dataset of the hub is asked for without the package that reads it.
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
    place, _, text_field = (spec, "", "") if Path(spec).exists() else spec.partition("#")
    path, text_field = Path(place), text_field or "text"
    if path.is_file():
        return FileCorpus(path.name, (path,), notices=path.parent, text_field=text_field)
    if path.is_dir():
        return _open_folder(path, text_field)
    if kind == "hf" or place in SHORT_NAMES:
        return open_hub(place, text_field)
    raise CorpusError(
        f"expected a text file or a folder of text files as corpus, hf:ID for a dataset of the Hugging Face hub, or "
        f"{', '.join(SHORT_NAMES)}; found nothing at {place!r}"
    )


def _open_folder(folder: Path, text_field: str) -> FileCorpus:
    notices = notices_in(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_readable(path) and path not in notices)
    if not files:
        raise CorpusError(
            f"expected text files ({', '.join(FORMATS)}, all but Parquet also with {', '.join(COMPRESSIONS)}) in "
            f"{folder}; found none"
        )
    splits = {path: _split(path.relative_to(folder)) for path in files}
    parts = set(splits.values())
    if "train" not in parts or len(parts) == 1 or None in parts:
        return FileCorpus(folder.name, tuple(files), notices=folder, text_field=text_field)
    training, held_out = (tuple(path for path in files if splits[path] == name) for name in ("train", "validation"))
    return FileCorpus(folder.name, training, held_out, folder, text_field)


def _split(path: Path) -> str | None:
    """The split that a path names, as `wiki.valid.tokens` and `train-00000-of-00001.parquet` do."""
    named = {SPLITS[word] for word in re.split(r"[^a-z]+", str(path).lower()) if word in SPLITS}
    return named.pop() if len(named) == 1 else None
