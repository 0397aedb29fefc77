"""`writing.py`, `minari_writing.py`: what is written is read back to the bit, by our readers and by minari."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikirl.errors import DatasetError, refusal_of_the_system
from wikirl.trajectories import writing
from wikirl.trajectories.d4rl import describe, read_hdf5
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.minari import local_ids, read_minari
from wikirl.trajectories.minari_writing import Attribution, write_minari
from wikirl.trajectories.writing import write_d4rl
from wikirl.types import RecordedEpisode, Space

from .making import make_fields, same_data

BOX = Space((2,), "float32", -np.inf, np.inf)
ACTIONS = Space((3,), "float32", -1.0, 1.0)
REFERENCE = {"name": "toy family", "minimum": -2.0, "maximum": 8.0, "source": "card.json"}


def episodes_of(fields: dict[str, Any]) -> list[RecordedEpisode]:
    """With one more observation each, which nothing that reads may take for a step's."""
    episodes = []
    for number, (start, stop) in enumerate(zip(fields["starts"][:-1], fields["starts"][1:], strict=True)):
        observations = fields["observations"][start:stop]
        episodes.append(
            RecordedEpisode(
                np.concatenate([observations, 0 * observations[-1:] + 7]),
                fields["actions"][start:stop],
                fields["rewards"][start:stop],
                bool(fields["terminated"][number]),
            )
        )
    return episodes


def _read_minari(folder: Path) -> TrajectoryDataset:
    return read_minari(folder / "data" / "metadata.json", folder / "data" / "main_data.hdf5", name="toy")


@pytest.mark.parametrize("block", [1, 30, 1 << 23])
def test_d4rl_is_read_back_to_the_bit(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_BLOCK", block)
    fields = make_fields((3, 5, 2))
    path = tmp_path / "deep" / "toy.hdf5"
    write_d4rl(
        iter(episodes_of(fields)),
        path,
        observation_space=BOX,
        action_space=ACTIONS,
        environment="Hopper-v5",
        note="toys",
        reference=REFERENCE,
        attributes={"seed": 3},
        next_observations=True,
    )
    dataset = read_hdf5(path, name="toy")
    assert same_data(dataset, build_dataset("toy", **fields))
    assert (dataset.observation_space, dataset.action_space) == (BOX, ACTIONS)
    assert (dataset.environment, dataset.details["reference"]) == ("Hopper-v5", REFERENCE)
    assert describe(path) == (10, "Hopper-v5: toys")
    with h5py.File(path) as file:
        assert file.attrs["seed"] == 3
        assert file["observations"].compression == "gzip"
        assert file["next_observations"][:, 0].tolist() == [1, 2, 7, 4, 5, 6, 7, 7, 9, 7]
        assert file["timeouts"][()].nonzero()[0].tolist() == [7]
    assert [entry.name for entry in path.parent.iterdir()] == ["toy.hdf5"]


def test_minari_is_read_back_to_the_bit_by_us_and_by_minari(tmp_path: Path) -> None:
    fields = make_fields([2] * 12)
    attribution = Attribution(author="us", algorithm_name="by hand", reference=REFERENCE, extra={"seed": 3})
    folder = write_minari(
        iter(episodes_of(fields)),
        "toy/box/random-v0",
        observation_space=BOX,
        action_space=ACTIONS,
        environment="CartPole-v1",
        attribution=attribution,
        root=tmp_path,
    )
    assert folder == tmp_path / "toy" / "box" / "random-v0"
    dataset = _read_minari(folder)
    assert same_data(dataset, build_dataset("toy", **fields))
    assert (dataset.observation_space, dataset.action_space, dataset.environment) == (BOX, ACTIONS, "CartPole-v1")
    assert dataset.details["reference"] == REFERENCE
    assert dataset.details["attribution"]["author"] == ["us"]
    theirs = minari.MinariDataset(folder / "data")
    assert (theirs.total_episodes, theirs.total_steps, theirs.id) == (12, 24, "toy/box/random-v0")
    assert theirs[3].observations[-1].tolist() == [7, 7]
    assert minari.get_normalized_score(theirs, np.float64(3)) == 0.5
    environment = theirs.recover_environment()
    assert environment.spec is not None
    assert environment.spec.id == "CartPole-v1"
    environment.close()


def test_minari_finds_it_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    episodes = episodes_of(make_fields())
    for dataset_id in ("plain-v0", "a/b/nested-v1"):
        write_minari(episodes, dataset_id, observation_space=BOX, action_space=ACTIONS)
    assert local_ids() == ["a/b/nested-v1", "plain-v0"]
    assert set(minari.list_local_datasets()) == {"a/b/nested-v1", "plain-v0"}
    assert set(minari.namespace.list_local_namespaces()) == {"a", "a/b"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(minari.load_dataset("a/b/nested-v1")) == 3


@pytest.mark.parametrize("kind", ["d4rl", "minari"])
def test_choices_keep_their_number_and_images_their_pixels(tmp_path: Path, kind: str) -> None:
    fields = make_fields(discrete=True)
    fields["observations"] = np.random.default_rng(0).integers(0, 255, (10, 32, 33), dtype=np.uint8)
    spaces: dict[str, Any] = {
        "observation_space": Space((32, 33), "uint8", 0.0, 255.0),
        "action_space": Space.discrete(9),
    }
    if kind == "d4rl":
        write_d4rl(episodes_of(fields), tmp_path / "toy.hdf5", **spaces)
        dataset = read_hdf5(tmp_path / "toy.hdf5", name="toy")
    else:
        dataset = _read_minari(write_minari(episodes_of(fields), "toy-v0", **spaces, root=tmp_path))
    assert same_data(dataset, build_dataset("toy", **fields))
    assert dataset.action_space == Space.discrete(9)
    assert dataset.environment is None


def test_wide_numbers_come_back_as_float32(tmp_path: Path) -> None:
    fields = make_fields()
    wide = {**fields, "observations": fields["observations"].astype(float), "rewards": fields["rewards"].astype(float)}
    box = dataclasses.replace(BOX, dtype="float64")
    write_d4rl(episodes_of(wide), tmp_path / "toy.hdf5", observation_space=box, action_space=ACTIONS)
    folder = write_minari(episodes_of(wide), "t-v0", observation_space=box, action_space=ACTIONS, root=tmp_path)
    expected = build_dataset("toy", **fields)
    assert same_data(read_hdf5(tmp_path / "toy.hdf5", name="toy"), expected)
    assert same_data(_read_minari(folder), expected)
    assert minari.MinariDataset(folder / "data")[0].observations.dtype == np.float64


@pytest.mark.parametrize("environment", ["Elsewhere-v3", "somewhere/Elsewhere-v3"])
def test_an_environment_nobody_registered_keeps_its_name(tmp_path: Path, environment: str) -> None:
    folder = write_minari(
        episodes_of(make_fields()),
        "toy-v0",
        observation_space=BOX,
        action_space=ACTIONS,
        environment=environment,
        root=tmp_path,
    )
    assert _read_minari(folder).environment == environment


def _made(**_: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


def test_an_environment_made_by_a_function_keeps_its_name(tmp_path: Path) -> None:
    gymnasium.register("wikirl_test/Made-v0", entry_point=_made)
    try:
        folder = write_minari(
            episodes_of(make_fields()),
            "toy-v0",
            observation_space=BOX,
            action_space=ACTIONS,
            environment="wikirl_test/Made-v0",
            root=tmp_path,
        )
    finally:
        del gymnasium.registry["wikirl_test/Made-v0"]
    assert _read_minari(folder).environment == "wikirl_test/Made-v0"


def _write(kind: str, place: Path, episodes: Any, **more: Any) -> None:
    spaces: dict[str, Any] = {"observation_space": BOX, "action_space": ACTIONS, **more}
    if kind == "d4rl":
        write_d4rl(episodes, place / "toy-v0", **spaces)
    else:
        write_minari(episodes, "toy-v0", root=place, **spaces)


@pytest.mark.parametrize("kind", ["d4rl", "minari"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": np.zeros((3, 2))}, r"episode 1: expected observations of shape \(6, 2\), found \(3, 2\)"),
        ({"actions": np.zeros((5, 2))}, r"episode 1: expected actions of shape \(5, 3\), found \(5, 2\)"),
        ({"rewards": np.zeros(0), "actions": np.zeros((0, 3))}, "episode 1: expected at least one step"),
        ({"rewards": np.full(5, np.nan)}, "episode 1: rewards holds a number that is not finite"),
    ],
)
def test_a_bad_episode_leaves_nothing(tmp_path: Path, kind: str, change: dict[str, Any], message: str) -> None:
    episodes = episodes_of(make_fields())
    episodes[1] = dataclasses.replace(episodes[1], **change)
    with pytest.raises(DatasetError, match=rf"toy-v0, {message}"):
        _write(kind, tmp_path, episodes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["d4rl", "minari"])
def test_what_else_is_refused(tmp_path: Path, kind: str) -> None:
    fields = make_fields(discrete=True)
    with pytest.raises(DatasetError, match="episode 0: expected actions from 0 to 1"):
        _write(kind, tmp_path, episodes_of(fields), action_space=Space.discrete(2))
    with pytest.raises(DatasetError, match="there are no episodes"):
        _write(kind, tmp_path, [])

    def broken() -> Iterator[RecordedEpisode]:
        yield from episodes_of(make_fields())
        raise ZeroDivisionError("the recorder broke")

    with pytest.raises(ZeroDivisionError):
        _write(kind, tmp_path, broken())
    assert list(tmp_path.iterdir()) == []
    _write(kind, tmp_path, episodes_of(make_fields()))
    with pytest.raises(DatasetError, match="exists already"):
        _write(kind, tmp_path, episodes_of(make_fields()))


@pytest.mark.parametrize("kind", ["d4rl", "minari"])
def test_a_full_disk_is_the_systems_error_and_leaves_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    with pytest.raises(OSError, match="No space left") as caught:
        _write(kind, tmp_path, episodes_of(make_fields()))
    assert refusal_of_the_system(caught.value).startswith("expected room to write at ")
    assert list(tmp_path.iterdir()) == []


def test_hdf5s_errors_of_the_disk_become_the_systems(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as caught, writing.writing_hdf5(tmp_path):
        raise RuntimeError("Can't decrement id ref count (file write failed: errno = 27, error message = '…')")
    assert "expected room to write" in refusal_of_the_system(caught.value)
    with pytest.raises(RuntimeError, match="else"), writing.writing_hdf5(tmp_path):
        raise RuntimeError("something else")


def test_malformed_names(tmp_path: Path) -> None:
    episodes = episodes_of(make_fields())
    with pytest.raises(DatasetError, match="is no Minari id"):
        write_minari(episodes, "../toy-v0", observation_space=BOX, action_space=ACTIONS, root=tmp_path)
    with pytest.raises(DatasetError, match="expected an environment id like Hopper-v5, found 'a b'"):
        write_minari(episodes, "t-v0", observation_space=BOX, action_space=ACTIONS, environment="a b", root=tmp_path)


def test_damaged_attributes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.hdf5"
    write_d4rl(episodes_of(make_fields()), path, observation_space=BOX, action_space=ACTIONS)
    for text, message in (("{", "attribute action_space is not JSON"), (json.dumps({"n": 1}), "a space .* is damaged")):
        with h5py.File(path, "a") as file:
            file.attrs["action_space"] = text
        with pytest.raises(DatasetError, match=message):
            read_hdf5(path, name="toy")


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    discrete=st.booleans(),
    seed=st.integers(0, 99),
)
def test_both_formats_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], discrete: bool, seed: int
) -> None:
    fields = make_fields(lengths, discrete=discrete, seed=seed)
    spaces: dict[str, Any] = {"observation_space": BOX, "action_space": Space.discrete(4) if discrete else ACTIONS}
    place = tmp_path_factory.mktemp("written")
    write_d4rl(episodes_of(fields), place / "toy.hdf5", **spaces)
    folder = write_minari(episodes_of(fields), "toy-v0", **spaces, root=place)
    first, second = read_hdf5(place / "toy.hdf5", name="toy"), _read_minari(folder)
    assert same_data(first, build_dataset("toy", **fields))
    assert first.fingerprint == second.fingerprint
