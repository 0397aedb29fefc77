from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from tests.helpers import toy_documents
from tests.text.helpers import files_of
from wikirl.errors import CorpusError
from wikirl.text import packing
from wikirl.text.corpora import Part
from wikirl.text.packing import (
    BlockSampler,
    PackedText,
    _id_type,
    evaluation_blocks,
    open_packed,
    pack,
    pack_corpus,
)
from wikirl.text.states import SEQUENCE_LENGTH
from wikirl.text.synthetic import SyntheticCorpus
from wikirl.text.tokenizers import END_OF_TEXT, train_tokenizer

TOKENIZER = train_tokenizer(toy_documents(), 300)


def numbered(num_tokens: int) -> PackedText:
    """Text whose every token is its own place."""
    return PackedText(np.arange(num_tokens, dtype=np.uint16), np.array([0, num_tokens]), num_tokens)


def naive(documents: list[str]) -> list[int]:
    ids: list[int] = []
    for document in documents:
        ids += [*TOKENIZER.encode(document).ids, 0]
    return ids


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_packing_is_concatenation_with_end_marks(documents: list[str]) -> None:
    with TemporaryDirectory() as folder:
        packed = pack(iter(documents), TOKENIZER, Path(folder) / "packed")
        assert packed.ids.tolist() == naive(documents)
        assert packed.num_tokens == len(naive(documents))
        assert packed.num_documents == len(documents)
        starts = np.cumsum([0, *(len(naive([document])) for document in documents)])
        assert packed.document_starts.tolist() == starts.tolist()
        assert packed.num_bytes == len("".join(f"{document}\n" for document in documents).encode())


def test_more_documents_than_one_chunk(tmp_path: Path) -> None:
    documents = toy_documents() * 50
    packed = pack(documents, TOKENIZER, tmp_path / "packed")
    assert packed.ids.tolist() == naive(documents)
    assert packed.num_documents == 600


def test_packed_text_is_mapped_and_opens_again(tmp_path: Path) -> None:
    packed = pack(toy_documents(), TOKENIZER, tmp_path / "packed")
    again = open_packed(tmp_path / "packed")
    assert isinstance(again.ids, np.memmap)
    assert again.ids.tolist() == packed.ids.tolist()
    assert isinstance(again.document_starts, np.memmap)
    assert again.document_starts.tolist() == packed.document_starts.tolist()
    assert (again.num_bytes, again.num_documents) == (packed.num_bytes, packed.num_documents)
    names = ["document_starts.npy", "ids.npy", "pack.json", "packed"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == names


def words(number: int) -> Tokenizer:
    return Tokenizer(models.WordLevel({END_OF_TEXT: 0} | {f"w{i}": i for i in range(1, number)}, f"w{number - 1}"))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32")])
def test_the_type_holds_the_last_word(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    packed = pack([f"w{vocab_size - 1}"], words(vocab_size), tmp_path / "packed")
    assert packed.ids.dtype == dtype
    assert packed.ids.tolist() == [vocab_size - 1, 0]


def test_no_type_holds_more_ids_than_32_bits_have() -> None:
    assert _id_type(2**32) == "uint32"
    with pytest.raises(CorpusError, match="at most 4,294,967,296 ids; found 4,294,967,297"):
        _id_type(2**32 + 1)


def test_ids_above_the_size_of_the_vocabulary(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({END_OF_TEXT: 0, "a": 70_000}, "a"))
    packed = pack(["a"], tokenizer, tmp_path / "packed")
    assert packed.ids.tolist() == [70_000, 0]


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = toy_documents() * 20
    whole = pack(documents, TOKENIZER, tmp_path / "whole")
    monkeypatch.setattr(packing, "CHUNK", 50)
    parts = pack(documents, TOKENIZER, tmp_path / "parts")
    assert parts.ids.tolist() == whole.ids.tolist()
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_an_error_while_reading_arrives(tmp_path: Path) -> None:
    def documents() -> Iterator[str]:
        yield from toy_documents()
        raise CorpusError("the disk is on fire")

    with pytest.raises(CorpusError, match="on fire"):
        pack(documents(), TOKENIZER, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    assert pack(toy_documents(), TOKENIZER, tmp_path / "packed").ids.tolist() == naive(toy_documents())


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="found none"):
        pack([], TOKENIZER, tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Counting:
    """A corpus that counts how often it is read."""

    fingerprint: str = "f1"
    name: str = "counting"
    attribution: str = ""
    held_out_name: str = ""
    reads: list[str] = field(default_factory=list)

    def documents(self, part: Part = "whole") -> Iterator[str]:
        self.reads.append(part)
        yield from toy_documents()

    def num_bytes(self, part: Part = "whole") -> int | None:
        return None


def test_the_cache_reads_documents_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path))
    corpus = Counting()
    first = pack_corpus(corpus, "training", TOKENIZER)
    again = pack_corpus(corpus, "training", TOKENIZER)
    assert corpus.reads == ["training"]
    assert again.ids.tolist() == first.ids.tolist() == naive(toy_documents())
    other = train_tokenizer(toy_documents(), 280)
    pack_corpus(corpus, "held-out", TOKENIZER)
    pack_corpus(corpus, "training", other)
    assert corpus.reads == ["training", "held-out", "training"]
    pack_corpus(changed := Counting("f2"), "training", TOKENIZER)
    assert changed.reads == ["training"]


def test_states_are_packed_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path))
    corpus = SyntheticCorpus("markov", states=7, sequences=32)
    states = {part: np.concatenate(list(corpus.chunks(held_out=part))).ravel() for part in (False, True)}
    expected = {"training": states[False], "held-out": states[True], "whole": np.concatenate(list(states.values()))}
    for part in get_args(Part):
        packed = pack_corpus(corpus, part, TOKENIZER)
        assert packed.ids.tolist() == (expected[part] + 1).tolist()
        assert packed.document_starts.tolist() == list(range(0, packed.num_tokens + 1, SEQUENCE_LENGTH))
        assert packed.num_bytes == 0
    with pytest.raises(CorpusError, match="at least 401 for synthetic:iid:states=400,sequences=32; found 300"):
        pack_corpus(SyntheticCorpus("iid", states=400, sequences=32), "training", TOKENIZER)


sizes = {"num_tokens": st.integers(2, 60), "block_length": st.integers(1, 9), "batch_size": st.integers(1, 7)}


@given(**sizes, seed=st.integers(0, 9))
def test_an_epoch_visits_every_block_once(num_tokens: int, block_length: int, batch_size: int, seed: int) -> None:
    text = numbered(max(num_tokens, block_length + 1))
    sampler = BlockSampler(text, block_length, batch_size, seed)
    blocks = torch.cat([sampler.batch(n) for n in range(-(-3 * sampler.num_blocks // batch_size))])
    assert blocks.dtype == torch.int64
    assert torch.equal(blocks - blocks[:, :1], torch.arange(block_length + 1).expand_as(blocks))
    expected = [block_length * i for i in range((text.num_tokens - 1) // block_length)]
    for epoch in blocks[: 3 * sampler.num_blocks, 0].reshape(3, -1).tolist():
        assert sorted(epoch) == expected


@given(**sizes, order=st.permutations(range(8)))
def test_a_batch_depends_on_seed_and_number_alone(
    num_tokens: int, block_length: int, batch_size: int, order: list[int]
) -> None:
    text = numbered(max(num_tokens, block_length + 1))
    straight, mixed = (BlockSampler(text, block_length, batch_size, 3) for _ in range(2))
    expected = [straight.batch(n) for n in range(8)]
    for n in order:
        assert torch.equal(mixed.batch(n), expected[n])


def test_seeds_and_epochs_differ() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return BlockSampler(numbered(101), 1, 100, seed).batch(epoch)[:, 0].tolist()

    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != list(range(100))


def test_too_little_text_for_a_block() -> None:
    with pytest.raises(CorpusError, match="at least 9 tokens of text; found 8"):
        BlockSampler(numbered(8), 8, 1, 0)
    assert BlockSampler(numbered(9), 8, 1, 0).num_blocks == 1


@given(**sizes)
def test_evaluation_covers_every_target_once(num_tokens: int, block_length: int, batch_size: int) -> None:
    blocks = list(evaluation_blocks(numbered(num_tokens), block_length, batch_size))
    targets = torch.cat([block[:, 1 + first :].flatten() for block, first in blocks]).tolist()
    assert targets == list(range(1, num_tokens))
    for number, (block, first) in enumerate(blocks):
        assert first >= block_length // 2 or number == 0
        assert torch.equal(block[:, 1:], block[:, :-1] + 1)
        assert len(block) <= batch_size
        assert block.shape[1] <= block_length + 1
