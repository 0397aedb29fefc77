"""Token ids of a whole corpus in one memory-mapped row, and blocks cut from it.

Documents follow each other without padding, each closed by `<|endoftext|>`; blocks ignore document borders, as GPT-2's
training did.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from wikirl.errors import CorpusError
from wikirl.runs import cache_folder, read_json, replacing_folder, write_json
from wikirl.text.corpora import Corpus, Part
from wikirl.text.states import StateCorpus
from wikirl.text.tokenizers import END_OF_TEXT


@dataclass(frozen=True)
class PackedText:
    """A corpus as ids.

    Attributes:
        ids: All tokens in order, memory-mapped.
        num_bytes: UTF-8 bytes of the text, one counted for each document's end; 0 if it was never text.
        num_documents: Documents packed.
    """

    ids: UInt[np.ndarray, "S"]
    num_bytes: int
    num_documents: int

    @property
    def num_tokens(self) -> int:
        """Tokens, end marks included."""
        return len(self.ids)


def pack(documents: Iterable[str], tokenizer: Tokenizer, folder: Path) -> PackedText:
    """Encode documents into `folder` (ids.npy, pack.json) and open the result.

    Raises:
        CorpusError: there is no text.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    dtype = _id_type(tokenizer.get_vocab_size())
    parts, num_bytes, num_documents = [], 0, 0
    stream = iter(documents)
    while chunk := list(islice(stream, 256)):
        for document, encoding in zip(chunk, tokenizer.encode_batch_fast(chunk, add_special_tokens=False), strict=True):
            parts.append(np.array([*encoding.ids, end], dtype))
            num_bytes += len(document.encode()) + 1
        num_documents += len(chunk)
    if not parts:
        raise CorpusError("expected text to pack; found none")
    with replacing_folder(folder) as temporary:
        np.save(temporary / "ids.npy", np.concatenate(parts))
        write_json(temporary / "pack.json", {"num_bytes": num_bytes, "num_documents": num_documents})
    return open_packed(folder)


def _id_type(vocab_size: int) -> type[np.uint16 | np.uint32]:
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def pack_corpus(corpus: Corpus, part: Part, tokenizer: Tokenizer) -> PackedText:
    """A part of a corpus as ids, from the cache if it was packed before.

    Raises:
        CorpusError: the corpus cannot be read, is empty, or does not fit into the vocabulary.
    """
    words = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16]
    folder = cache_folder() / "text" / f"{corpus.fingerprint}-{words}-{part}"
    if (folder / "pack.json").exists():
        return open_packed(folder)
    if isinstance(corpus, StateCorpus):
        return _write_states(corpus, part, tokenizer.get_vocab_size(), folder)
    bar = tqdm(corpus.documents(part), desc=f"packing the {part} text", unit=" documents", leave=False)
    return pack(iter(bar), tokenizer, folder)


def _write_states(corpus: StateCorpus, part: Part, vocab_size: int, folder: Path) -> PackedText:
    """Sequences one after the other without end marks, so that a block is a sequence."""
    if vocab_size < corpus.states + 1:
        raise CorpusError(
            f"expected a vocabulary of at least {corpus.states + 1} for {corpus.name}; found {vocab_size}"
        )
    parts = ("training", "held-out") if part == "whole" else (part,)
    ids = [chunk.astype(_id_type(vocab_size)) for name in parts for chunk in corpus.chunks(held_out=name == "held-out")]
    with replacing_folder(folder) as temporary:
        np.save(temporary / "ids.npy", np.concatenate(ids).ravel() + 1)
        write_json(temporary / "pack.json", {"num_bytes": 0, "num_documents": sum(map(len, ids))})
    return open_packed(folder)


def open_packed(folder: Path) -> PackedText:
    """Memory-map what `pack` wrote."""
    meta = read_json(folder / "pack.json")
    return PackedText(np.load(folder / "ids.npy", mmap_mode="r"), meta["num_bytes"], meta["num_documents"])


class BlockSampler:
    """Blocks of text in an order that visits each block once an epoch.

    The n-th batch is a function of the seed and n alone, so a run resumes by remembering n.
    """

    def __init__(self, text: PackedText, block_length: int, batch_size: int, seed: int) -> None:
        """Prepare blocks of `block_length` + 1 tokens: inputs and, shifted by one, targets.

        Raises:
            CorpusError: the text is shorter than one block.
        """
        self.num_blocks = (text.num_tokens - 1) // block_length
        if self.num_blocks < 1:
            raise CorpusError(f"expected at least {block_length + 1} tokens of text; found {text.num_tokens}")
        self.text, self.block_length, self.batch_size, self.seed = text, block_length, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, n: int) -> Int[Tensor, "B L"]:
        """The n-th batch (from 0): token ids of `batch_size` blocks, each one token longer than `block_length`."""
        places = range(n * self.batch_size, (n + 1) * self.batch_size)
        starts = np.array([self._block(place) for place in places]) * self.block_length
        gathered = self.text.ids[starts[:, None] + np.arange(self.block_length + 1)]
        return torch.from_numpy(gathered.astype(np.int64))

    def _block(self, place: int) -> int:
        epoch, within = divmod(place, self.num_blocks)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.num_blocks)
        return int(self._order[within])


def evaluation_blocks(text: PackedText, block_length: int, batch_size: int) -> Iterator[tuple[Int[Tensor, "B L"], int]]:
    """All of a text, each token once, with at least half a block of context except in the first block.

    Yields:
        Token ids of blocks (inputs and targets overlap by one) that move on by half a block, and the first of their
        targets to be scored; those before it are only context.
    """
    ids = np.asarray(text.ids, dtype=np.int64)
    num_targets = len(ids) - 1
    yield torch.from_numpy(ids[None, : block_length + 1]), 0
    stride = max(block_length // 2, 1)
    starts = np.arange(stride, num_targets - block_length + 1, stride)
    for first in range(0, len(starts), batch_size):
        blocks = starts[first : first + batch_size, None] + np.arange(block_length + 1)
        yield torch.from_numpy(ids[blocks]), block_length - stride
    covered = block_length + len(starts) * stride
    if covered < num_targets:
        yield torch.from_numpy(ids[None, -block_length - 1 :]), block_length - (num_targets - covered)
