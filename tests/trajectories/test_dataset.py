"""`dataset.py` and `validation.py`: what a dataset holds, and every complaint about what it cannot hold."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset, returns_to_go
from wikirl.types import Space

from .making import make_dataset, make_fields, slow_returns_to_go


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 1000))
def test_returns_to_go_are_the_sums_to_the_end(lengths: list[int], seed: int) -> None:
    fields = make_fields(lengths, seed=seed)
    expected = slow_returns_to_go(fields["rewards"], fields["starts"])
    np.testing.assert_allclose(build_dataset("toy", **fields).returns_to_go, expected, rtol=1e-6, atol=1e-6)


def test_returns_to_go_accumulate_in_float64_and_per_episode() -> None:
    many = np.full(1_000_000, 0.1, dtype=np.float32)
    assert returns_to_go(many, np.array([0, len(many)]))[0] == np.float32(np.float64(np.float32(0.1)) * 1e6)
    huge = returns_to_go(np.array([1e30, 1.0], dtype=np.float32), np.array([0, 1, 2]))
    assert huge.tolist() == [np.float32(1e30), 1.0]


def test_numbers_and_statistics() -> None:
    dataset = make_dataset((3, 5, 2))
    assert (dataset.num_steps, dataset.num_episodes, dataset.lengths.tolist()) == (10, 3, [3, 5, 2])
    np.testing.assert_allclose(
        dataset.returns, [dataset.rewards[a:b].sum() for a, b in ((0, 3), (3, 8), (8, 10))], rtol=1e-6
    )
    statistics = dataset.statistics
    np.testing.assert_allclose(statistics.observation_mean, [4.5, 4.75])
    np.testing.assert_allclose(statistics.observation_std, np.full(2, np.arange(10).std()), rtol=1e-6)
    assert statistics.observation_mean.dtype == statistics.observation_std.dtype == np.float32
    assert statistics.return_max == pytest.approx(float(dataset.returns.max()))
    assert statistics.return_quantiles[0.5] == pytest.approx(float(np.median(dataset.returns)))
    assert (statistics.length_min, statistics.length_max) == (2, 5)
    assert statistics.length_mean == pytest.approx(10 / 3)
    assert statistics.terminated_fraction == pytest.approx(2 / 3)
    assert dataset.statistics is statistics


def test_moments_survive_a_large_offset_and_many_chunks() -> None:
    fields = make_fields((600_000,))
    fields["observations"] = (np.arange(600_000 * 2).reshape(-1, 2) % 3 + 1e6).astype(np.float32)
    statistics = build_dataset("toy", **fields).statistics
    np.testing.assert_allclose(statistics.observation_mean, 1e6 + 1, rtol=1e-9)
    np.testing.assert_allclose(statistics.observation_std, np.sqrt(2 / 3), rtol=1e-6)


def test_repr_is_short_and_names_shapes() -> None:
    text = repr(make_dataset())
    assert len(text) < 200
    assert "float32[10, 2]" in text
    assert "float32[10, 3]" in text


def test_fingerprint_follows_content_not_name() -> None:
    fields = make_fields()
    first, renamed = build_dataset("a", **fields), build_dataset("b", **fields, environment="Other-v1")
    assert first.fingerprint == renamed.fingerprint
    fields["rewards"] = fields["rewards"] + np.float32(1e-3)
    assert build_dataset("a", **fields).fingerprint != first.fingerprint
    wider = build_dataset("a", **make_fields(), action_space=Space((3,), "float32", -2.0, 2.0))
    assert wider.fingerprint != first.fingerprint


def test_types_are_brought_to_float32_and_int64_while_pixels_stay() -> None:
    fields = make_fields(discrete=True)
    fields["observations"] = np.zeros((10, 4, 4), dtype=np.uint8)
    fields["actions"] = fields["actions"].astype(np.uint8)
    fields["rewards"] = fields["rewards"].astype(np.float64)
    dataset = build_dataset("toy", **fields)
    kinds = [str(array.dtype) for array in (dataset.observations, dataset.actions, dataset.rewards)]
    assert kinds == ["uint8", "int64", "float32"]
    assert dataset.observation_space == Space((4, 4), "uint8", 0.0, 255.0)
    assert dataset.action_space == Space.discrete(4)


def test_spaces_are_inferred() -> None:
    dataset = make_dataset()
    assert dataset.observation_space == Space((2,), "float32", -np.inf, np.inf)
    assert dataset.action_space == Space((3,), "float32", -1.0, 1.0)
    fields = make_fields()
    fields["actions"] = fields["actions"] * 3
    inferred = build_dataset("toy", **fields).action_space
    assert inferred == Space.box(fields["actions"].min(axis=0), fields["actions"].max(axis=0), (3,))


def _bad(**changes: Any) -> dict[str, Any]:
    return {**make_fields(), **changes}


def _with(field: str, step: int, value: float) -> dict[str, Any]:
    fields = make_fields()
    fields[field] = fields[field].copy()
    fields[field][step] = value
    return fields


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "observations too short": (
        _bad(observations=np.zeros((9, 2))),
        "observations has 9 steps but rewards has 10",
    ),
    "actions too long": (_bad(actions=np.zeros((11, 3))), "actions has 11 steps but rewards has 10"),
    "terminated too long": (
        _bad(terminated=[True] * 4),
        "terminated has 4 entries but starts has 3 episodes",
    ),
    "NaN observation": (_with("observations", 4, np.nan), r"observations holds nan .*in episode 1, step 1"),
    "infinite action": (_with("actions", 9, -np.inf), r"actions holds -inf .*in episode 2, step 1"),
    "NaN reward": (_with("rewards", 0, np.nan), r"rewards holds nan .*in episode 0, step 0"),
    "too large for float32": (
        _bad(rewards=np.full(10, 1e300)),
        r"rewards holds inf \(as float32\) in episode 0, step 0",
    ),
    "sum too large": (
        _bad(rewards=np.full(10, 3e38)),
        r"the sum of rewards holds inf .*in episode 0, step 0",
    ),
    "no episodes": (_bad(starts=np.array([0]), terminated=np.zeros(0, bool)), "there are no episodes"),
    "no steps": (
        {
            "observations": np.zeros((0, 2)),
            "actions": np.zeros((0, 3)),
            "rewards": np.zeros(0),
            "starts": np.array([0, 0]),
            "terminated": [True],
        },
        "there are no episodes",
    ),
    "empty episode": (_bad(starts=np.array([0, 3, 3, 10])), "starts must increase, but episode 1 is empty"),
    "decreasing starts": (
        _bad(starts=np.array([0, 5, 3, 10])),
        "starts must increase, but episode 1 starts at 5",
    ),
    "late first start": (
        _bad(starts=np.array([1, 3, 8, 10])),
        "starts must run from 0 to the 10 steps, found 1 to 10",
    ),
    "early last start": (
        _bad(starts=np.array([0, 3, 8, 9])),
        "starts must run from 0 to the 10 steps, found 0 to 9",
    ),
    "fractional starts": (_bad(starts=np.array([0, 3.5, 8, 10])), "starts must be integers, found float64"),
    "flat observations": (_bad(observations=np.zeros(10)), r"observations must be \[steps, size\].*\(10,\)"),
    "rewards in columns": (
        _bad(rewards=np.zeros((10, 1))),
        r"rewards must have 1 axis, found shape \(10, 1\)",
    ),
    "deep actions": (
        _bad(actions=np.zeros((10, 3, 1))),
        r"actions must be .*found float32 of shape \(10, 3, 1\)",
    ),
    "flat float actions": (_bad(actions=np.zeros(10)), r"actions must be .*found float32 of shape \(10,\)"),
    "no coordinates": (_bad(actions=np.zeros((10, 0))), "actions has no coordinates"),
    "negative choice": (_bad(actions=np.arange(10) - 5), "actions holds choice -5 in episode 0, step 0"),
    "words": (_bad(rewards=["good"] * 10), "rewards must hold numbers"),
    "objects": (_bad(observations=np.array([None] * 10)), "observations must hold numbers, found object"),
    "ragged": (_bad(observations=[[1.0], [1.0, 2.0]]), "observations cannot be an array"),
    "odd flags": (_bad(terminated=[0, 1, 2]), "terminated must hold only true and false"),
    "wrong observation space": (
        _bad(observation_space=Space((3,), "float32", 0.0, 1.0)),
        r"observations should be vectors of shape \(3,\)",
    ),
    "choices for a box": (
        _bad(actions=np.zeros(10, int), action_space=Space((3,), "float32", 0.0, 1.0)),
        "actions should be vectors",
    ),
    "vectors for choices": (_bad(action_space=Space.discrete(3)), "actions should be choices among 3"),
    "choice out of range": (
        _bad(actions=np.arange(10), action_space=Space.discrete(4)),
        "actions holds choice 4 in episode 1, step 1, expected 0 to 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_gives_one_line_with_name_field_and_place(case: str) -> None:
    arguments, message = BAD[case]
    with pytest.raises(DatasetError) as caught:
        build_dataset("my-data", **arguments)
    text = str(caught.value)
    assert text.startswith("my-data: ")
    assert "\n" not in text
    assert re.search(message, text), text


def test_a_dataset_cannot_be_assigned_to() -> None:
    dataset = make_dataset()
    with pytest.raises(AttributeError):
        dataset.name = "other"  # type: ignore[misc]
    assert isinstance(dataset, TrajectoryDataset)
