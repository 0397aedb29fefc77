import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from tests.helpers import toy_documents
from wikirl.errors import CorpusError
from wikirl.text.tokenizers import (
    END_OF_TEXT,
    byte_tokenizer,
    end_token,
    load_tokenizer,
    num_ids,
    save_tokenizer,
    tokenizer_hash,
    train_tokenizer,
)

TOKENIZER = train_tokenizer(toy_documents(), 300)
BYTES_ALONE = byte_tokenizer()


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def back(tokenizer: Tokenizer, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text


def refused(folder: Path) -> str:
    with pytest.raises(CorpusError) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


@given(st.text(max_size=60))
@example("  leading, double  spaces \r\n\ttab \x00 nul")
@example(f"an {END_OF_TEXT} inside")
@example("👩‍👩‍👧 é e\u0301 \ufeff \u2028 \U0010ffff")
def test_any_text_comes_back_byte_for_byte(text: str) -> None:
    assert back(TOKENIZER, ids_of(TOKENIZER, text)).encode() == text.encode()


@given(st.text(max_size=60))
@example("  leading, double  spaces \r\n\ttab \x00 nul\x7f\xa0\xad")
@example("👩‍👩‍👧 é e\u0301 \ufeff \u2028 \U0010ffff")
def test_bytes_are_tokens(text: str) -> None:
    assert ids_of(BYTES_ALONE, text) == list(text.encode())
    assert back(BYTES_ALONE, ids_of(BYTES_ALONE, text)) == text


def test_the_byte_tokenizer_is_saved_and_loaded(tmp_path: Path) -> None:
    assert BYTES_ALONE.get_vocab_size() == num_ids(BYTES_ALONE) == 257
    assert end_token(BYTES_ALONE) == 256
    assert ids_of(BYTES_ALONE, f"a{END_OF_TEXT}") == [97, 256]
    save_tokenizer(BYTES_ALONE, tmp_path, max_length=64)
    loaded, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    every = "".join(map(chr, range(0x800))) + " don't clean  up , this ! \n\n" + "海👩‍👩‍👧\U0010ffff"
    for text in [*toy_documents(), every, "", END_OF_TEXT]:
        assert ids_of(loaded, text) == theirs(text)["input_ids"] == ids_of(BYTES_ALONE, text)
        assert theirs.decode(theirs(text)["input_ids"]) == back(loaded, ids_of(loaded, text)) == text
    assert theirs.eos_token_id == 256
    assert len(theirs) == 257


def test_ids_that_were_left_out_count() -> None:
    tokenizer = Tokenizer(models.WordLevel({END_OF_TEXT: 0, "a": 5}, "a"))
    assert tokenizer.get_vocab_size() == 2
    assert num_ids(tokenizer) == 6


def test_the_hash_follows_the_ids() -> None:
    assert tokenizer_hash(TOKENIZER) == tokenizer_hash(train_tokenizer(toy_documents(), 300))
    assert len({tokenizer_hash(TOKENIZER), tokenizer_hash(BYTES_ALONE), tokenizer_hash(Tokenizer(models.BPE()))}) == 3


def test_learning_is_deterministic_and_keeps_to_its_size() -> None:
    assert TOKENIZER.get_vocab_size() == 300
    assert train_tokenizer(toy_documents(), 300).to_str() == TOKENIZER.to_str()
    assert train_tokenizer(["ab"], 5000).get_vocab_size() < 5000
    assert len(ids_of(TOKENIZER, toy_documents()[5])) < len(toy_documents()[5].encode()) / 2


def test_the_end_mark_is_one_entry_and_the_first() -> None:
    assert ids_of(TOKENIZER, END_OF_TEXT) == [TOKENIZER.token_to_id(END_OF_TEXT)] == [0]
    assert end_token(TOKENIZER) == 0
    with pytest.raises(CorpusError, match="knows"):
        end_token(Tokenizer(models.BPE(VOCAB, [("a", "b")])))
    assert list(TOKENIZER.get_vocab()).count(END_OF_TEXT) == 1
    assert 0 not in ids_of(TOKENIZER, " ".join(toy_documents()))


def test_learning_needs_text_and_room() -> None:
    with pytest.raises(CorpusError, match="found none"):
        train_tokenizer([], 300)
    with pytest.raises(CorpusError, match="257"):
        train_tokenizer(["text"], 256)
    assert train_tokenizer(["text"], 257).get_vocab_size() == 257


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path, max_length=64)
    loaded, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in [*toy_documents(), " unseen: ⅷ\n\n", END_OF_TEXT]:
        assert ids_of(loaded, text) == ids_of(TOKENIZER, text)
        assert theirs(text)["input_ids"] == ids_of(TOKENIZER, text)
        assert theirs.decode(theirs(text)["input_ids"]) == text
    assert theirs.eos_token == theirs.bos_token == END_OF_TEXT
    assert theirs.eos_token_id == 0
    assert theirs.model_max_length == 64
    assert len(theirs) == loaded.get_vocab_size() == 300


BYTES = {word: number for number, word in enumerate("abĠ")}
VOCAB = {**BYTES, "ab": 3, "Ġab": 4, "abab": 5}
MERGES = "#version: 0.2\na b\nĠ ab\nab ab\n"


def write_pair(folder: Path, vocab: Any = VOCAB, merges: str = MERGES, names: str = "vocab.json merges.txt") -> None:
    first, second = names.split()
    (folder / first).write_text(vocab if isinstance(vocab, str) else json.dumps(vocab))
    (folder / second).write_text(merges, encoding="utf-8")


@pytest.mark.parametrize("names", ["vocab.json merges.txt", "encoder.json vocab.bpe"])
@pytest.mark.parametrize("own_end", [False, True])
def test_the_pair_of_files_of_gpt2(tmp_path: Path, names: str, own_end: bool) -> None:
    write_pair(tmp_path, {**VOCAB, END_OF_TEXT: 6} if own_end else VOCAB, names=names)
    tokenizer = load_tokenizer(tmp_path)
    assert ids_of(tokenizer, "abab ab ba" + END_OF_TEXT) == [5, 4, 2, 1, 0, 6]
    assert back(tokenizer, [5, 4, 2, 1, 0, 6]) == "abab ab ba" + END_OF_TEXT
    assert tokenizer.get_vocab_size() == 7


def test_the_pair_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    write_pair(tmp_path)
    theirs = models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    ours = json.loads(load_tokenizer(tmp_path).to_str())["model"]
    assert ours == json.loads(Tokenizer(theirs).to_str())["model"]


def test_tokenizer_json_goes_before_the_pair(tmp_path: Path) -> None:
    write_pair(tmp_path)
    save_tokenizer(TOKENIZER, tmp_path, 8)
    assert load_tokenizer(tmp_path).get_vocab_size() == 300


@pytest.mark.parametrize("left", [[], ["vocab.json"], ["merges.txt"]])
def test_no_tokenizer(tmp_path: Path, left: list[str]) -> None:
    write_pair(tmp_path)
    for path in list(tmp_path.iterdir()):
        if path.name not in left:
            path.unlink()
    assert "found neither" in refused(tmp_path)
    with pytest.raises(CorpusError):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ("{", MERGES),
        ([], MERGES),
        ({**VOCAB, "a": "zero"}, MERGES),
        ({**VOCAB, "a": -1}, MERGES),
        (VOCAB, "a b\nb a\n"),  # the library panics
        (VOCAB, "a c\n"),
        (VOCAB, "ab\n"),
        (VOCAB, "a b ab\n"),
    ],
)
def test_a_broken_pair(tmp_path: Path, vocab: Any, merges: str) -> None:
    write_pair(tmp_path, vocab, merges)
    refused(tmp_path)


def test_a_pair_of_other_bytes(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfea b")
    refused(tmp_path)


def model(**changes: Any) -> str:
    return json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": VOCAB, "merges": [["a", "b"]]} | changes})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"model": 3}',
        TOKENIZER.to_str().encode()[:-200],
        model(merges=[["a", "zz"]]).encode(),
        model(merges=[["b", "a"]]).encode(),
        model(merges=["a b c"]).encode(),
        model(merges=[1]).encode(),
        model(merges=7).encode(),
        model(vocab=None).encode(),
        model(type="Unheard").encode(),
        json.dumps({**json.loads(TOKENIZER.to_str()), "decoder": {"type": "Unheard"}}).encode(),
    ],
)
def test_a_broken_tokenizer_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    refused(tmp_path)


@pytest.mark.parametrize("merges", [[["a", "b"]], ["a b"]])
def test_both_spellings_of_merges(tmp_path: Path, merges: list[Any]) -> None:
    end = {"id": 6, "content": END_OF_TEXT, "special": True}
    end |= dict.fromkeys(("normalized", "single_word", "lstrip", "rstrip"), False)
    content = {**json.loads(model(merges=merges)), "added_tokens": [end]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert ids_of(load_tokenizer(tmp_path), "ab") == [3]


def test_a_tokenizer_without_end_mark(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(Tokenizer(models.BPE(VOCAB, [("a", "b")])).to_str())
    assert END_OF_TEXT in refused(tmp_path)
