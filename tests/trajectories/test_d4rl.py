"""`d4rl.py`: the layout with and without timeouts, where files are found, downloads from a local server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wikirl.errors import DatasetError
from wikirl.trajectories import d4rl
from wikirl.trajectories.dataset import build_dataset

from .making import make_fields, marked, same_data
from .serving import free_port, serving


def _write(path: Path, arrays: dict[str, Any], **attributes: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=values)
        file.attrs.update(attributes)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    return tmp_path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on loopback in the place of D4RL's server."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as site:
        monkeypatch.setattr(d4rl, "URL", f"{site.url}/{{file}}")
        yield folder


def test_with_timeouts(tmp_path: Path) -> None:
    fields = make_fields((3, 5, 2))
    path = _write(tmp_path / "set.hdf5", {**marked(fields), "next_observations": np.zeros((10, 2))})
    dataset = d4rl.read_hdf5(path, name="set", environment="Hopper-v2", max_episode_steps=2)
    assert same_data(dataset, build_dataset("set", **fields)), "the step limit is not used"
    assert (dataset.environment, dataset.details["dropped_steps"]) == ("Hopper-v2", 0)


def test_without_timeouts_the_step_limit_ends_episodes(tmp_path: Path) -> None:
    arrays = marked(make_fields((3, 5, 2)))
    del arrays["timeouts"]
    arrays["terminals"] = np.isin(np.arange(10), [2]).astype(np.float32)  # D4RL has floats in places
    dataset = d4rl.read_hdf5(_write(tmp_path / "set.hdf5", arrays), name="set", max_episode_steps=4)
    assert dataset.starts.tolist() == [0, 3, 7]
    assert dataset.terminated.tolist() == [True, False]
    assert dataset.details["dropped_steps"] == 3


def test_columns_are_flattened_as_d4rl_does(tmp_path: Path) -> None:
    fields = make_fields()
    arrays = marked(fields)
    for key in ("rewards", "terminals", "timeouts"):
        arrays[key] = arrays[key][:, None]
    dataset = d4rl.read_hdf5(_write(tmp_path / "set.hdf5", arrays), name="set")
    assert same_data(dataset, build_dataset("set", **fields))


def test_the_environment_may_come_from_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "set.hdf5", marked(make_fields()), environment="Hopper-v5")
    assert d4rl.read_hdf5(path, name="set").environment == "Hopper-v5"
    assert d4rl.read_hdf5(path, name="set", environment="Hopper-v2").environment == "Hopper-v2"
    assert d4rl.describe(path) == (10, "Hopper-v5: ")


def test_nothing_left(tmp_path: Path) -> None:
    arrays = {**marked(make_fields()), "terminals": np.zeros(10, bool), "timeouts": np.zeros(10, bool)}
    with pytest.raises(DatasetError, match="set: no episode ends within the 10 steps"):
        d4rl.read_hdf5(_write(tmp_path / "set.hdf5", arrays), name="set")


def test_missing_keys_are_named(tmp_path: Path) -> None:
    arrays = marked(make_fields())
    del arrays["actions"]
    path = _write(tmp_path / "set.hdf5", {**arrays, "actions/nested": np.zeros(3)})
    with pytest.raises(DatasetError, match="set: actions missing; found observations, rewards, terminals, timeouts"):
        d4rl.read_hdf5(path, name="set")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_files_give_one_line(tmp_path: Path, share: float) -> None:
    path = _write(tmp_path / "set.hdf5", marked(make_fields((400, 400))))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=r"set\.hdf5: not a readable HDF5 file") as caught:
        d4rl.read_hdf5(path, name="set")
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        d4rl.describe(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        d4rl.read_hdf5(tmp_path / "nowhere.hdf5", name="set")


def test_files_on_disk_are_found_ours_first(home: Path) -> None:
    theirs = _write(home / "d4rl" / "hopper_medium_replay-v2.hdf5", marked(make_fields()))
    assert d4rl.find_or_download("hopper-medium-replay-v2") == theirs
    ours = _write(home / "cache" / "d4rl" / "hopper_medium_replay-v2.hdf5", marked(make_fields()))
    assert d4rl.find_or_download("hopper-medium-replay-v2") == ours
    assert d4rl.names_on_disk() == ["hopper-medium-replay-v2"]


def test_downloads_arrive_whole(home: Path, server: Path) -> None:
    source = _write(server / "walker2d_expert-v2.hdf5", marked(make_fields()))
    path = d4rl.find_or_download("walker2d-expert-v2", cache=home / "other")
    assert path == home / "other" / "d4rl" / "walker2d_expert-v2.hdf5"
    assert path.read_bytes() == source.read_bytes()


def test_mirrors(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _write(home / "mirror" / "ant_random-v2.hdf5", marked(make_fields()))
    with serving(home / "mirror") as site:
        monkeypatch.setenv("WIKIRL_D4RL_MIRROR", site.url + "/")
        path = d4rl.find_or_download("ant-random-v2")
        assert path == home / "cache" / "d4rl" / source.name
        assert (path.read_bytes(), site.requests) == (source.read_bytes(), ["/ant_random-v2.hdf5"])
    monkeypatch.setenv("WIKIRL_D4RL_MIRROR", "http://127.0.0.1:9")
    path = d4rl.find_or_download("ant-random-v2", cache=home / "other", mirror=str(home / "mirror"))
    assert path.read_bytes() == source.read_bytes()
    with pytest.raises(DatasetError, match=r"a mirror of D4RL is a folder, http://… or https://…; found ftp://x"):
        d4rl.find_or_download("ant-expert-v2", mirror="ftp://x")


@pytest.mark.parametrize("broken", ["no file", "no HDF5", "no server"])
def test_failed_downloads_leave_nothing_and_say_what_to_do(
    home: Path, server: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "no HDF5":
        (server / "ant_random-v2.hdf5").write_text("<html>moved</html>")
    if broken == "no server":
        monkeypatch.setattr(d4rl, "URL", f"http://127.0.0.1:{free_port()}/{{file}}")
    advice = r"name a mirror in WIKIRL_D4RL_MIRROR, or put the file at .*cache/d4rl/ant_random-v2\.hdf5"
    with pytest.raises(DatasetError, match=f"d4rl:ant-random-v2 is not on this machine: .*; {advice}") as caught:
        d4rl.find_or_download("ant-random-v2")
    assert "\n" not in str(caught.value)
    assert list((home / "cache" / "d4rl").iterdir()) == []


@pytest.mark.parametrize("name", ["hopper-medium", "hopper-medium-v1", "hoper-medium-v2", "../../etc-medium-v2", ""])
def test_unknown_names(home: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="is unknown; there are hopper"):
        d4rl.find_or_download(name)


def test_environments() -> None:
    assert d4rl.environment_of("halfcheetah-medium-expert-v2") == "HalfCheetah-v2"
