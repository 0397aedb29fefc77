"""Packed text on disk: a row of token ids and the borders of its documents.

    ids.npy               all tokens in order, uint16 or uint32
    document_starts.npy   first token of each document, then the number of tokens
    pack.json             sizes, and the tokenizer it was made with

This file knows numbers; it does not know text. How a pack comes about is in pack_writer.py.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt

from wikirl.errors import CorpusError
from wikirl.runs import read_json

FORMAT = 2


@dataclass(frozen=True)
class PackedText:
    """A corpus as ids.

    Attributes:
        ids: All tokens in order, memory-mapped.
        document_starts: First token of each of the N documents, then the number of tokens, `[N+1]`; memory-mapped.
        num_bytes: UTF-8 bytes of the text, one counted for each document's end; 0 if it was never text.
    """

    ids: UInt[np.ndarray, "S"]
    document_starts: Int64[np.ndarray, "starts"]
    num_bytes: int

    @property
    def num_tokens(self) -> int:
        """Tokens, end marks included."""
        return len(self.ids)

    @property
    def num_documents(self) -> int:
        """Documents packed."""
        return len(self.document_starts) - 1


@dataclass(frozen=True)
class Piece:
    """Some documents as ids.

    Attributes:
        ids: Their tokens in order, end marks included.
        lengths: Tokens of each document.
        num_bytes: As in `PackedText`.
    """

    ids: UInt[np.ndarray, "S"]
    lengths: Int[np.ndarray, "N"]
    num_bytes: int


@dataclass(frozen=True)
class Progress:
    """What a pack is made with, and how far it has come.

    Attributes:
        tokenizer: Hash of the tokenizer.
        dtype: NumPy name of the type of ids.
        num_tokens: Tokens so far, likewise documents and bytes.
        format: Number of this format.
    """

    tokenizer: str
    dtype: str
    num_tokens: int = 0
    num_documents: int = 0
    num_bytes: int = 0
    format: int = FORMAT

    def after(self, piece: Piece) -> "Progress":
        """With a piece more."""
        return replace(
            self,
            num_tokens=self.num_tokens + len(piece.ids),
            num_documents=self.num_documents + len(piece.lengths),
            num_bytes=self.num_bytes + piece.num_bytes,
        )

    @property
    def beginning(self) -> "Progress":
        """The same pack with nothing in it."""
        return replace(self, num_tokens=0, num_documents=0, num_bytes=0)


def open_packed(folder: Path, tokenizer: str | None = None) -> PackedText:
    """Memory-map what `write_pack` left.

    Args:
        folder: Where it is.
        tokenizer: Hash of the tokenizer that it must have been made with; None for any.

    Raises:
        CorpusError: the files are damaged, or made with another tokenizer.
    """
    try:
        whole = Progress(**read_json(folder / "pack.json"))
        ids, starts = (np.load(folder / name, mmap_mode="r") for name in ("ids.npy", "document_starts.npy"))
        if (len(ids), len(starts) - 1, starts[-1]) != (whole.num_tokens, whole.num_documents, whole.num_tokens):
            raise ValueError(f"{len(ids):,} ids of {len(starts) - 1:,} documents, other than were written")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise CorpusError(f"expected packed text in {folder}; found: {error}; delete it to pack again") from error
    if tokenizer not in (None, whole.tokenizer):
        raise CorpusError(
            f"expected ids of the tokenizer {tokenizer} in {folder}; found those of {whole.tokenizer}; delete it to "
            "pack again"
        )
    return PackedText(ids, starts, whole.num_bytes)
