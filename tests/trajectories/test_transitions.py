"""Transitions: which steps have a known successor, what is terminal, and that draws repeat and resume."""

from typing import Any

import numpy as np
import pytest

from wikirl.errors import DatasetError, RunError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.transforms import delayed_reward
from wikirl.trajectories.transitions import TransitionSampler

LENGTHS = [3, 2, 1, 1]
TERMINATED = [True, False, True, False]


def episodes() -> TrajectoryDataset:
    """Step i shows 10 + i and earns i; episodes that ended and that were cut, of one step and of more."""
    starts = np.cumsum([0, *LENGTHS])
    steps = np.arange(starts[-1])
    return build_dataset("toy", (10.0 + steps)[:, None], steps[:, None] / 10, steps, starts, TERMINATED)


def sampler(dataset: TrajectoryDataset | None = None, seed: int = 0, **options: Any) -> TransitionSampler:
    return TransitionSampler(dataset or episodes(), np.random.default_rng(seed), **options)


def test_what_followed_each_step() -> None:
    one = sampler()
    assert one.steps.tolist() == [0, 1, 2, 3, 5]  # the last steps of cut episodes, 4 and 6, have no successor
    batch = one.gather(one.steps)
    assert batch.observations[:, 0].tolist() == [10, 11, 12, 13, 15]
    assert batch.next_observations[:, 0].tolist() == [11, 12, 0, 14, 0]
    assert batch.terminated.tolist() == [False, False, True, False, True]
    assert batch.rewards.tolist() == [0, 1, 2, 3, 5]
    np.testing.assert_allclose(batch.actions[:, 0], [0.0, 0.1, 0.2, 0.3, 0.5], rtol=1e-6)
    assert episodes().observations[2, 0] == 12  # untouched


def test_a_delayed_reward_is_not_lost_with_the_last_step() -> None:
    later = delayed_reward(episodes())
    batch = sampler(later, delayed_reward=True).gather(np.array([0, 1, 2, 3, 5]))
    assert batch.rewards.tolist() == [0, 0, 3, 7, 5]
    assert later.rewards.tolist() == [0, 0, 3, 0, 7, 5, 6]


def test_draws_are_uniform_and_repeat() -> None:
    one, same, other = (sampler(seed=seed) for seed in (0, 0, 1))
    drawn = one.sample(5000).rewards
    assert drawn.tolist() == same.sample(5000).rewards.tolist() != other.sample(5000).rewards.tolist()
    counts = {value: int((drawn == value).sum()) for value in (0, 1, 2, 3, 5)}
    assert sum(counts.values()) == 5000
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_it_goes_on_where_its_state_was_taken() -> None:
    one = sampler()
    one.sample(7)
    state, expected = one.state(), one.sample(20).rewards.tolist()
    other = sampler(seed=5)
    other.load_state(state)
    assert other.sample(20).rewards.tolist() == expected
    with pytest.raises(RunError, match="generator 'MT19937', expected PCG64"):
        other.load_state({"bit_generator": "MT19937"})


def test_no_step_with_a_successor() -> None:
    alone = build_dataset("cuts", np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2), [0, 1, 2], [False, False])
    with pytest.raises(DatasetError, match="cuts: expected steps whose next observation is known; found none"):
        sampler(alone)
