"""Small data sets for these tests, and slow versions of what the library does fast."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset

Fields = dict[str, Any]


def make_fields(lengths: Sequence[int] = (3, 5, 2), *, discrete: bool = False, seed: int = 0) -> Fields:
    """The array arguments of `build_dataset`; observations count the steps, which tells windows apart."""
    generator = np.random.default_rng(seed)
    steps = sum(lengths)
    observations = np.arange(steps, dtype=np.float32)[:, None] + np.array([0.0, 0.25], dtype=np.float32)
    actions: npt.NDArray[Any] = generator.uniform(-1, 1, (steps, 3)).astype(np.float32)
    return {
        "observations": observations,
        "actions": np.arange(steps) % 4 if discrete else actions,
        "rewards": generator.normal(size=steps).astype(np.float32),
        "starts": np.concatenate([[0], np.cumsum(lengths)]),
        "terminated": np.arange(len(lengths)) % 2 == 0,
    }


def make_dataset(lengths: Sequence[int] = (3, 5, 2), *, discrete: bool = False, seed: int = 0) -> TrajectoryDataset:
    return build_dataset("toy", **make_fields(lengths, discrete=discrete, seed=seed), environment="Toy-v0")


def marked(fields: Fields) -> Fields:
    """The same data in D4RL's layout."""
    ends = fields["starts"][1:] - 1
    terminals, timeouts = (np.zeros(len(fields["rewards"]), dtype=bool) for _ in range(2))
    terminals[ends] = fields["terminated"]
    timeouts[ends] = ~fields["terminated"]
    flat = {key: fields[key] for key in ("observations", "actions", "rewards")}
    return {**flat, "terminals": terminals, "timeouts": timeouts}


def slow_returns_to_go(rewards: npt.NDArray[Any], starts: npt.NDArray[Any]) -> list[float]:
    result = []
    for step in range(len(rewards)):
        end = min(int(start) for start in starts if start > step)
        result.append(float(sum(float(reward) for reward in rewards[step:end])))
    return result


def same_data(first: TrajectoryDataset, second: TrajectoryDataset) -> bool:
    fields = ("observations", "actions", "rewards", "returns_to_go", "starts", "terminated")
    pairs = [(getattr(first, field), getattr(second, field)) for field in fields]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def sound_fields(num_episodes: int = 60, *, discrete: bool = False, seed: int = 0) -> Fields:
    """Data that a check has nothing to say about: episodes of all lengths up to a limit that cuts some of them."""
    generator = np.random.default_rng(seed)
    lengths = np.minimum(generator.integers(20, 80, num_episodes), 60)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    steps = int(starts[-1])
    timesteps = np.arange(steps) - np.repeat(starts[:-1], lengths)
    # Observations start near zero and drift, as a simulator's do.
    drift = generator.normal(0, 0.1, (steps, 3)) + timesteps[:, None] * np.array([0.1, -0.2, 0.05])
    returns = generator.permutation(np.linspace(20, 100, num_episodes))
    actions: npt.NDArray[Any] = np.tanh(generator.normal(size=(steps, 2)))
    if discrete:
        actions = generator.integers(0, 3, steps)
    return {
        "observations": drift.astype(np.float32),
        "actions": actions if discrete else actions.astype(np.float32),
        "rewards": np.repeat(returns / lengths, lengths) + generator.normal(0, 0.01, steps),
        "starts": starts,
        "terminated": lengths < 60,
    }
