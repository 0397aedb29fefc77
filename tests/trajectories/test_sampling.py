"""`sampling.py`: windows against a slow reference, padding, distribution, resuming."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError, RunError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.sampling import ContextSampler, consecutive_windows
from wikirl.types import TrajectoryBatch

from .making import make_dataset, make_fields

lengths_strategy = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def _slow_window(dataset: TrajectoryDataset, step: int, context_length: int) -> dict[str, Any]:
    """One window, element by element, from Python lists."""
    episode = max(number for number in range(dataset.num_episodes) if dataset.starts[number] <= step)
    stop = min(step + context_length, int(dataset.starts[episode + 1]))
    padding = context_length - (stop - step)
    zero_observation = np.zeros_like(dataset.observations[0])
    zero_action = np.zeros_like(dataset.actions[0])
    return {
        "observations": np.stack([zero_observation] * padding + [dataset.observations[i] for i in range(step, stop)]),
        "actions": np.stack([zero_action] * padding + [dataset.actions[i] for i in range(step, stop)]),
        "returns_to_go": np.array([0.0] * padding + [float(dataset.returns_to_go[i]) for i in range(step, stop)])[
            :, None
        ],
        "timesteps": np.array([0] * padding + [i - int(dataset.starts[episode]) for i in range(step, stop)]),
        "mask": np.array([False] * padding + [True] * (stop - step)),
    }


def _equal(first: TrajectoryBatch, second: TrajectoryBatch) -> bool:
    return all(torch.equal(getattr(first, field), getattr(second, field)) for field in first.__dataclass_fields__)


@given(lengths_strategy, st.integers(1, 12), st.booleans(), st.integers(0, 100))
def test_every_window_equals_the_slow_one(lengths: list[int], context_length: int, discrete: bool, seed: int) -> None:
    dataset = make_dataset(lengths, discrete=discrete)
    batch = ContextSampler(dataset, context_length, np.random.default_rng(seed)).sample(8)
    drawn = np.random.default_rng(seed).integers(dataset.num_steps, size=8)
    for row, step in enumerate(drawn):
        for field, expected in _slow_window(dataset, int(step), context_length).items():
            np.testing.assert_array_equal(
                getattr(batch, field)[row].numpy(), expected.astype(getattr(batch, field).numpy().dtype)
            )


def test_shapes_and_types() -> None:
    batch = ContextSampler(make_dataset(), 4, np.random.default_rng(0)).sample(6)
    assert batch.observations.shape == (6, 4, 2)
    assert batch.actions.shape == (6, 4, 3)
    assert batch.returns_to_go.shape == (6, 4, 1)
    assert (batch.observations.dtype, batch.actions.dtype, batch.returns_to_go.dtype) == (torch.float32,) * 3
    assert (batch.timesteps.dtype, batch.mask.dtype) == (torch.int64, torch.bool)
    discrete = ContextSampler(make_dataset(discrete=True), 4, np.random.default_rng(0)).sample(6)
    assert (discrete.actions.shape, discrete.actions.dtype) == ((6, 4), torch.int64)


def test_padding_is_on_the_left_zero_and_masked() -> None:
    batch = ContextSampler(make_dataset((2, 3)), 5, np.random.default_rng(0)).sample(32)
    mask = batch.mask
    assert not mask[:, 0].any(), "no episode fills five steps"
    assert mask[:, -1].all(), "the last position is always real"
    assert (mask[:, 1:] >= mask[:, :-1]).all(), "real steps come after padding"
    for field in ("observations", "actions", "returns_to_go", "timesteps"):
        assert (getattr(batch, field)[~mask] == 0).all()


def test_pixels_stay_bytes() -> None:
    fields = make_fields((3, 5, 2), discrete=True)
    fields["observations"] = np.random.default_rng(0).integers(1, 255, (10, 4, 6, 6), dtype=np.uint8)
    batch = ContextSampler(build_dataset("pixels", **fields), 4, np.random.default_rng(0)).sample(5)
    assert (batch.observations.dtype, batch.observations.shape) == (torch.uint8, (5, 4, 4, 6, 6))


def test_episodes_are_drawn_in_proportion_to_length_and_starts_uniformly() -> None:
    dataset = make_dataset((1, 4, 15))
    sampler = ContextSampler(dataset, 1, np.random.default_rng(0))
    steps = sampler.sample(40_000).observations[:, 0, 0].numpy().astype(int)  # observations count the steps
    counts = np.bincount(steps, minlength=20)
    expected = 40_000 / 20
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 43.8  # 99.9 % quantile with 19 degrees of freedom
    episodes = np.bincount(np.searchsorted(dataset.starts, steps, side="right") - 1) / 40_000
    np.testing.assert_allclose(episodes, [0.05, 0.2, 0.75], atol=0.01)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.Philox, np.random.MT19937, np.random.SFC64])
def test_state_replays_the_same_batches(bits: Any) -> None:
    sampler = ContextSampler(make_dataset(), 4, np.random.Generator(bits(1)))
    sampler.sample(7)
    state = json.loads(json.dumps(sampler.state()))
    expected = [sampler.sample(7) for _ in range(3)]
    other = ContextSampler(make_dataset(), 4, np.random.Generator(bits(2)))
    other.load_state(state)
    assert all(_equal(batch, other.sample(7)) for batch in expected)


def test_foreign_or_damaged_state_is_refused() -> None:
    sampler = ContextSampler(make_dataset(), 4, np.random.default_rng(0))
    with pytest.raises(RunError, match="'MT19937', expected PCG64"):
        sampler.load_state(ContextSampler(make_dataset(), 4, np.random.Generator(np.random.MT19937(0))).state())
    with pytest.raises(RunError, match="damaged"):
        sampler.load_state({"bit_generator": "PCG64"})


@given(lengths_strategy, st.integers(1, 12), st.integers(1, 7))
def test_consecutive_windows_hold_every_step_once(lengths: list[int], context_length: int, batch_size: int) -> None:
    dataset = make_dataset(lengths)
    batches = list(consecutive_windows(dataset, context_length, batch_size))
    assert all(len(batch.mask) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1].mask) <= batch_size
    real = np.concatenate([batch.observations[batch.mask][:, 0].numpy() for batch in batches])
    np.testing.assert_array_equal(real, np.arange(dataset.num_steps))
    again = consecutive_windows(dataset, context_length, batch_size)
    assert all(_equal(first, second) for first, second in zip(batches, again, strict=True))


@pytest.mark.parametrize("value", [0, -3])
def test_lengths_below_one_are_refused(value: int) -> None:
    with pytest.raises(ConfigError, match="context_length must be at least 1"):
        ContextSampler(make_dataset(), value, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="context_length must be at least 1"):
        consecutive_windows(make_dataset(), value, 4)
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        consecutive_windows(make_dataset(), 4, value)
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        ContextSampler(make_dataset(), 4, np.random.default_rng(0)).sample(value)
