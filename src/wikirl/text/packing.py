"""Token ids of a whole corpus in one memory-mapped row, and blocks cut from it.

Documents follow each other without padding, each closed by `<|endoftext|>`; blocks ignore document borders, as GPT-2's
training did.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from wikirl.errors import CorpusError
from wikirl.reproducibility import available_cpus
from wikirl.runs import cache_folder
from wikirl.text.corpora import Corpus, Part
from wikirl.text.pack_files import PackedText, Piece, Progress, open_packed
from wikirl.text.pack_writer import write_pack
from wikirl.text.states import SEQUENCE_LENGTH, StateCorpus
from wikirl.text.tokenizers import end_token, num_ids, tokenizer_hash

__all__ = ["BlockSampler", "PackedText", "evaluation_blocks", "open_packed", "pack", "pack_corpus"]

# Characters encoded together, for each core: enough that the cores end at about the same time, and some 100 MB of the
# library's intermediate results.
CHUNK, MOST_CHUNKS = 2**19, 16

T = TypeVar("T")


def pack(
    documents: Iterable[str], tokenizer: Tokenizer, folder: Path, *, what: str = "text", num_bytes: int | None = None
) -> PackedText:
    """Encode documents into `folder` (pack_files.py) with all cores, and open the result.

    If a process was killed while it did the same, what it encoded is kept; so the documents must be the same again.

    Args:
        documents: What to encode; kept in memory some at a time.
        tokenizer: Encodes.
        folder: Where the pack shall be.
        what: Names the text in the progress bar.
        num_bytes: Bytes of all documents, roughly, for the bar.

    Raises:
        CorpusError: there is no text.
    """
    dtype = _id_type(num_ids(tokenizer))
    return write_pack(
        folder,
        Progress(tokenizer_hash(tokenizer), dtype),
        lambda done: _encoded(islice(documents, done, None), tokenizer, dtype),
        partial(tqdm, desc=f"packing the {what}", total=num_bytes, unit="B", unit_scale=True, leave=False),
    )


def _encoded(documents: Iterator[str], tokenizer: Tokenizer, dtype: str) -> Iterator[Piece]:
    """Pieces of encoded documents. One thread reads ahead, the cores encode, this one gathers ids meanwhile."""
    end = end_token(tokenizer)
    encode = partial(tokenizer.encode_batch_fast, add_special_tokens=False)
    chunks = _ahead(_chunks(documents, CHUNK * min(available_cpus(), MOST_CHUNKS)))
    for encodings, num_bytes in _ahead((encode(chunk), num_bytes) for chunk, num_bytes in chunks):
        rows = [np.array([*encoding.ids, end], dtype) for encoding in encodings]
        yield Piece(np.concatenate(rows), np.array([len(row) for row in rows]), num_bytes)


def _chunks(documents: Iterator[str], size: int) -> Iterator[tuple[list[str], int]]:
    """Lists of documents of about `size` characters together, and their UTF-8 bytes with one for each end."""
    chunk: list[str] = []
    num_characters = num_bytes = 0
    for document in documents:
        chunk.append(document)
        num_characters += len(document)
        num_bytes += len(document.encode()) + 1
        if num_characters >= size:
            yield chunk, num_bytes
            chunk, num_characters, num_bytes = [], 0, 0
    if chunk:
        yield chunk, num_bytes


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next two of them made in a thread meanwhile."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, end) for _ in range(2))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]  # not the end mark


def _id_type(count: int) -> str:
    """The type that holds `count` different ids."""
    if count > 2**32:
        raise CorpusError(f"expected a vocabulary of at most {2**32:,} ids; found {count:,}")
    return "uint16" if count <= 2**16 else "uint32"


def pack_corpus(corpus: Corpus, part: Part, tokenizer: Tokenizer) -> PackedText:
    """A part of a corpus as ids, from the cache if it was packed before.

    Raises:
        CorpusError: the corpus cannot be read, is empty, or does not fit into the vocabulary.
    """
    folder = cache_folder() / "packed" / f"{corpus.fingerprint}-{tokenizer_hash(tokenizer)}-{part}"
    if folder.exists():
        return open_packed(folder, tokenizer_hash(tokenizer))
    if isinstance(corpus, StateCorpus):
        return _pack_states(corpus, part, tokenizer, folder)
    return pack(corpus.documents(part), tokenizer, folder, what=f"{part} text", num_bytes=corpus.num_bytes(part))


def _pack_states(corpus: StateCorpus, part: Part, tokenizer: Tokenizer, folder: Path) -> PackedText:
    """Sequences one after the other without end marks, so that a block is a sequence; each is a document."""
    if num_ids(tokenizer) < corpus.states + 1:
        raise CorpusError(
            f"expected a vocabulary of at least {corpus.states + 1} for {corpus.name}; found {num_ids(tokenizer)}"
        )
    dtype = _id_type(num_ids(tokenizer))

    counts = {False: corpus.num_sequences - corpus.num_held_out, True: corpus.num_held_out}
    parts = {"whole": (False, True), "training": (False,), "held-out": (True,)}[part]

    def pieces(done: int) -> Iterator[Piece]:
        for held_out in parts:
            for chunk in corpus.chunks(held_out=held_out, skip=min(done, counts[held_out])):
                yield Piece(chunk.ravel().astype(dtype) + 1, np.full(len(chunk), SEQUENCE_LENGTH), 0)
            done = max(done - counts[held_out], 0)

    total = sum(counts[held_out] for held_out in parts) * SEQUENCE_LENGTH
    bar = partial(tqdm, desc=f"making the {part} sequences", total=total, unit="tok", unit_scale=True, leave=False)
    return write_pack(folder, Progress(tokenizer_hash(tokenizer), dtype), pieces, bar)


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
