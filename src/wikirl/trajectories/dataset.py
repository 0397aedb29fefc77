"""What a set of logged trajectories is: all episodes end to end in flat arrays, checked once when built.

This file knows shapes, units and statistics. It deliberately does not know files (`storage`), formats (the
readers), where data comes from (`sources`) or how windows are drawn (`sampling`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Int64, Shaped

from wikirl.trajectories.growing import in_chunks
from wikirl.trajectories.validation import (
    ArrayInput,
    check_fields,
    check_finite,
    check_space,
    typed_fields,
)
from wikirl.types import Space

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class DatasetStatistics:
    """Summary numbers of a dataset; returns and lengths are per episode, in environment units and steps.

    Attributes:
        observation_mean: Mean over all steps, accumulated in float64.
        observation_std: Population standard deviation over all steps; 0 for a coordinate that never changes.
        return_mean: Mean undiscounted episode return, and so on for deviation, minimum and maximum.
        return_quantiles: Quantile of the returns for each level of `QUANTILES`.
        length_mean: Mean steps per episode.
        terminated_fraction: Share of episodes that ended in a terminal state.
    """

    observation_mean: Float32[np.ndarray, "*O"]
    observation_std: Float32[np.ndarray, "*O"]
    return_mean: float
    return_std: float
    return_min: float
    return_max: float
    return_quantiles: Mapping[float, float]
    length_mean: float
    length_min: int
    length_max: int
    terminated_fraction: float


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TrajectoryDataset:
    """All episodes as flat arrays. Build it with `build_dataset`, which checks; the constructor does not.

    Attributes:
        name: What to call it in tables; a dataset id wherever one exists.
        observations: Raw observations, float32 or uint8 (pixels); may be a read-only memory map.
        actions: float32 vectors, or int64 choices for a discrete space.
        rewards: Reward earned by the action of the same step, environment units.
        returns_to_go: Undiscounted sum of rewards from this step to the end of its episode.
        terminated: True: the episode ended in a terminal state; False: it was cut, by a time limit or by the
            log.
        starts: First step of each episode, and S at the end.
        observation_space: Shape and bounds of one observation.
        action_space: Shape and bounds of one action.
        environment: Gymnasium id the data was made with, such as "Hopper-v5"; None if unknown.
        details: JSON values about the origin: source, sha256, dropped_steps, attribution, transforms.
    """

    name: str
    observations: Shaped[np.ndarray, "S *O"]
    actions: Float32[np.ndarray, "S A"] | Int64[np.ndarray, "S"]
    rewards: Float32[np.ndarray, "S"]
    returns_to_go: Float32[np.ndarray, "S"]
    terminated: Bool[np.ndarray, "N"]
    starts: Int64[np.ndarray, "N+1"]
    observation_space: Space
    action_space: Space
    environment: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """S, the number of steps of all episodes."""
        return len(self.rewards)

    @property
    def num_episodes(self) -> int:
        """N, the number of episodes."""
        return len(self.terminated)

    @cached_property
    def lengths(self) -> Int64[np.ndarray, "N"]:
        """Steps of each episode."""
        return np.diff(self.starts)

    @cached_property
    def returns(self) -> Float32[np.ndarray, "N"]:
        """Undiscounted return of each episode: the return-to-go of its first step."""
        return np.asarray(self.returns_to_go[self.starts[:-1]])

    @cached_property
    def statistics(self) -> DatasetStatistics:
        """Computed once, on first use."""
        mean, std = _moments(self.observations)
        returns = self.returns.astype(np.float64)
        return DatasetStatistics(
            observation_mean=mean,
            observation_std=std,
            return_mean=float(returns.mean()),
            return_std=float(returns.std()),
            return_min=float(returns.min()),
            return_max=float(returns.max()),
            return_quantiles={level: float(np.quantile(returns, level)) for level in QUANTILES},
            length_mean=float(self.lengths.mean()),
            length_min=int(self.lengths.min()),
            length_max=int(self.lengths.max()),
            terminated_fraction=float(self.terminated.mean()),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything a policy could learn from (arrays, spaces), whatever the name and origin.

        A saved dataset remembers it, so that opening one never reads all of it.
        """
        digest = hashlib.sha256()
        for array in (self.observations, self.actions, self.rewards, self.starts, self.terminated):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for _, chunk in in_chunks(array):
                digest.update(np.ascontiguousarray(chunk).data)
        spaces = [self.observation_space.to_json(), self.action_space.to_json()]
        digest.update(json.dumps(spaces, sort_keys=True).encode())
        return digest.hexdigest()

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name}={_brief(getattr(self, name))}" for name in ("observations", "actions"))
        return (
            f"TrajectoryDataset({self.name!r}, {self.num_steps} steps, {self.num_episodes} episodes, "
            f"{arrays}, environment={self.environment!r})"
        )


def build_dataset(  # noqa: PLR0913 - one argument for each field that is not computed
    name: str,
    observations: ArrayInput,
    actions: ArrayInput,
    rewards: ArrayInput,
    starts: ArrayInput,
    terminated: ArrayInput,
    *,
    observation_space: Space | None = None,
    action_space: Space | None = None,
    environment: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> TrajectoryDataset:
    """Check arrays, compute returns-to-go and make a dataset of them; the only sound way to one.

    Args:
        name: Begins every error message; a file name or a dataset id.
        observations: `[S, *O]`; uint8 stays uint8, every other number becomes float32.
        actions: `[S, A]` floats, or `[S]` integers from 0 for a discrete space.
        rewards: `[S]`.
        starts: `[N+1]`, first step of each episode and S.
        terminated: `[N]`, True where the episode ended in a terminal state.
        observation_space: Default: unbounded (0 to 255 for uint8) in the shape of the data.
        action_space: Default: -1 to 1 if the data lie within, else their smallest and largest value; the
            largest choice + 1 for integers.
        environment: Gymnasium id the data was made with.
        details: JSON values about the origin.

    Raises:
        DatasetError: lengths differ, a dimension is wrong, a value is not finite, there is no episode or an
            empty one, `starts` does not increase from 0 to S, or the data does not fit a space that was
            given.
    """
    arrays = typed_fields(name, observations, actions, rewards, starts, terminated)
    check_fields(name, arrays)
    observation_space = observation_space or _infer_observation_space(arrays.observations)
    action_space = action_space or _infer_action_space(arrays.actions)
    check_space(name, "observations", arrays.observations, observation_space, arrays.starts)
    check_space(name, "actions", arrays.actions, action_space, arrays.starts)
    to_go = returns_to_go(arrays.rewards, arrays.starts)
    check_finite(name, "the sum of rewards", to_go, arrays.starts)
    return TrajectoryDataset(
        name=name,
        observations=arrays.observations,
        actions=arrays.actions,
        rewards=arrays.rewards,
        returns_to_go=to_go,
        terminated=arrays.terminated,
        starts=arrays.starts,
        observation_space=observation_space,
        action_space=action_space,
        environment=environment,
        details=dict(details or {}),
    )


def returns_to_go(rewards: Float32[np.ndarray, "S"], starts: Int64[np.ndarray, "N1"]) -> Float32[np.ndarray, "S"]:
    """Undiscounted sum of rewards from each step to the end of its episode, accumulated in float64.

    Episode by episode rather than as differences of one long sum, so that a huge reward in one episode cannot
    blur the others.
    """
    result = np.empty(len(rewards), dtype=np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite; `build_dataset` reports it
        for start, stop in pairwise(starts.tolist()):
            result[start:stop] = np.cumsum(rewards[start:stop][::-1], dtype=np.float64)[::-1]
    return result


def _moments(observations: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and population deviation over the first axis, in two passes: large offsets cost no digits."""
    total = np.zeros(observations.shape[1:])
    for _, chunk in in_chunks(observations):
        total += chunk.sum(axis=0, dtype=np.float64)
    mean = total / len(observations)
    squares = np.zeros_like(mean)
    for _, chunk in in_chunks(observations):
        squares += np.square(chunk - mean).sum(axis=0)
    return mean.astype(np.float32), np.sqrt(squares / len(observations)).astype(np.float32)


def _infer_observation_space(observations: npt.NDArray[Any]) -> Space:
    low, high = (0.0, 255.0) if observations.dtype == np.uint8 else (-np.inf, np.inf)
    return Space(observations.shape[1:], str(observations.dtype), low, high)


def _infer_action_space(actions: npt.NDArray[Any]) -> Space:
    lows, highs = zip(*((chunk.min(axis=0), chunk.max(axis=0)) for _, chunk in in_chunks(actions)), strict=True)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    if actions.ndim == 1:
        return Space.discrete(int(high) + 1)
    if low.min() >= -1 and high.max() <= 1:
        return Space(actions.shape[1:], "float32", -1.0, 1.0)
    return Space.box(low, high, actions.shape[1:])


def _brief(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"
