"""How long until a threshold is reached, and what to make of runs that never reach it.

A run that never crossed is censored: all that is known is that its time is longer than it was watched. Throwing such
runs away, or counting their last step as a crossing, makes a slow arm look fast. Kaplan and Meier's estimate uses
exactly what is known. Medians may not exist then, so arms are compared by restricted means: the mean of
min(time, horizon); survival.py has the estimates.

Times are training steps or seconds, whichever the caller gives. Letters: R runs · P evaluations of a run · S bootstrap
samples · E distinct times.

Source: Kaplan and Meier 1958; Royston and Parmar 2013, "Restricted mean survival time".
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real

from wikirl.analysis.intervals import (
    LEVEL,
    NUM_SAMPLES,
    Interval,
    blocks,
    check_sampling,
    checked,
    draw_runs,
    percentile_interval,
    times_drawn,
    unbounded,
)
from wikirl.analysis.survival import check_horizon, checked_times, restricted_means
from wikirl.errors import ConfigError

# When each evaluation took place: the same for all runs (steps), or a row for each run (seconds).
EvaluationTimes = Real[np.ndarray, "P"] | Real[np.ndarray, "R P"]


@dataclass(frozen=True)
class TimeRatio:
    """How many times longer arm b takes than arm a; above 1 means that a is faster.

    Attributes:
        ratio: Restricted mean of b over that of a, with a bootstrap interval over the runs of each arm.
        mean_a: Restricted mean time of a, offset included.
        mean_b: Likewise of b.
        num_reached_a: Runs of a that reached the threshold by the horizon.
        num_reached_b: Likewise of b.
        num_runs_a: All runs of a.
        num_runs_b: All runs of b.
        horizon: Where watching ended.
    """

    ratio: Interval
    mean_a: float
    mean_b: float
    num_reached_a: int
    num_reached_b: int
    num_runs_a: int
    num_runs_b: int
    horizon: float


def first_crossing(
    steps: EvaluationTimes, scores: Float[np.ndarray, "R P"], threshold: float
) -> tuple[Float[np.ndarray, "R"], Bool[np.ndarray, "R"]]:
    """When each run was first seen at or above the threshold.

    Returns:
        Times, and whether the threshold was reached; where it was not, the time is the run's last one (censored).

    Raises:
        ConfigError: no runs or evaluations, a value that is not finite, or times that do not ascend.
    """
    if not math.isfinite(threshold):
        raise ConfigError(f"expected a finite threshold, found {threshold}; 90 % of scratch's final mean is usual")
    return _first(_times_of(steps, scores), checked(scores) >= threshold)


def own_maximum_rule(
    steps: EvaluationTimes, scores: Float[np.ndarray, "R P"], within: float = 2.0
) -> Float[np.ndarray, "R"]:
    """When each run was first within `within` points of its own best evaluation.

    It flatters runs that learn little: a run that stays at the start's level "converges" at once. For comparison with
    published figures only.

    Source: `calculate_statistics` in `code/utils.py` of the paper's follow-up, with 2.0 normalised points.

    Raises:
        ConfigError: as `first_crossing`, or `within` is negative.
    """
    if not within >= 0:
        raise ConfigError(f"expected a distance of at least 0 points from the best, found {within}; 2.0 is published")
    scores = checked(scores)
    return _first(_times_of(steps, scores), scores >= scores.max(1, keepdims=True) - within)[0]


def time_ratio(  # noqa: PLR0913 - two columns for each arm, and what every interval takes
    times_a: Float[np.ndarray, "N"],
    reached_a: Bool[np.ndarray, "N"],
    times_b: Float[np.ndarray, "M"],
    reached_b: Bool[np.ndarray, "M"],
    *,
    horizon: float,
    rng: np.random.Generator,
    offset_a: float = 0.0,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
) -> TimeRatio:
    """How many times longer b (scratch) takes than a (the arm): the ratio of restricted mean times.

    Restricted means stop at the horizon, so where many runs never cross, the ratio is nearer to 1 than that of the true
    times; both counts stand beside it. It is unbounded where an arm has a single run, and where neither has a run that
    crossed. An arm whose runs all have one time (or never crossed) adds no spread: the interval is then too narrow.

    Args:
        times_a: When the runs of a reached the threshold, or until when they were watched.
        reached_a: Whether they did.
        times_b: Likewise of b.
        reached_b: Likewise of b.
        horizon: Where both arms stop being watched, on the clock of `times` (without the offset): the last evaluation's
            step, or in seconds the earliest end of a run.
        rng: Draws the bootstrap samples, runs within each arm.
        offset_a: What a has spent before its clock began (pre-training); added to its restricted mean, which is what
            adding it to all its times and to its horizon comes to.
        num_samples: Bootstrap samples.
        level: Nominal coverage.

    Raises:
        ConfigError: as `kaplan_meier`; a time of 0, which leaves no ratio; a horizon beyond what an arm was watched; a
            negative offset; or level or number of samples make no sense.
    """
    check_sampling(num_samples, level)
    check_horizon(horizon)
    if not 0 <= offset_a < math.inf:
        raise ConfigError(f"expected an offset of at least 0 on the same clock as the times, found {offset_a}")
    times_a, reached_a = _watched_until(times_a, reached_a, horizon, "the first arm")
    times_b, reached_b = _watched_until(times_b, reached_b, horizon, "the second arm")
    mean_a = offset_a + float(restricted_means(np.ones((1, len(times_a))), times_a, reached_a, horizon)[0])
    mean_b = float(restricted_means(np.ones((1, len(times_b))), times_b, reached_b, horizon)[0])
    counts = int(reached_a.sum()), int(reached_b.sum()), len(times_a), len(times_b)
    if min(counts[2:]) < 2 or max(counts[:2]) == 0:
        return TimeRatio(unbounded(mean_b / mean_a, level), mean_a, mean_b, *counts, horizon)
    samples = []
    for count in blocks(num_samples, max(counts[2:])):
        drawn_a, drawn_b = (times_drawn(draw_runs(rng, count, num_runs, 1))[0] for num_runs in counts[2:])
        means_a = offset_a + restricted_means(drawn_a, times_a, reached_a, horizon)
        samples.append(restricted_means(drawn_b, times_b, reached_b, horizon) / means_a)
    interval = percentile_interval(mean_b / mean_a, np.concatenate(samples), level)
    return TimeRatio(interval, mean_a, mean_b, *counts, horizon)


def _first(
    times: Float[np.ndarray, "R P"], crossed: Bool[np.ndarray, "R P"]
) -> tuple[Float[np.ndarray, "R"], Bool[np.ndarray, "R"]]:
    reached = np.asarray(crossed.any(1))
    places = np.where(reached, crossed.argmax(1), times.shape[1] - 1)
    return times[np.arange(len(times)), places], reached


def _times_of(steps: EvaluationTimes, scores: Float[np.ndarray, "R P"]) -> Float[np.ndarray, "R P"]:
    times = np.broadcast_to(checked(steps.astype(np.float64), "times of evaluations"), scores.shape)
    if not (np.diff(times, axis=1) > 0).all():
        raise ConfigError("expected evaluations in ascending order of time, found two that are not; sort them")
    return times


def _watched_until(
    times: Float[np.ndarray, "R"], reached: Bool[np.ndarray, "R"], horizon: float, arm: str
) -> tuple[Float[np.ndarray, "R"], Bool[np.ndarray, "R"]]:
    """What is known when watching ends at the horizon; sorted, so that a run's place makes no difference."""
    times = checked_times(times)
    if not times.all():
        raise ConfigError(f"expected positive times, found a run of {arm} at 0; leave out evaluations before training")
    if times.max() < horizon and not reached[times == times.max()].all():
        raise ConfigError(
            f"expected a horizon until which runs were watched, found {horizon:g} while {arm} was watched until "
            f"{times.max():g}; give a smaller horizon"
        )
    order = np.lexsort((reached, times))
    return np.minimum(times, horizon)[order], (reached & (times <= horizon))[order]
