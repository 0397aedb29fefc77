"""`storage.py`: what is saved comes back, mapped; damage is named; several writers do not disturb."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import DatasetError
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.storage import ARRAYS, open_dataset, save_dataset, write_folder

from .making import make_dataset, make_fields, same_data


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], discrete: bool) -> None:
    folder = tmp_path_factory.mktemp("store") / "nested" / "set"
    saved = build_dataset(
        "toy",
        **make_fields(lengths, discrete=discrete),
        environment="Toy-v0",
        details={"attribution": {"by": ["us"]}},
    )
    save_dataset(saved, folder)
    opened = open_dataset(folder)
    assert same_data(saved, opened)
    for field in ("name", "environment", "details", "observation_space", "action_space", "fingerprint"):
        assert getattr(opened, field) == getattr(saved, field)


def test_large_arrays_are_read_only_maps_and_nothing_else_is_left(tmp_path: Path) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    opened = open_dataset(tmp_path / "set")
    assert isinstance(opened.observations, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.observations[0] = 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert {path.name for path in (tmp_path / "set").iterdir()} == {
        "dataset.json",
        *(f"{name}.npy" for name in ARRAYS),
    }


def test_opening_does_not_read_the_arrays_for_the_fingerprint(tmp_path: Path) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    header = tmp_path / "set" / "dataset.json"
    value = json.loads(header.read_text())
    header.write_text(json.dumps({**value, "fingerprint": "remembered"}))
    assert open_dataset(tmp_path / "set").fingerprint == "remembered"


def test_a_used_folder_is_not_overwritten_but_an_empty_one_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    save_dataset(make_dataset(), tmp_path / "set")
    with pytest.raises(DatasetError, match=r"set exists already: choose another folder"):
        save_dataset(make_dataset(), tmp_path / "set")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match=r"file exists already"):
        save_dataset(make_dataset(), tmp_path / "file")


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot write the dataset"):
        save_dataset(make_dataset(), tmp_path / "file" / "set")


def test_one_of_many_writers_wins_and_all_read_the_same(tmp_path: Path) -> None:
    dataset = make_dataset((50, 50))
    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(lambda _: write_folder(lambda _: dataset, tmp_path / "set"), range(24)))
    assert sum(wins) == 1
    assert same_data(open_dataset(tmp_path / "set"), dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("field", ARRAYS)
def test_damaged_arrays_are_named(tmp_path: Path, field: str) -> None:
    save_dataset(make_dataset((50, 50)), tmp_path / "set")
    path = tmp_path / "set" / f"{field}.npy"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"not an array"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=rf"{field}\.npy is missing or damaged"):
            open_dataset(tmp_path / "set")
    np.save(path, np.zeros(3, dtype=np.float16))
    with pytest.raises(DatasetError, match=rf"{field}\.npy is damaged: dataset.json says"):
        open_dataset(tmp_path / "set")
    path.unlink()
    with pytest.raises(DatasetError, match=rf"{field}\.npy is missing"):
        open_dataset(tmp_path / "set")


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    np.save(tmp_path / "set" / "rewards.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"rewards\.npy is missing or damaged"):
        open_dataset(tmp_path / "set")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 1}', "does not list its arrays"),
        ('{"format": 99, "arrays": {}}', "has format 99, this version of wikirl reads 1"),
    ],
)
def test_damaged_headers_are_reported(tmp_path: Path, content: str, message: str) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    (tmp_path / "set" / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / "set")


@pytest.mark.parametrize("key", ["name", "environment", "observation_space", "fingerprint", "details"])
def test_missing_header_fields_are_reported(tmp_path: Path, key: str) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    header = tmp_path / "set" / "dataset.json"
    value = json.loads(header.read_text())
    del value[key]
    header.write_text(json.dumps(value))
    with pytest.raises(DatasetError, match="is damaged") as caught:
        open_dataset(tmp_path / "set")
    assert "\n" not in str(caught.value)


def test_arrays_that_disagree_are_reported(tmp_path: Path) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    header = tmp_path / "set" / "dataset.json"
    value = json.loads(header.read_text())
    np.save(tmp_path / "set" / "actions.npy", np.zeros((9, 3), dtype=np.float32))
    value["arrays"]["actions"] = ["<f4", [9, 3]]
    header.write_text(json.dumps(value))
    with pytest.raises(DatasetError, match="do not fit together"):
        open_dataset(tmp_path / "set")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no dataset\.json"):
        open_dataset(tmp_path / "nowhere")
