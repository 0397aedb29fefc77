"""Through `datasets` itself, on folders laid out like datasets of the hub."""

import json
from pathlib import Path

import pytest

from tests.helpers import toy_documents
from wikirl.errors import CorpusError
from wikirl.text.corpora import HubCorpus, TextCorpus, open_corpus
from wikirl.text.packing import pack_corpus
from wikirl.text.tokenizers import byte_tokenizer

pytestmark = pytest.mark.extras


def write_split(folder: Path, split: str, texts: list[str | None], field: str = "text") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("\n".join(json.dumps({field: text, "id": 1}) for text in texts))


def opened(spec: Path | str) -> HubCorpus:
    corpus = open_corpus(f"hf:{spec}")
    assert isinstance(corpus, HubCorpus)
    assert isinstance(corpus, TextCorpus)
    return corpus


def refused(spec: str) -> str:
    with pytest.raises(CorpusError) as error:
        list(open_corpus(spec).documents())  # type: ignore[union-attr]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_its_own_splits_are_kept_apart(tmp_path: Path) -> None:
    write_split(tmp_path, "train", ["one", " = two = \n", "", None, " \n"])
    write_split(tmp_path, "validation", ["three"])
    write_split(tmp_path, "test", ["never read"])
    corpus = opened(tmp_path)
    assert list(corpus.documents()) == list(corpus.documents("training")) == ["one", "= two ="]
    assert list(corpus.documents("held-out")) == ["three"]
    assert corpus.held_out_name == "its validation split"
    assert corpus.name == f"hf:{tmp_path}"


def test_without_a_validation_split_every_100th_is_held_out(tmp_path: Path) -> None:
    write_split(tmp_path, "train", [str(n) for n in range(1, 251)])
    corpus = opened(tmp_path)
    assert list(corpus.documents("held-out")) == ["100", "200"]
    assert list(corpus.documents("training")) == [str(n) for n in range(1, 251) if n not in (100, 200)]
    assert corpus.held_out_name == "every 100th document"
    assert corpus.num_bytes("held-out") is None


def test_parquet_in_configurations(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    for name in ("en", "de"):
        (tmp_path / name).mkdir()
        for split in ("train", "validation"):
            parquet.write_table(arrow.table({"body": [f"{name} {split}"]}), tmp_path / name / f"{split}-0.parquet")
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n"
        f"  - split: validation\n    path: {name}/validation-*\n"
        for name in ("en", "de")
    )
    (tmp_path / "README.md").write_text(f"---\nlicense:\n- cc-by-sa-3.0\n- gfdl\nconfigs:\n{configs}---\n")
    corpus = opened(f"{tmp_path}:de#body")
    assert list(corpus.documents()) == ["de train"]
    assert list(corpus.documents("held-out")) == ["de validation"]
    assert corpus.name == f"hf:{tmp_path}:de#body"
    assert corpus.attribution == f"Dataset {tmp_path}, licence: cc-by-sa-3.0, gfdl."
    assert corpus.fingerprint != opened(f"{tmp_path}:en#body").fingerprint
    assert "en" in refused(f"hf:{tmp_path}")
    assert "'fr'" in refused(f"hf:{tmp_path}:fr")
    assert "row 1 of train of hf:" in refused(f"hf:{tmp_path}:de")


def test_nothing_known_of_the_licence(tmp_path: Path) -> None:
    write_split(tmp_path, "train", ["one"])
    assert opened(tmp_path).attribution == ""
    (tmp_path / "README.md").write_text("# A card without metadata\n")
    assert opened(tmp_path).attribution == ""


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    write_split(tmp_path, "train", ["one"])
    before = opened(tmp_path).fingerprint
    assert opened(tmp_path).fingerprint == before
    write_split(tmp_path, "validation", ["two"])
    assert opened(tmp_path).fingerprint != before


def test_splits_of_other_names(tmp_path: Path) -> None:
    write_split(tmp_path, "test", ["all there is"])
    assert list(opened(tmp_path).documents()) == ["all there is"]
    write_split(tmp_path, "validation", ["more"])
    assert "expected a split named train" in refused(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    "spec", ["hf:nobody/nothing", "wikitext-103", "wikipedia", "hf:", "hf:/nowhere/at/all", "hf:../x"]
)
def test_no_network_is_one_line(spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(spec)
    assert "HF_HUB_OFFLINE" in message or spec == "hf:"


def test_known_notices_need_no_network() -> None:
    assert "CC BY-SA" in HubCorpus("Salesforce/wikitext").attribution
    assert "CC BY-SA" in HubCorpus("wikimedia/wikipedia").attribution


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": \n')
    assert str(tmp_path) in refused(f"hf:{tmp_path}")


def test_it_is_packed_like_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path / "cache"))
    write_split(tmp_path / "data", "train", list(toy_documents()))
    packed = pack_corpus(opened(tmp_path / "data"), "whole", byte_tokenizer())
    assert packed.num_documents == len(toy_documents())
    assert packed.num_bytes == packed.num_tokens == sum(len(text.encode()) + 1 for text in toy_documents())
