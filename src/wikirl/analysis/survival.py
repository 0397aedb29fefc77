"""Kaplan and Meier's estimate, for one set of runs or for many resampled ones at once.

Knows times and whether something happened then; what happened is the caller's business. Letters: R runs · S bootstrap
samples · E distinct times.

Source: Kaplan and Meier 1958, "Nonparametric estimation from incomplete observations"; Royston and Parmar 2013,
"Restricted mean survival time".
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wikirl.analysis.intervals import checked
from wikirl.errors import ConfigError

ROUNDING = 1e-12
"""A share of a half that was multiplied together may come out this much above it."""


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """Share of runs that have not reached the threshold: 1 before `times[0]`, then a step down at each time.

    Attributes:
        times: Distinct times at which runs reached it, ascending; empty if none did.
        remaining: Share that has not, from that time on.
    """

    times: Float[np.ndarray, "E"]
    remaining: Float[np.ndarray, "E"]


def kaplan_meier(times: Float[np.ndarray, "R"], reached: Bool[np.ndarray, "R"]) -> SurvivalCurve:
    """Share of runs that have not reached the threshold, at each time at which one did.

    A run that is censored at the very time at which another crosses still counts as watched then.

    Raises:
        ConfigError: no runs, or a time that is negative or not finite.
    """
    times = checked_times(times)
    events = np.unique(times[reached])
    return SurvivalCurve(events, _remaining(np.ones((1, len(times))), times, reached, events)[0])


def median_time(curve: SurvivalCurve) -> float | None:
    """The first time at which at most half of the runs have not reached the threshold; None if that never came."""
    below = curve.remaining <= 0.5 + ROUNDING
    return float(curve.times[below.argmax()]) if below.any() else None


def restricted_mean(curve: SurvivalCurve, horizon: float) -> float:
    """Mean of min(time, horizon): the area under the curve up to the horizon.

    Behind the last crossing the curve stays level, so `horizon` must not lie beyond what was watched; `time_ratio`
    checks that.

    Raises:
        ConfigError: the horizon is not a positive finite number.
    """
    check_horizon(horizon)
    return float(_areas(curve.times, curve.remaining[None], horizon)[0])


def restricted_means(
    weights: Float[np.ndarray, "S R"], times: Float[np.ndarray, "R"], reached: Bool[np.ndarray, "R"], horizon: float
) -> Float[np.ndarray, "S"]:
    """`restricted_mean` of S resampled sets of runs.

    Args:
        weights: How often each run is in each set.
        times: When each run reached the threshold, or until when it was watched.
        reached: Whether it did.
        horizon: End of the area.
    """
    events = np.unique(times[reached])
    return _areas(events, _remaining(weights, times, reached, events), horizon)


def checked_times(times: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
    """The times in double precision.

    Raises:
        ConfigError: there are none, or one is negative or not finite.
    """
    times = checked(times, "times")
    if (times < 0).any():
        raise ConfigError(f"expected times from 0 on, found {times.min():g}; count from the start of training")
    return times


def check_horizon(horizon: float) -> None:
    """Refuse a horizon that is none.

    Raises:
        ConfigError: it is not a positive finite number.
    """
    if not 0 < horizon < math.inf:
        raise ConfigError(f"expected a positive horizon, found {horizon}; the last evaluation's time is usual")


def _remaining(
    weights: Float[np.ndarray, "S R"],
    times: Float[np.ndarray, "R"],
    reached: Bool[np.ndarray, "R"],
    events: Float[np.ndarray, "E"],
) -> Float[np.ndarray, "S E"]:
    """The curves after each event: a product over events of the share of those still watched that did not cross."""
    at_risk = weights @ (times[:, None] >= events).astype(np.float64)
    crossed = weights @ ((times[:, None] == events) & reached[:, None]).astype(np.float64)
    return np.cumprod(1 - crossed / np.maximum(at_risk, 1), axis=1)


def _areas(
    events: Float[np.ndarray, "E"], remaining: Float[np.ndarray, "S E"], horizon: float
) -> Float[np.ndarray, "S"]:
    edges = np.concatenate([[0.0], np.minimum(events, horizon), [horizon]])
    heights = np.concatenate([np.ones((len(remaining), 1)), remaining], axis=1)
    return np.asarray(heights @ np.diff(edges))
