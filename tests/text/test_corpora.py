import gzip
import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import toy_documents, write_corpus
from wikirl.errors import CorpusError, MissingExtraError
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


def write_files(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def file_corpus(spec: Path | str) -> FileCorpus:
    corpus = open_corpus(str(spec))
    assert isinstance(corpus, FileCorpus)
    return corpus


@pytest.mark.parametrize(
    "names", ["wiki_train_tokens wiki_valid_tokens wiki_test_tokens", "train_txt dev_jsonl test_md"]
)
def test_train_validation_and_test_files_are_kept_apart(tmp_path: Path, names: str) -> None:
    train, validation, test = names.split()
    write_files(tmp_path, **{train: "one\n\ntwo", validation: "{}", test: "never read"})
    (tmp_path / validation.replace("_", ".")).write_text('{"text": "three"}' if "jsonl" in validation else "three")
    corpus = file_corpus(tmp_path)
    assert list(corpus.documents()) == list(corpus.documents("training")) == ["one", "two"]
    assert list(corpus.documents("held-out")) == ["three"]
    assert corpus.held_out_name == "its validation files"
    assert corpus.num_bytes("held-out") == (tmp_path / validation.replace("_", ".")).stat().st_size
    before = corpus.fingerprint
    (tmp_path / test.replace("_", ".")).write_text("changed")
    assert file_corpus(tmp_path).fingerprint == before
    (tmp_path / validation.replace("_", ".")).write_text("changed")
    assert file_corpus(tmp_path).fingerprint != before


def test_splits_in_folders_and_shards(tmp_path: Path) -> None:
    write_files(tmp_path / "train", **{"00000-of-00002_txt": "one", "00001-of-00002_txt": "two"})
    write_files(tmp_path / "validation", **{"00000-of-00001_txt": "three"})
    assert list(file_corpus(tmp_path).documents()) == ["one", "two"]
    assert list(file_corpus(tmp_path).documents("held-out")) == ["three"]


def test_without_validation_files_some_of_training_are_held_out(tmp_path: Path) -> None:
    write_files(tmp_path, train_txt="\n\n".join(map(str, range(1, 201))), test_txt="never read")
    assert list(file_corpus(tmp_path).documents("held-out")) == ["100", "200"]
    assert file_corpus(tmp_path).held_out_name == "every 100th document"


def test_files_without_a_split_in_their_names_are_one_text(tmp_path: Path) -> None:
    write_files(tmp_path, test_txt="one", training_txt="two", notes_txt="three")
    assert set(file_corpus(tmp_path).documents()) == {"one", "two", "three"}
    (tmp_path / "notes.txt").unlink()
    (tmp_path / "training.txt").rename(tmp_path / "train-test.txt")  # which of the two?
    assert set(file_corpus(tmp_path).documents()) == {"one", "two"}


def test_a_field_of_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "one", "text": "other"}')
    assert list(documents_of(f"{tmp_path}#body")) == list(documents_of(f"{tmp_path / 'a.jsonl'}#body")) == ["one"]
    assert file_corpus(f"{tmp_path}#body").fingerprint != file_corpus(tmp_path).fingerprint
    (tmp_path / "a#b.txt").write_text("a file's own name")
    assert list(documents_of(str(tmp_path / "a#b.txt"))) == ["a file's own name"]


def test_notices_beside_the_text_are_its_attribution_and_no_text(tmp_path: Path) -> None:
    write_files(tmp_path, a_txt="text")
    assert file_corpus(tmp_path).attribution == file_corpus(tmp_path / "a.txt").attribution == ""
    write_files(tmp_path, LICENSE_txt="CC BY-SA 3.0\n", NOTICE="by many")
    for corpus in (file_corpus(tmp_path), file_corpus(tmp_path / "a.txt")):
        assert list(corpus.documents()) == ["text"]
        assert "LICENSE.txt, found beside it:\n\nCC BY-SA 3.0" in corpus.attribution
        assert "by many" in corpus.attribution
    shuffled = open_corpus(f"shuffled:{tmp_path}")
    assert shuffled.attribution == file_corpus(tmp_path).attribution
    (tmp_path / "NOTICE").write_bytes(b"na\xefve " * 3000)
    assert len(file_corpus(tmp_path).attribution) < 5000
    assert file_corpus(tmp_path).attribution.endswith("…")


def test_sizes_for_the_progress_bar(tmp_path: Path) -> None:
    write_files(tmp_path, a_txt="1234", b_txt="12345")
    assert file_corpus(tmp_path).num_bytes() == file_corpus(tmp_path).num_bytes("training") == 9
    assert file_corpus(tmp_path).num_bytes("held-out") is None
    (tmp_path / "c.txt.xz").write_bytes(b"")
    assert file_corpus(tmp_path).num_bytes() is None


@pytest.mark.parametrize("spec", ["hf:nobody/nothing", "wikitext-103", "wikipedia"])
def test_the_hub_needs_an_extra(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("datasets"):
        pytest.skip("datasets is installed")
    with pytest.raises(MissingExtraError, match="pip install datasets"):
        open_corpus(spec)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wikipedia").write_text("a file of that name goes first")
    assert file_corpus("wikipedia").name == "wikipedia"


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
