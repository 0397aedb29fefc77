"""`sources.py` and `caching.py`: ids, conversion once, and the data that ships."""

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from wikirl.errors import DatasetError
from wikirl.trajectories import caching
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.sources import ASSETS, DatasetEntry, download_dataset, list_datasets, load_trajectories
from wikirl.trajectories.storage import save_dataset

from .making import make_dataset, make_fields, marked, same_data


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


def _npz(path: Path, seed: int = 0) -> Path:
    np.savez(path, **marked(make_fields(seed=seed)))
    return path


def _copies(cache: Path) -> list[Path]:
    return sorted(path.parent for path in (cache / "trajectories").glob("*/dataset.json"))


def _contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_builtin_hopper_medium_replay_has_its_known_numbers(cache: Path) -> None:
    dataset = load_trajectories("builtin:hopper-medium-replay")
    assert (dataset.name, dataset.environment) == ("builtin:hopper-medium-replay", "Hopper-v5")
    assert (dataset.num_steps, dataset.num_episodes) == (120_000, 1000)
    assert dataset.statistics.return_mean == pytest.approx(305, abs=1)
    assert dataset.statistics.return_std == pytest.approx(415, abs=1)
    assert dataset.statistics.return_max == pytest.approx(2970, abs=1)
    assert (dataset.observations.shape, dataset.actions.shape) == ((120_000, 11), (120_000, 3))
    assert dataset.details["dropped_steps"] == 0
    assert int((~dataset.terminated).sum()) == 10


@pytest.mark.parametrize(
    ("name", "num_steps", "num_episodes", "return_mean", "environment"),
    [
        ("reacher2d-medium-replay", 32_000, 320, 4.247, "wikirl/Reacher2d-v0"),
        ("reacher2d-medium", 30_000, 300, 29.66, "wikirl/Reacher2d-v0"),
        ("reacher2d-expert", 20_000, 200, 76.995, "wikirl/Reacher2d-v0"),
        ("pointmaze-medium", 60_000, 200, 56.405, "wikirl/PointMaze-v0"),
        ("pointmaze-expert", 45_000, 150, 186.793, "wikirl/PointMaze-v0"),
        ("cartpole-medium-replay", 12_000, 185, 64.865, "CartPole-v1"),
    ],
)
def test_builtin_families_have_their_known_numbers(
    cache: Path, name: str, num_steps: int, num_episodes: int, return_mean: float, environment: str
) -> None:
    dataset = load_trajectories(f"builtin:{name}")
    assert (dataset.num_steps, dataset.num_episodes, dataset.environment) == (num_steps, num_episodes, environment)
    assert dataset.statistics.return_mean == pytest.approx(return_mean, abs=1e-3)
    assert dataset.details["reference"]["name"] == f"{name.split('-')[0]} family"


def test_builtin_hopper_medium_has_its_known_numbers(cache: Path) -> None:
    dataset = load_trajectories("builtin:hopper-medium")
    assert (dataset.environment, dataset.num_steps, dataset.num_episodes) == ("Hopper-v5", 79_366, 184)
    assert dataset.statistics.return_mean == pytest.approx(1149, abs=1)
    assert (dataset.action_space.low, dataset.action_space.high) == (-1.0, 1.0)


def test_the_second_load_only_maps_the_copy(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    first = load_trajectories(f"file:{path}")
    second = load_trajectories(f"file:{path}")
    assert same_data(first, second)
    assert isinstance(second.observations, np.memmap)
    assert second.fingerprint == build_dataset("toy", **make_fields()).fingerprint


def test_a_file_that_has_not_changed_is_not_read(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    load_trajectories(f"file:{path}")
    (memory,) = (cache / "trajectories" / "hashes").iterdir()
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "sha256": "remembered"}))
    assert caching.content_hash(path, cache) == "remembered"


def test_nothing_is_written_or_hashed_twice(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    load_trajectories(str(path))
    before = _contents(cache)
    os.utime(path, ns=(0, 0))
    load_trajectories(str(path))  # times changed: hashed again, but not converted again
    assert [folder for folder in before if "/hashes" not in folder] == [
        folder for folder in _contents(cache) if "/hashes" not in folder
    ]
    middle = _contents(cache)
    load_trajectories(str(path))
    assert _contents(cache) == middle


def test_a_changed_file_gets_a_new_copy(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz", seed=0)
    first = load_trajectories(f"file:{path}")
    _npz(path, seed=1)
    second = load_trajectories(f"file:{path}")
    assert first.fingerprint != second.fingerprint
    assert len(_copies(cache)) == 2
    assert [entry.id for entry in list_datasets()].count(f"file:{path}") == 1


def test_a_new_reader_version_or_other_option_makes_a_new_copy(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _npz(tmp_path / "logs.npz")
    load_trajectories(f"file:{path}")
    monkeypatch.setattr(caching, "READER_VERSION", caching.READER_VERSION + 1)
    load_trajectories(f"file:{path}")
    assert len(_copies(cache)) == 2
    caching.converted_once([path], {"other": 1}, lambda _: make_dataset(), cache)
    assert len(_copies(cache)) == 3


def test_a_source_that_changes_while_it_is_read_is_not_kept(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")

    def read(_: Path) -> TrajectoryDataset:
        _npz(path, seed=5)
        return make_dataset()

    with pytest.raises(DatasetError, match="changed while it was read"):
        caching.converted_once([path], {}, read, cache)
    assert _copies(cache) == []


def _load(path: str, cache: str) -> str:
    return load_trajectories(path, cache=Path(cache)).fingerprint


def test_several_processes_convert_at_once(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        prints = pool.starmap(_load, [(str(path), str(cache))] * 6)
    assert len(set(prints)) == 1
    assert len(_copies(cache)) == 1
    assert not [entry for entry in (cache / "trajectories").iterdir() if entry.name.startswith(".")]


def test_every_kind_of_file_and_a_bare_path(cache: Path, tmp_path: Path) -> None:
    expected = build_dataset("toy", **make_fields())
    with h5py.File(tmp_path / "logs.h5", "w") as file:
        for key, values in marked(make_fields()).items():
            file[key] = values
    _npz(tmp_path / "logs.NPZ".lower())
    save_dataset(expected, tmp_path / "folder")
    for name in ("logs.h5", "logs.npz", "folder"):
        for dataset_id in (f"file:{tmp_path / name}", str(tmp_path / name)):
            assert same_data(load_trajectories(dataset_id), expected)
    assert len(load_trajectories(str(tmp_path / "logs.npz")).details["sha256"]) == 64


def test_an_explicit_cache_is_the_only_one_used(cache: Path, tmp_path: Path) -> None:
    load_trajectories(str(_npz(tmp_path / "logs.npz")), cache=tmp_path / "elsewhere")
    assert _copies(tmp_path / "elsewhere")
    assert not cache.exists()


def test_d4rl_files_on_disk_carry_their_old_environment(cache: Path) -> None:
    (cache / "d4rl").mkdir(parents=True)
    with h5py.File(cache / "d4rl" / "hopper_medium-v2.hdf5", "w") as file:
        for key, values in marked(make_fields()).items():
            file[key] = values
    dataset = load_trajectories("d4rl:hopper-medium-v2")
    assert (dataset.name, dataset.environment) == ("d4rl:hopper-medium-v2", "Hopper-v2")


@pytest.mark.parametrize(
    ("dataset_id", "message"),
    [
        (
            "hopper-medium-replay",
            r"there is no dataset 'hopper-medium-replay'; did you mean builtin:hopper-medium-replay",
        ),
        ("builtin:hoper-medium", r"did you mean builtin:hopper-medium "),
        ("bultin:hopper-medium", r"did you mean builtin:hopper-medium "),
        (
            "",
            "builtin:reacher2d-medium-replay, minari:ID, d4rl:NAME and file:PATH",
        ),
        ("builtin", "known are builtin:cartpole-medium-replay, "),
        ("builtin:../../../etc", "there is no dataset"),
        ("d4rl:hopper-medium", "d4rl:hopper-medium is unknown"),
        ("minari:hopper", "is no Minari id"),
        ("minari:toy-v0", r"is not in .*\(there: none\) and HF_HUB_OFFLINE forbids"),
    ],
)
def test_unknown_ids_say_what_exists(dataset_id: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load_trajectories(dataset_id)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_readable(tmp_path: Path) -> None:
    _npz(tmp_path / "logs.npz")
    with pytest.raises(DatasetError, match=r"log\.npz does not exist; close to it: logs\.npz"):
        load_trajectories(f"file:{tmp_path / 'log.npz'}")
    (tmp_path / "logs.xls").write_text("a,b")
    with pytest.raises(DatasetError, match=r"has suffix '\.xls'; read are \.hdf5"):
        load_trajectories(f"file:{tmp_path / 'logs.xls'}")
    for name in ("logs.csv", "logs.jsonl.gz", "logs.parquet"):
        (tmp_path / name).write_text("a,b")
        with pytest.raises(DatasetError, match=r"is a table, .*: wikirl data import .* --to file:DIR"):
            load_trajectories(f"file:{tmp_path / name}")
    with pytest.raises(DatasetError, match=r"is a folder without dataset\.json"):
        load_trajectories(str(tmp_path))
    with pytest.raises(DatasetError, match="does not exist"):
        load_trajectories(f"file:{tmp_path / 'no' / 'folder.npz'}")


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    (tmp_path / "blocked").write_text("a file in the way")
    with pytest.raises(DatasetError, match=r"cannot be written .* set WIKIRL_CACHE"):
        load_trajectories(str(path), cache=tmp_path / "blocked")


def test_a_damaged_memory_of_hashes_is_made_again(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    first = load_trajectories(str(path))
    for memory in (cache / "trajectories" / "hashes").iterdir():
        memory.write_text("{")
    assert same_data(load_trajectories(str(path)), first)
    assert len(_copies(cache)) == 1


def test_list_shows_shipped_found_and_converted(cache: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "logs.npz")
    load_trajectories(str(path))
    load_trajectories("builtin:hopper-medium")
    metadata = tmp_path / "minari" / "toy" / "box-v0" / "data" / "metadata.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(json.dumps({"total_steps": 7}))
    (cache / "d4rl").mkdir()
    (cache / "d4rl" / "ant_medium-v2.hdf5").touch()
    entries = {entry.id: entry for entry in list_datasets()}
    shipped = [f"builtin:{path.stem}" for path in sorted(ASSETS.glob("*.hdf5"), key=lambda path: path.stem)]
    assert len(shipped) == 8
    assert list(entries) == [
        *shipped,
        "minari:toy/box-v0",
        "d4rl:ant-medium-v2",
        f"file:{path}",
    ]
    assert entries["builtin:hopper-medium-replay"].num_steps == 120_000
    assert entries["minari:toy/box-v0"].num_steps == 7
    assert entries[f"file:{path}"] == DatasetEntry(f"file:{path}", 10, "own file, converted")
    path.unlink()
    assert f"file:{path}" not in [entry.id for entry in list_datasets()]


def test_downloads_are_compared_with_what_came(tmp_path: Path, cache: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with h5py.File(mirror / "hopper_medium-v2.hdf5", "w") as file:
        for key, values in marked(make_fields()).items():
            file.create_dataset(key, data=values)
    expected = hashlib.sha256((mirror / "hopper_medium-v2.hdf5").read_bytes()).hexdigest()
    path = cache / "d4rl" / "hopper_medium-v2.hdf5"
    for _ in range(2):
        assert download_dataset("d4rl:hopper-medium-v2", mirror=str(mirror)) == {path: expected}
    assert load_trajectories("d4rl:hopper-medium-v2").num_steps == 10
    path.write_bytes(path.read_bytes() + b"rot")
    with pytest.raises(DatasetError, match=r"another SHA-256 than hopper_medium-v2\.hdf5\.sha256 recorded"):
        download_dataset("d4rl:hopper-medium-v2")
    with pytest.raises(
        DatasetError, match="only minari:ID and d4rl:NAME are downloaded; found 'builtin:hopper-medium'"
    ):
        download_dataset("builtin:hopper-medium")
