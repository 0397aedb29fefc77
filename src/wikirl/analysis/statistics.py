"""What may be said of tables of scores, a row for each run (seed) and a column for each task.

Pure functions on arrays: where scores come from, what they were scored against and how a page shows them is not known
here. Letters: R runs · T tasks · S bootstrap samples · P points; N and M runs of two arms.

Every interval is made of runs drawn again within each task (stratified); tasks are what they are, so nothing is said of
tasks that are not in the table. A run's place in the table makes no difference, not even to the bootstrap.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", and its library
rliable 1.2.0, with which a test in `make test-extras` compares.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wikirl.analysis.intervals import (
    LEVEL,
    NUM_SAMPLES,
    Interval,
    blocks,
    check_sampling,
    checked,
    draw_runs,
    percentile_interval,
    percentiles,
    times_drawn,
    unbounded,
)
from wikirl.errors import ConfigError


@dataclass(frozen=True)
class Statistic:
    """One number of a table, `statistic(scores)`, that can be taken of many tables at once.

    Attributes:
        of_tables: The numbers of S tables of R runs and T tasks.
    """

    of_tables: Callable[[Float[np.ndarray, "S R T"]], Float[np.ndarray, "S"]]

    def __call__(self, scores: Float[np.ndarray, "R T"]) -> float:
        """The number of one table.

        Raises:
            ConfigError: the table is empty or a score is not finite.
        """
        return float(self.of_tables(checked(scores)[None])[0])


@Statistic
def mean(tables: Float[np.ndarray, "S R T"]) -> Float[np.ndarray, "S"]:
    """Mean over runs and tasks."""
    return np.asarray(tables.mean((1, 2)))


@Statistic
def deviation(tables: Float[np.ndarray, "S R T"]) -> Float[np.ndarray, "S"]:
    """Standard deviation over runs (divided by R − 1), averaged over tasks; NaN of a single run, which has none."""
    if tables.shape[1] < 2:
        return np.full(len(tables), np.nan)
    return np.asarray(tables.std(1, ddof=1).mean(1))


@Statistic
def median(tables: Float[np.ndarray, "S R T"]) -> Float[np.ndarray, "S"]:
    """Median over tasks of each task's mean over runs."""
    return np.asarray(np.median(tables.mean(1), axis=1))


@Statistic
def interquartile_mean(tables: Float[np.ndarray, "S R T"]) -> Float[np.ndarray, "S"]:
    """Mean of the middle half of all runs of all tasks; of n scores, ⌊n/4⌋ are left out at each end."""
    flat = tables.reshape(len(tables), -1)
    first, last = flat.shape[1] // 4, flat.shape[1] - flat.shape[1] // 4
    return np.asarray(np.partition(flat, (first, last - 1), axis=1)[:, first:last].mean(1))


def bootstrap_interval(
    scores: Float[np.ndarray, "R T"],
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
) -> Interval:
    """A statistic with its stratified-bootstrap percentile interval; of one run an unbounded one.

    Raises:
        ConfigError: the table is empty, a score is not finite, or level or number of samples make no sense.
    """
    check_sampling(num_samples, level)
    value, ordered = statistic(scores), np.sort(checked(scores), axis=0)
    if len(ordered) < 2:
        return unbounded(value, level)
    tasks = np.arange(ordered.shape[1])
    samples = [
        statistic.of_tables(ordered[draw_runs(rng, count, *ordered.shape), tasks])
        for count in blocks(num_samples, ordered.size)
    ]
    return percentile_interval(value, np.concatenate(samples), level)


def probability_of_improvement(x: Float[np.ndarray, "N T"], y: Float[np.ndarray, "M T2"]) -> float:
    """Probability that a run of `x` beats a run of `y`, averaged over tasks; a tie counts half.

    That is Mann and Whitney's U over N·M. The arms may have different numbers of runs.

    Raises:
        ConfigError: a table is empty, a score is not finite, or the tables have different numbers of tasks.
    """
    return float(_wins(*_same_tasks(x, y)).mean())


def improvement_interval(
    x: Float[np.ndarray, "N T"],
    y: Float[np.ndarray, "M T2"],
    *,
    rng: np.random.Generator,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
) -> Interval:
    """`probability_of_improvement` with its interval; runs of both arms are drawn independently.

    Raises:
        ConfigError: as `probability_of_improvement`, or level or number of samples make no sense.
    """
    check_sampling(num_samples, level)
    x, y = (np.sort(scores, axis=0) for scores in _same_tasks(x, y))
    wins = _wins(x, y)
    if min(len(x), len(y)) < 2:
        return unbounded(float(wins.mean()), level)
    samples = []
    for count in blocks(num_samples, max(x.size, y.size)):
        of_x, of_y = (times_drawn(draw_runs(rng, count, *scores.shape)) for scores in (x, y))
        samples.append(((of_x @ wins) * of_y).sum(2).mean(0) / (len(x) * len(y)))
    return percentile_interval(float(wins.mean()), np.concatenate(samples), level)


def performance_profile(scores: Float[np.ndarray, "R T"], thresholds: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
    """Share of all runs of all tasks that lie above each threshold (a score equal to it does not).

    Raises:
        ConfigError: the table is empty, or a score or a threshold is not finite.
    """
    return np.asarray(_above(checked(scores), thresholds).mean((0, 1)))


def profile_band(
    scores: Float[np.ndarray, "R T"],
    thresholds: Float[np.ndarray, "P"],
    *,
    rng: np.random.Generator,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """Lower and upper end of the profile at each threshold; each point has the level, the band as a whole has not.

    Raises:
        ConfigError: as `performance_profile`, or level or number of samples make no sense.
    """
    check_sampling(num_samples, level)
    ordered = np.sort(checked(scores), axis=0)
    above = _above(ordered, thresholds).transpose(1, 0, 2)
    if len(ordered) < 2:
        return np.full(len(thresholds), -np.inf), np.full(len(thresholds), np.inf)
    samples = [
        (times_drawn(draw_runs(rng, count, *ordered.shape)) @ above).sum(0) / ordered.size
        for count in blocks(num_samples, ordered.size)
    ]
    low, high = percentiles(np.concatenate(samples), level)
    return low, high


def _same_tasks(
    x: Float[np.ndarray, "N T1"], y: Float[np.ndarray, "M T2"]
) -> tuple[Float[np.ndarray, "N T"], Float[np.ndarray, "M T"]]:
    if x.shape[1] != y.shape[1]:
        raise ConfigError(
            f"expected two tables of the same tasks, found {x.shape[1]} and {y.shape[1]} columns; give both the same"
        )
    return checked(x), checked(y)


def _wins(x: Float[np.ndarray, "N T"], y: Float[np.ndarray, "M T"]) -> Float[np.ndarray, "T N M"]:
    """1 where the run of `x` is better, a half where they are equal."""
    better = np.subtract(x.T[:, :, None], y.T[:, None, :])
    return np.asarray(np.sign(better) / 2 + 0.5)


def _above(scores: Float[np.ndarray, "R T"], thresholds: Float[np.ndarray, "P"]) -> Float[np.ndarray, "R T P"]:
    return (scores[:, :, None] > checked(thresholds, "thresholds")).astype(np.float64)
