from pathlib import Path

import numpy as np
import pytest

from tests.trajectories.making import make_dataset, make_fields, sound_fields
from wikirl.trajectories import growing
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.profile import column_numbers, hidden_starts, near_best, profile, repeated_episodes
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.storage import open_dataset, save_dataset
from wikirl.types import Space


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "_CHUNK", 7)


@pytest.mark.usefixtures("_small_chunks")
def test_numbers_of_coordinates_are_numpys() -> None:
    values = np.random.default_rng(0).normal(1e4, 1, (50, 3, 2)).astype(np.float32)
    found, flat = column_numbers(values), values.reshape(50, 6).astype(np.float64)
    assert found.low == pytest.approx(flat.min(axis=0))
    assert found.high == pytest.approx(flat.max(axis=0))
    assert found.mean == pytest.approx(flat.mean(axis=0), rel=1e-12)
    assert found.std == pytest.approx(flat.std(axis=0), rel=1e-9)
    assert column_numbers(np.full(9, 3.0, dtype=np.float32)).constant.all()


@pytest.mark.usefixtures("_small_chunks")
def test_a_mapped_dataset_has_the_same_profile(tmp_path: Path) -> None:
    dataset = build_dataset("sound", **sound_fields())
    save_dataset(dataset, tmp_path / "saved")
    mapped = open_dataset(tmp_path / "saved")
    assert isinstance(mapped.observations, np.memmap)
    one, other = profile(dataset), profile(mapped)
    for part in ("observations", "actions", "rewards"):
        for field in ("low", "high", "mean", "std"):
            assert np.array_equal(getattr(getattr(one, part), field), getattr(getattr(other, part), field))
    assert np.array_equal(one.repeats, other.repeats)


@pytest.mark.usefixtures("_small_chunks")
def test_equal_coordinates() -> None:
    fields = make_fields()
    observations = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    observations[:, 3] = observations[:, 1]
    observations[:, 2] = observations[::-1, 0]  # the same numbers in another order
    assert profile(build_dataset("toy", **{**fields, "observations": observations})).equal_observations == ((1, 3),)


def test_use_of_bounds() -> None:
    fields = make_fields((4,))
    fields["actions"] = np.array([[-1, 0], [-0.9995, 0.5], [1.0, 3], [1.5, 0]], dtype=np.float32)
    space = Space.box(np.array([-1.0, -10]), np.array([1.0, 10]), (2,))
    use = profile(build_dataset("toy", **fields, action_space=space)).action_use
    assert use is not None
    assert (use.at_low.tolist(), use.at_high.tolist()) == ([0.5, 0], [0.5, 0])
    assert use.outside == 0.25
    assert use.num_values.tolist() == [4, 3]


def test_choices_are_counted() -> None:
    found = profile(make_dataset((3, 5, 2), discrete=True))
    assert found.action_use is None
    assert found.choices is not None
    assert found.choices.tolist() == [3, 3, 2, 2]


def test_repeated_episodes() -> None:
    fields = sound_fields(6)
    starts = fields["starts"]
    copy = [slice(*starts[e : e + 2]) for e in (4, 1, 4)]
    for field in ("observations", "actions", "rewards"):
        fields[field] = np.concatenate([fields[field], *(fields[field][part] for part in copy)])
    fields["starts"] = np.concatenate([starts, starts[-1] + np.cumsum([part.stop - part.start for part in copy])])
    fields["terminated"] = np.append(fields["terminated"], [True, True, True])
    assert repeated_episodes(build_dataset("copies", **fields)).tolist() == [[6, 4], [7, 1], [8, 4]]
    fields["actions"][-1] += 0.01
    assert repeated_episodes(build_dataset("copies", **fields)).tolist() == [[6, 4], [7, 1]]


def test_single_steps_are_no_repeats() -> None:
    fields = make_fields((1, 1, 1))
    for field in ("observations", "actions", "rewards"):
        fields[field] = np.zeros_like(fields[field])
    assert len(repeated_episodes(build_dataset("toy", **fields))) == 0


@pytest.mark.usefixtures("_small_chunks")
def test_lost_ends_are_found_where_they_are() -> None:
    fields = sound_fields()
    found = hidden_starts(build_dataset("sound", **fields))
    assert found is not None
    assert found.tolist() == []
    lost = fields["starts"][[5, 20, 21]]
    fields["starts"] = np.setdiff1d(fields["starts"], lost)
    fields["terminated"] = fields["terminated"][:-3]
    found = hidden_starts(build_dataset("lost", **fields))
    assert found is not None
    assert found.tolist() == lost.tolist()


def test_half_of_hoppers_ends_lost() -> None:
    whole = load_trajectories("builtin:hopper-medium")
    starts = np.append(whole.starts[:-1:2], whole.num_steps)
    ended = np.zeros(len(starts) - 1, dtype=bool)
    arrays = (whole.observations, whole.actions, whole.rewards)
    found = hidden_starts(build_dataset("half", *arrays, starts, ended))
    assert found is not None
    assert set(found.tolist()) <= set(whole.starts.tolist())
    assert len(found) >= 90  # of 92


def test_where_starts_cannot_be_told_nothing_is_said() -> None:
    fields = sound_fields()
    wild = np.random.default_rng(0).standard_cauchy(fields["observations"].shape).astype(np.float32)
    assert hidden_starts(build_dataset("wild", **{**fields, "observations": wild})) is None
    assert hidden_starts(make_dataset()) is None  # three episodes


def test_an_agent_that_walks_back_to_the_start() -> None:
    fields = sound_fields()
    steps = len(fields["rewards"])
    path = np.abs(np.arange(steps) % 20 - 10).astype(np.float32)  # one cell a step, to and fro
    fields["observations"] = np.stack([path, np.ones(steps, dtype=np.float32)], axis=1)
    fields["starts"] = np.arange(10, steps, 20)  # every episode starts in cell 0
    fields["starts"][0], fields["starts"][-1] = 0, steps
    fields["terminated"] = np.zeros(len(fields["starts"]) - 1, dtype=bool)
    found = hidden_starts(build_dataset("grid", **fields))
    assert found is None or len(found) == 0


def test_near_the_best() -> None:
    fields = make_fields((1, 1, 1, 1))
    fields["rewards"] = np.array([0.0, 8.9, 9.1, 10.0])
    assert near_best(build_dataset("toy", **fields)).tolist() == [False, False, True, True]
