"""The numbers behind a check: what coordinates, actions, rewards and episodes of a dataset are like.

Everything large is read in chunks, so that ten million mapped steps need little memory. This file knows arithmetic. It
deliberately does not judge (`episode_checks`, `value_checks`) and knows nothing of pages.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64, Shaped

from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.growing import in_chunks
from wikirl.trajectories.jpeg import jpeg_quality

_SAMPLE = 100_000  # steps or episodes looked at where all of them would tell no more
_AT_BOUND = 1e-3  # of the range: what clipping, or the tanh of a saturated policy, leaves
_ROUNDING = 1e-4  # of the range: what lies this little outside was rounded
_NEAR_BEST = 0.1  # of the range of returns: what counts as close to the best
_FEWEST_STARTS = 20  # first observations that can outline where episodes start


@dataclass(frozen=True, eq=False)
class Columns:
    """Each coordinate over all steps, flattened; means and population deviations are accumulated in float64."""

    low: Float64[np.ndarray, "D"]
    high: Float64[np.ndarray, "D"]
    mean: Float64[np.ndarray, "D"]
    std: Float64[np.ndarray, "D"]

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """`[D]`, True where a coordinate never changes."""
        return np.asarray(self.low == self.high)


@dataclass(frozen=True, eq=False)
class ActionUse:
    """How vectors of actions use their space.

    Attributes:
        low: Lower bound of each coordinate; may be infinite.
        high: Upper bound.
        at_low: Share of steps within a thousandth of the range of the lower bound.
        at_high: Likewise for the upper bound.
        outside: Share of steps with a coordinate beyond its bounds by more than rounding.
        num_values: Distinct values of each coordinate among at most 100,000 steps.
    """

    low: Float64[np.ndarray, "A"]
    high: Float64[np.ndarray, "A"]
    at_low: Float64[np.ndarray, "A"]
    at_high: Float64[np.ndarray, "A"]
    outside: float
    num_values: Int64[np.ndarray, "A"]


@dataclass(frozen=True, eq=False)
class Profile:
    """What the checks look at besides lengths, returns and ends.

    Attributes:
        observations: Their coordinates.
        usual_observations: Between which values nine in ten of each coordinate lie; None for frames.
        equal_observations: Pairs of coordinates that are equal at every step; none are looked for in pixels.
        actions: Coordinates of actions; choices count as one coordinate.
        action_use: For vectors of actions.
        choices: How often each choice was taken, for discrete actions.
        rewards: One coordinate.
        nonzero_rewards: Share of steps with a reward.
        only_last_rewards: Whether all rewards come at last steps of episodes.
        repeats: Episodes of more than one step that repeat an earlier one: (episode, the earlier one).
        hidden_starts: Steps within episodes at which the observation jumps to where episodes start; None if the data
            cannot tell.
        jpeg_quality: Quality at which sampled frames were JPEG-encoded; None if they do not look like it.
    """

    observations: Columns
    usual_observations: tuple[Float64[np.ndarray, "O"], Float64[np.ndarray, "O"]] | None
    equal_observations: tuple[tuple[int, int], ...]
    actions: Columns
    action_use: ActionUse | None
    choices: Int64[np.ndarray, "n"] | None
    rewards: Columns
    nonzero_rewards: float
    only_last_rewards: bool
    repeats: Int64[np.ndarray, "R 2"]
    hidden_starts: Int64[np.ndarray, "H"] | None
    jpeg_quality: int | None


def profile(dataset: TrajectoryDataset) -> Profile:
    """Look at all of a dataset, several times, a chunk at a time."""
    observations, actions = column_numbers(dataset.observations), column_numbers(dataset.actions)
    discrete = dataset.action_space.n
    num_nonzero = int(np.count_nonzero(dataset.rewards))
    last = np.asarray(dataset.rewards[dataset.starts[1:] - 1])
    frames = dataset.observations.ndim > 2
    usual = None if frames else np.quantile(_sample(dataset.observations, _SAMPLE), (0.05, 0.95), axis=0).astype(float)
    return Profile(
        observations=observations,
        usual_observations=None if usual is None else (usual[0], usual[1]),
        equal_observations=() if frames else _equal_columns(dataset.observations, observations),
        actions=actions,
        action_use=_action_use(dataset) if discrete is None else None,
        choices=None if discrete is None else _choices(dataset.actions, discrete),
        rewards=column_numbers(dataset.rewards),
        nonzero_rewards=num_nonzero / dataset.num_steps,
        only_last_rewards=num_nonzero > 0 and int(np.count_nonzero(last)) == num_nonzero,
        repeats=repeated_episodes(dataset),
        hidden_starts=hidden_starts(dataset),
        jpeg_quality=jpeg_quality(_sample(dataset.observations, 64))
        if frames and dataset.observations.dtype == np.uint8
        else None,
    )


def equal_returns(dataset: TrajectoryDataset) -> bool:
    """Whether all episodes return the same, up to the rounding of sums of float32."""
    returns = dataset.returns.astype(np.float64)
    return bool(np.ptp(returns) <= 1e-5 * np.abs(returns).max())


def near_best(dataset: TrajectoryDataset) -> npt.NDArray[np.bool_]:
    """`[N]`, True for episodes within a tenth of the range of returns below the best."""
    returns = dataset.returns.astype(np.float64)
    return np.asarray(returns >= returns.max() - _NEAR_BEST * np.ptp(returns))


def column_numbers(values: Shaped[np.ndarray, "S *D"]) -> Columns:
    """Extremes, mean and deviation of each coordinate, in two passes: large offsets cost no digits."""
    size = int(np.prod(values.shape[1:]))
    low, high, total, squares = np.full(size, np.inf), np.full(size, -np.inf), np.zeros(size), np.zeros(size)
    for _, chunk in in_chunks(values):
        rows = chunk.reshape(len(chunk), size)
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
        total += rows.sum(axis=0, dtype=np.float64)
    mean = total / len(values)
    for _, chunk in in_chunks(values):
        squares += np.square(chunk.reshape(len(chunk), size) - mean).sum(axis=0)
    return Columns(low, high, mean, np.sqrt(squares / len(values)))


def repeated_episodes(dataset: TrajectoryDataset) -> Int64[np.ndarray, "R 2"]:
    """Episodes of more than one step that equal an earlier one to the bit: rows of (episode, the earlier one).

    Only those that share length and return with another are hashed, which spares most data the reading.
    """
    returns = np.ascontiguousarray(dataset.returns, dtype=np.float32).view(np.uint32)
    key = (dataset.lengths.astype(np.uint64) << np.uint64(32)) | returns
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero((counts[inverse] > 1) & (dataset.lengths > 1))
    digests = np.fromiter((_digest(dataset, episode) for episode in candidates.tolist()), np.uint64, len(candidates))
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    pairs = np.stack([candidates, candidates[first[inverse]]], axis=1)
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]])


def hidden_starts(dataset: TrajectoryDataset) -> npt.NDArray[np.int64] | None:
    """Steps within episodes that look like the first of another: borders that the log lost.

    Where first observations lie (their range, widened by a tenth) is a place that most tasks never come back to, or
    walk back to. A step that enters it from further off than its width, and by a change of some coordinate beyond 99.9
    per cent of its changes, looks like a start. Neither alone would do: simulators jump on contact, too.

    Returns:
        Flat indices, or None if the data cannot tell: frames, too few episodes, or a place that is mostly entered
        without a jump.
    """
    observations = dataset.observations
    if observations.ndim > 2 or dataset.num_episodes < _FEWEST_STARTS:
        return None
    firsts = observations[_sample(dataset.starts[:-1], _SAMPLE)].astype(np.float64)
    low, high, width = firsts.min(axis=0), firsts.max(axis=0), np.ptp(firsts, axis=0)
    entered = [np.zeros(0, dtype=np.int64)]
    jumped = [np.zeros(0, dtype=bool)]
    usual = _usual_change(dataset)
    for first, chunk in in_chunks(observations):
        steps = np.setdiff1d(
            first + _rows_within(chunk, low - 0.1 * width, high + 0.1 * width), dataset.starts, assume_unique=True
        )
        before = observations[steps - 1].astype(np.float64)
        far = ((before < low - 1.1 * width) | (before > high + 1.1 * width)).any(axis=1)
        entered.append(steps[far])
        jumped.append((np.abs(observations[steps[far]] - before[far]) > usual).any(axis=1))
    every, jump = np.concatenate(entered), np.concatenate(jumped)
    return every[jump] if 2 * jump.sum() >= len(every) else None


def _rows_within(
    rows: npt.NDArray[Any], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Indices of rows of which every coordinate lies within bounds; few survive the first coordinates."""
    found = np.arange(len(rows))
    for column in range(rows.shape[1]):
        values = rows[found, column]
        found = found[(values >= low[column]) & (values <= high[column])]
    return found


def _usual_change(dataset: TrajectoryDataset) -> npt.NDArray[np.float64]:
    """What 99.9 per cent of a coordinate's changes from step to step stay under; infinite if they are all zero."""
    steps = _sample(np.arange(1, dataset.num_steps), _SAMPLE)
    steps = np.setdiff1d(steps, dataset.starts, assume_unique=True)
    if len(steps) == 0:
        return np.full(dataset.observations.shape[1], np.inf)
    before = dataset.observations[steps - 1].astype(np.float64)
    changes = np.quantile(np.abs(dataset.observations[steps] - before), 0.999, axis=0)
    return np.where(changes > 0, changes, np.inf)


def _equal_columns(values: npt.NDArray[Any], numbers: Columns) -> tuple[tuple[int, int], ...]:
    """Pairs of changing coordinates that are equal throughout; those with other numbers cannot be."""
    alike = defaultdict(list)
    for column in np.flatnonzero(~numbers.constant).tolist():
        alike[numbers.low[column], numbers.high[column], numbers.mean[column]].append(column)
    pairs = [pair for columns in alike.values() for pair in combinations(columns, 2)]
    for _, chunk in in_chunks(values):
        pairs = [(one, other) for one, other in pairs if np.array_equal(chunk[:, one], chunk[:, other])]
        if not pairs:
            break
    return tuple(pairs)


def _action_use(dataset: TrajectoryDataset) -> ActionUse:
    space, actions = dataset.action_space, dataset.actions
    low, high = (np.broadcast_to(np.asarray(bound, np.float64), actions.shape[1:]) for bound in (space.low, space.high))
    extent = np.where(np.isfinite(high) & np.isfinite(low), high, 0) - np.where(
        np.isfinite(high) & np.isfinite(low), low, 0
    )
    at_low, at_high = (np.zeros(actions.shape[1], dtype=np.int64) for _ in range(2))
    outside = 0
    for _, chunk in in_chunks(actions):
        at_low += (chunk <= low + _AT_BOUND * extent).sum(axis=0)
        at_high += (chunk >= high - _AT_BOUND * extent).sum(axis=0)
        beyond = (chunk < low - _ROUNDING * extent) | (chunk > high + _ROUNDING * extent)
        outside += int(beyond.any(axis=1).sum())
    sample = _sample(actions, _SAMPLE)
    num_values = np.array([len(np.unique(sample[:, column])) for column in range(actions.shape[1])], dtype=np.int64)
    steps = dataset.num_steps
    return ActionUse(low, high, at_low / steps, at_high / steps, outside / steps, num_values)


def _choices(actions: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(n, dtype=np.int64)
    for _, chunk in in_chunks(actions):
        counts += np.bincount(chunk, minlength=n)
    return counts


def _digest(dataset: TrajectoryDataset, episode: int) -> int:
    digest = hashlib.blake2b(digest_size=8)
    start, stop = dataset.starts[episode : episode + 2].tolist()
    for array in (dataset.observations, dataset.actions, dataset.rewards):
        digest.update(np.ascontiguousarray(array[start:stop]).data)
    return int.from_bytes(digest.digest())


def _sample(values: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    """At most that many, evenly spread; always the same ones."""
    return np.asarray(values[:: -(-len(values) // most)])
