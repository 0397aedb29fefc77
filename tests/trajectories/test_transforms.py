"""`transforms.py`: delayed rewards, choices of episodes, mixtures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError, DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.transforms import (
    concatenate,
    delayed_reward,
    split_episodes,
    take_episodes,
    top_fraction,
)

from .making import make_dataset, make_fields, same_data, slow_returns_to_go

lengths_strategy = st.lists(st.integers(1, 7), min_size=2, max_size=7)


def _with_returns(lengths: list[int], returns: list[float]) -> TrajectoryDataset:
    fields = make_fields(lengths)
    fields["rewards"] = np.concatenate([[value] + [0.0] * (n - 1) for n, value in zip(lengths, returns, strict=True)])
    return build_dataset("toy", **fields)


@given(lengths_strategy)
def test_delayed_reward_keeps_returns_and_makes_returns_to_go_constant(lengths: list[int]) -> None:
    dataset = make_dataset(lengths)
    delayed = delayed_reward(dataset)
    np.testing.assert_array_equal(delayed.returns, dataset.returns)
    np.testing.assert_array_equal(np.flatnonzero(delayed.rewards), dataset.starts[1:] - 1)
    np.testing.assert_array_equal(delayed.returns_to_go, slow_returns_to_go(delayed.rewards, delayed.starts))
    np.testing.assert_array_equal(delayed.observations, dataset.observations)
    assert delayed.details["transforms"] == ["delayed_reward"]
    assert (delayed.fingerprint == dataset.fingerprint) == (max(lengths) == 1)
    assert dataset.details == {}, "the input is left alone"


@given(lengths_strategy, st.data())
def test_take_episodes_equals_building_from_those(lengths: list[int], data: st.DataObject) -> None:
    dataset = make_dataset(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    spans = [np.arange(dataset.starts[number], dataset.starts[number + 1]) for number in chosen]
    steps = np.concatenate(spans)
    expected = build_dataset(
        "toy",
        dataset.observations[steps],
        dataset.actions[steps],
        dataset.rewards[steps],
        np.cumsum([0, *map(len, spans)]),
        dataset.terminated[chosen],
    )
    assert same_data(take_episodes(dataset, chosen), expected)


@pytest.mark.parametrize(
    ("indices", "message"), [([], "no episodes"), ([3], "episode 3 was asked"), ([0, -1], "episode -1")]
)
def test_episodes_that_do_not_exist(indices: list[int], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        take_episodes(make_dataset(), indices)


@given(lengths_strategy, st.floats(0.01, 0.99), st.integers(0, 99))
def test_split_is_a_partition_of_episodes(lengths: list[int], fraction: float, seed: int) -> None:
    dataset = make_dataset(lengths)
    train, held_out = split_episodes(dataset, fraction, np.random.default_rng(seed))
    assert train.num_episodes + held_out.num_episodes == len(lengths)
    assert held_out.num_episodes == min(max(round(fraction * len(lengths)), 1), len(lengths) - 1)
    seen = np.concatenate([train.observations[:, 0], held_out.observations[:, 0]])
    np.testing.assert_array_equal(np.sort(seen), np.arange(dataset.num_steps))
    again = split_episodes(dataset, fraction, np.random.default_rng(seed))
    assert same_data(train, again[0])
    assert same_data(held_out, again[1])


def test_split_needs_a_fraction_and_two_episodes() -> None:
    with pytest.raises(DatasetError, match="one episode cannot be split"):
        split_episodes(make_dataset((5,)), 0.5, np.random.default_rng(0))
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="held_out_fraction"):
            split_episodes(make_dataset(), fraction, np.random.default_rng(0))


def test_top_fraction_takes_the_best_until_the_steps_are_used_up() -> None:
    dataset = _with_returns([4, 2, 3, 1], [1.0, 9.0, 5.0, 7.0])
    assert top_fraction(dataset, 0.3).returns.tolist() == [9.0, 7.0]  # 2 + 1 of 10 steps, exactly 0.3: `<=`
    assert top_fraction(dataset, 0.6).returns.tolist() == [9.0, 5.0, 7.0]
    assert top_fraction(dataset, 0.59).returns.tolist() == [9.0, 7.0]
    assert top_fraction(dataset, 0.01).returns.tolist() == [9.0], "never empty"
    assert top_fraction(dataset, 0.01).details["transforms"] == ["top_fraction: 0.01"]


@given(lengths_strategy)
def test_top_fraction_one_is_everything(lengths: list[int]) -> None:
    assert same_data(top_fraction(make_dataset(lengths), 1.0), make_dataset(lengths))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_top_fraction_refuses_odd_shares(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction must lie above 0"):
        top_fraction(make_dataset(), fraction)


def test_concatenate_puts_episodes_one_after_the_other() -> None:
    medium, expert = make_dataset((3, 5), seed=1), make_dataset((2, 4), seed=2)
    mixed = concatenate([medium, expert], "toy-medium-expert")
    assert (mixed.name, mixed.environment) == ("toy-medium-expert", "Toy-v0")
    assert mixed.starts.tolist() == [0, 3, 8, 10, 14]
    assert same_data(take_episodes(mixed, [0, 1]), medium)
    assert same_data(take_episodes(mixed, [2, 3]), expert)
    assert [part["fingerprint"] for part in mixed.details["parts"]] == [
        medium.fingerprint,
        expert.fingerprint,
    ]


def test_concatenate_refuses_what_does_not_fit() -> None:
    with pytest.raises(DatasetError, match="differ in action_space"):
        concatenate([make_dataset(), make_dataset(discrete=True)], "mixed")
    elsewhere = build_dataset("other", **make_fields(), environment="Other-v1")
    with pytest.raises(DatasetError, match="toy and other differ in environment: Toy-v0 and Other-v1"):
        concatenate([make_dataset(), elsewhere], "mixed")
    with pytest.raises(DatasetError, match="no datasets"):
        concatenate([], "mixed")
