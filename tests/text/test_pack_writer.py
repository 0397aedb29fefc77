"""Packs that were killed, damaged, or made by two processes at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.text.helpers import files_of, killed_half_way, many_documents, packer
from wikirl.errors import CorpusError
from wikirl.text.packing import open_packed, pack
from wikirl.text.tokenizers import byte_tokenizer, tokenizer_hash, train_tokenizer

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack made in one go."""
    folder = tmp_path_factory.mktemp("whole") / "packed"
    pack(many_documents(), TOKENIZER, folder)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of one that was killed."""
    return killed_half_way(tmp_path_factory.mktemp("killed") / "packed")


@pytest.fixture
def partial(killed: Path, tmp_path: Path) -> Path:
    """A copy of it, to be gone on with or damaged."""
    copy = tmp_path / killed.name
    shutil.copytree(killed, copy)
    return copy


def recorded(partial: Path) -> int:
    documents: int = json.loads((partial / "progress.json").read_text())["num_documents"]
    return documents


def test_a_killed_pack_ends_on_the_same_bits(partial: Path, whole: Path) -> None:
    assert 10 <= recorded(partial) < len(many_documents())
    packed = pack(many_documents(), TOKENIZER, partial.with_name("packed"))
    assert files_of(partial.with_name("packed")) == files_of(whole)
    assert packed.num_documents == len(many_documents())
    assert [path.name for path in partial.parent.iterdir()] == ["packed"]


def test_what_was_done_is_not_done_again(partial: Path, whole: Path) -> None:
    done = json.loads((partial / "progress.json").read_text())
    header = 128  # bytes
    with (partial / "ids.npy").open("r+b") as file:  # marks what a second encoding would wipe out
        file.seek(header)
        file.write(np.full(done["num_tokens"], 77, np.uint16).tobytes())
    ids = pack(many_documents(), TOKENIZER, partial.with_name("packed")).ids
    assert (ids[: done["num_tokens"]] == 77).all()
    assert np.array_equal(ids[done["num_tokens"] :], open_packed(whole).ids[done["num_tokens"] :])


def test_what_was_written_but_not_recorded_is_cut_off(partial: Path, whole: Path) -> None:
    for name in ("ids.npy", "document_starts.npy"):
        with (partial / name).open("ab") as file:
            file.write(b"\xff" * 1001)
    pack(many_documents(), TOKENIZER, partial.with_name("packed"))
    assert files_of(partial.with_name("packed")) == files_of(whole)


def test_killed_before_the_last_move(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / ".packed.partial")
    pack(many_documents(), TOKENIZER, tmp_path / "packed")
    assert files_of(tmp_path / "packed") == files_of(whole)


@pytest.mark.parametrize("damage", ["cut ids", "no starts", "no JSON", "other keys", "another tokenizer"])
def test_a_damaged_rest_is_made_anew(
    partial: Path, whole: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = partial / "progress.json"
    match damage:
        case "cut ids":
            (partial / "ids.npy").write_bytes((partial / "ids.npy").read_bytes()[:1000])
        case "no starts":
            (partial / "document_starts.npy").unlink()
        case "no JSON":
            progress.write_bytes(b"\xff{")
        case "other keys":
            progress.write_text('{"format": 1}')
        case "another tokenizer":
            progress.write_text(json.dumps(json.loads(progress.read_text()) | {"tokenizer": "another"}))
    pack(many_documents(), TOKENIZER, partial.with_name("packed"))
    assert files_of(partial.with_name("packed")) == files_of(whole)
    assert "is damaged and made anew" in capsys.readouterr().err


def test_killed_before_anything_was_recorded(whole: Path, tmp_path: Path) -> None:
    (tmp_path / ".packed.partial").mkdir()
    (tmp_path / ".packed.partial" / "ids.npy").write_bytes(b"some")
    pack(many_documents(), TOKENIZER, tmp_path / "packed")
    assert files_of(tmp_path / "packed") == files_of(whole)


def test_two_processes_at_once(tmp_path: Path, whole: Path) -> None:
    processes = [packer(tmp_path / "packed", 0.02) for _ in range(2)]
    complaints = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], complaints
    assert files_of(tmp_path / "packed") == files_of(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def refused(folder: Path, tokenizer: str | None = None) -> str:
    with pytest.raises(CorpusError) as error:
        open_packed(folder, tokenizer)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert "delete it to pack again" in str(error.value)
    return str(error.value)


def test_ids_of_another_tokenizer(whole: Path) -> None:
    other = tokenizer_hash(train_tokenizer(["some text"], 300))
    assert other in refused(whole, other)
    assert open_packed(whole, tokenizer_hash(TOKENIZER)).num_documents == len(many_documents())


@pytest.mark.parametrize("name", ["ids.npy", "document_starts.npy", "pack.json"])
@pytest.mark.parametrize("keep", [0, 100, -9, None])
def test_a_damaged_pack(whole: Path, tmp_path: Path, name: str, keep: int | None) -> None:
    shutil.copytree(whole, folder := tmp_path / "packed")
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if keep is not None:
        (folder / name).write_bytes(content[:keep])
    refused(folder)


def test_a_pack_whose_parts_do_not_fit(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, folder := tmp_path / "packed")
    np.save(folder / "ids.npy", np.zeros(7, np.uint16))
    assert "7 ids" in refused(folder)
