"""Two arms that share seeds: what the differences say, and what they could have said.

Run r of both arms had the same seed, so the same batches, the same new layers and the same evaluation episodes; the
difference of the two is less noisy than either. Letters: R pairs of runs · T tasks · S bootstrap samples.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wikirl.analysis.intervals import (
    LEVEL,
    NUM_SAMPLES,
    Interval,
    blocks,
    check_sampling,
    check_share,
    checked,
    draw_runs,
    percentile_interval,
    unbounded,
)
from wikirl.analysis.student import detectable_shift, hedges_correction, student_quantile
from wikirl.errors import ConfigError

NO_SPREAD = 1e-12
"""Times the largest score: deviations up to it are rounding, not spread."""


@dataclass(frozen=True)
class PairedDifference:
    """By how much one arm scored more than the other, run by run.

    Attributes:
        mean: Mean difference over runs and tasks, with its stratified-bootstrap interval.
        by_task: The same for each task alone.
        effect_size: Mean difference over the deviation of the differences within tasks (variances averaged over
            tasks, T·(R − 1) degrees of freedom), with Hedges' correction; None without spread or with fewer than two
            degrees of freedom.
        num_pairs: Pairs in all, R·T.
    """

    mean: Interval
    by_task: tuple[Interval, ...]
    effect_size: float | None
    num_pairs: int


def paired_difference(
    x: Float[np.ndarray, "R T"],
    y: Float[np.ndarray, "R2 T2"],
    *,
    rng: np.random.Generator,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
) -> PairedDifference:
    """By how much `x` is above `y`, paired by row and column; pairs are drawn again within each task.

    Raises:
        ConfigError: the tables differ in shape, are empty or hold a score that is not finite, or level or number of
            samples make no sense.
    """
    check_sampling(num_samples, level)
    differences = np.sort(_differences(x, y), axis=0)
    num_runs, num_tasks = differences.shape
    values = differences.mean(0)
    if num_runs < 2:
        by_task = tuple(unbounded(float(value), level) for value in values)
        return PairedDifference(unbounded(float(values.mean()), level), by_task, None, num_tasks)
    tasks = np.arange(num_tasks)
    samples = np.concatenate(
        [
            differences[draw_runs(rng, count, num_runs, num_tasks), tasks].mean(1)
            for count in blocks(num_samples, differences.size)
        ]
    )
    return PairedDifference(
        percentile_interval(float(values.mean()), samples.mean(1), level),
        tuple(percentile_interval(float(values[t]), samples[:, t], level) for t in tasks),
        _effect_size(differences, _rounding(x, y)),
        differences.size,
    )


def student_interval(x: Float[np.ndarray, "R T"], y: Float[np.ndarray, "R2 T2"], *, level: float = LEVEL) -> Interval:
    """The mean paired difference with an interval by Student's t, unbounded for a single pair.

    Where differences are about normal it covers what it says with as few as 3 pairs; the bootstrap's does not. Tasks
    may differ in spread; degrees of freedom after Welch and Satterthwaite.

    Raises:
        ConfigError: as `paired_difference`.
    """
    check_share(level, "a level")
    differences = _differences(x, y)
    value = float(differences.mean())
    if len(differences) < 2:
        return unbounded(value, level)
    error, degrees = _standard_error(differences, _rounding(x, y))
    reach = error * student_quantile((1 + level) / 2, degrees)
    return Interval(value, value - reach, value + reach, level, 0)


def detectable_gap(
    x: Float[np.ndarray, "R T"], y: Float[np.ndarray, "R2 T2"], *, power: float = 0.8, level: float = LEVEL
) -> float:
    """The smallest true mean difference over all tasks that this design would have shown with this power.

    "Shown" is a two-sided t test of the paired differences at size 1 − `level`, with the spread that was observed; a
    smaller true gap would more often than 1 − `power` have been missed. In units of the scores; inf for a single pair,
    0 where the differences have no spread.

    Raises:
        ConfigError: as `paired_difference`, or `power` is not between 1 − `level` and 1.
    """
    check_share(level, "a level")
    if not 1 - level < power < 1:
        raise ConfigError(f"expected a power between {1 - level:.3g} (chance alone) and 1, found {power}; 0.8 is usual")
    differences = _differences(x, y)
    if len(differences) < 2:
        return math.inf
    error, degrees = _standard_error(differences, _rounding(x, y))
    return error * detectable_shift(degrees, power=power, level=level)


def _differences(x: Float[np.ndarray, "R T"], y: Float[np.ndarray, "R2 T2"]) -> Float[np.ndarray, "R T"]:
    if x.shape != y.shape:
        raise ConfigError(
            f"expected pairs of runs, found tables of {x.shape} and {y.shape} (runs, tasks); keep the seeds both have"
        )
    return np.asarray(checked(x) - checked(y))


def _rounding(x: Float[np.ndarray, "R T"], y: Float[np.ndarray, "R T"]) -> float:
    return NO_SPREAD * float(max(np.abs(x).max(), np.abs(y).max()))


def _effect_size(differences: Float[np.ndarray, "R T"], rounding: float) -> float | None:
    degrees = float(differences.shape[1] * (len(differences) - 1))
    pooled = math.sqrt(differences.var(0, ddof=1).mean())
    if pooled <= rounding or degrees < 2:
        return None
    return float(differences.mean()) / pooled * hedges_correction(degrees)


def _standard_error(differences: Float[np.ndarray, "R T"], rounding: float) -> tuple[float, float]:
    """Of the mean over runs and tasks, with its degrees of freedom (1 where there is no spread)."""
    num_runs, num_tasks = differences.shape
    squares = differences.var(0, ddof=1) / num_runs
    total = float(squares.sum())
    if math.sqrt(total) <= rounding:
        return 0.0, 1.0
    return math.sqrt(total) / num_tasks, total**2 / float((squares**2).sum() / (num_runs - 1))
