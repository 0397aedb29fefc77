import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import toy_documents, write_corpus
from wikirl.errors import CorpusError
from wikirl.text.corpora import FileCorpus, open_corpus, shuffle_words
from wikirl.text.states import StateCorpus
from wikirl.text.tokenizers import train_tokenizer

TEXT = "\n\n  first line \nsecond line\t\n \t \nnext document\r\n\r\n\n\nlast — with ünïcode 海"
DOCUMENTS = ["first line\nsecond line", "next document", "last — with ünïcode 海"]


def documents_of(spec: str) -> Iterator[str]:
    corpus = open_corpus(spec)
    assert not isinstance(corpus, StateCorpus)
    return corpus.documents()


def refused(spec: Path | str) -> str:
    with pytest.raises(CorpusError) as error:
        list(documents_of(str(spec)))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_documents_end_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert list(documents_of(str(tmp_path / "a.txt"))) == DOCUMENTS
    assert list(documents_of(str(tmp_path / "a.txt.gz"))) == DOCUMENTS


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.md").write_text("two")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one"))
    (tmp_path / "deep" / "wiki.train.tokens").write_text("three\n\nfour")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    corpus = open_corpus(str(tmp_path))
    assert isinstance(corpus, FileCorpus)
    assert corpus.name == tmp_path.name
    assert list(corpus.documents()) == ["one", "two", "three", "four"]
    assert list(corpus.documents()) == ["one", "two", "three", "four"]


def test_documents_do_not_run_over_the_end_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    assert list(documents_of(str(tmp_path))) == ["one", "two"]


def test_toy_corpus(tmp_path: Path) -> None:
    assert list(documents_of(str(write_corpus(tmp_path)))) == toy_documents()


def test_nothing_there(tmp_path: Path) -> None:
    assert "nowhere" in refused(tmp_path / "nowhere")
    (tmp_path / "data.csv").write_text("1,2")
    assert "found none" in refused(tmp_path)


@pytest.mark.parametrize("keep", [8, 30, -4])
def test_a_gzip_cut_short(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 50)[:keep])
    assert "a.txt.gz" in refused(path)


def test_a_gzip_that_is_none_or_was_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(b"plain text under a wrong name")
    assert "gzip" in refused(path)
    content = bytearray(gzip.compress(TEXT.encode() * 50))
    content[20:24] = b"\xff" * 4
    path.write_bytes(content)
    assert "gzip" in refused(path)


@pytest.mark.parametrize("packed", [False, True])
def test_other_bytes_are_refused_with_their_line(tmp_path: Path, packed: bool) -> None:
    content = b"good line\n" * 3000 + "na\xefve\n".encode("latin-1") + b"good line\n" * 3000
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    message = refused(path)
    assert "line 3001" in message
    assert str(path) in message


def test_the_fingerprint_follows_names_and_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = open_corpus(str(tmp_path)).fingerprint
    assert open_corpus(str(tmp_path)).fingerprint == first == open_corpus(str(path)).fingerprint
    path.write_text("two")
    assert open_corpus(str(tmp_path)).fingerprint != first
    path.write_text("one")
    (tmp_path / "b.txt").write_text("")
    assert open_corpus(str(tmp_path)).fingerprint != first
    (tmp_path / "b.txt").unlink()
    path.rename(tmp_path / "c.txt")
    assert open_corpus(str(tmp_path)).fingerprint != first


def test_the_fingerprint_keeps_files_apart(tmp_path: Path) -> None:
    for folder, texts in {"x": ("ab", "c"), "y": ("a", "bc")}.items():
        (tmp_path / folder).mkdir()
        for name, text in zip("12", texts, strict=True):
            (tmp_path / folder / f"{name}.txt").write_text(text)
    assert open_corpus(str(tmp_path / "x")).fingerprint != open_corpus(str(tmp_path / "y")).fingerprint


def test_some_documents_are_held_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(map(str, range(1, 251))))
    corpus = open_corpus(str(tmp_path))
    assert isinstance(corpus, FileCorpus)
    assert list(corpus.documents("held-out")) == ["100", "200"]
    assert list(corpus.documents("training")) == [str(n) for n in range(1, 251) if n not in (100, 200)]


def test_shuffled_text_has_the_same_tokens_in_another_order(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    tokenizer = train_tokenizer(toy_documents(), 400)
    shuffled = list(documents_of(f"shuffled:{path}"))
    assert shuffled == list(documents_of(f"shuffled:{path}"))
    assert shuffled != toy_documents()
    for before, after in zip(toy_documents(), shuffled, strict=True):
        first, second = (tokenizer.encode(text).ids for text in (before, after))
        assert Counter(first) == Counter(second)
        assert Counter(before.split()) == Counter(after.split())


def test_words_stay_in_their_block() -> None:
    words = [f"w{i}" for i in range(21)]
    shuffled = shuffle_words(" ".join(words), np.random.default_rng(0), block=10).split()
    assert shuffled[0] == "w0"
    assert set(shuffled[1:11]) == set(words[1:11])
    assert shuffled[1:11] != words[1:11]
    assert shuffle_words("", np.random.default_rng(0)) == ""


def test_a_shuffled_corpus_is_another_corpus(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    plain, shuffled = open_corpus(str(path)), open_corpus(f"shuffled:{path}")
    assert plain.fingerprint != shuffled.fingerprint
    assert shuffled.name == f"shuffled:{plain.name}"
    assert "has no words" in refused("shuffled:synthetic:iid")
