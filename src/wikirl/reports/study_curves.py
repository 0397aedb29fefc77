"""Learning curves and performance profiles of a study, with their intervals.

This file knows which runs make a line. It deliberately knows neither the formulas (`wikirl.analysis.statistics`) nor
how lines are drawn.
"""

from dataclasses import dataclass

import numpy as np

from wikirl.analysis import statistics
from wikirl.reports.study_scores import PRIMARY_RULE, Scores
from wikirl.reproducibility import generator

NUM_THRESHOLDS = 61  # of a profile


@dataclass(frozen=True)
class Curve:
    """Mean score against steps with a 95 % interval for each evaluation."""

    arm: str
    task: str
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


@dataclass(frozen=True)
class Profile:
    """Share of an arm's runs, of all tasks, that score above each threshold, with a 95 % band."""

    arm: str
    thresholds: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


def study_curves(scores: Scores) -> list[Curve]:
    """The learning curve of every arm on every task, over all seeds that it has there."""
    curves = []
    for task in scores.tasks:
        for arm in scores.arms:
            if seeds := scores.seeds([arm], [task]):
                curves.append(_curve(scores, arm, task, seeds))
    return curves


def _curve(scores: Scores, arm: str, task: str, seeds: tuple[int, ...]) -> Curve:
    values = scores.curves(arm, task, seeds)
    rng = generator(0, f"curve {arm} {task}")
    intervals = [
        statistics.bootstrap_interval(values[:, [place]], statistics.mean, rng=rng) for place in range(values.shape[1])
    ]
    steps = tuple(score.step for score in scores.results.of(arm, task)[seeds[0]].scores)
    several = len(seeds) > 1
    return Curve(
        arm, task, seeds, steps, tuple(one.value for one in intervals),
        tuple(one.low for one in intervals) if several else None,
        tuple(one.high for one in intervals) if several else None,
    )  # fmt: skip


def study_profiles(scores: Scores) -> list[Profile]:
    """The performance profile of every arm that has all tasks; none where tasks cannot be put together."""
    tasks = scores.tasks
    seeds = {arm: scores.seeds([arm], tasks) for arm in scores.arms}
    tables = {arm: scores.table(PRIMARY_RULE, arm, tasks, found) for arm, found in seeds.items() if found}
    if scores.apart is not None or not tables:
        return []
    low, high = (float(end) for end in np.percentile(np.concatenate(list(tables.values())), [0, 100]))
    thresholds = np.linspace(low - 1, high + 1, NUM_THRESHOLDS)
    profiles = []
    for arm, table in tables.items():
        share = statistics.performance_profile(table, thresholds)
        band = statistics.profile_band(table, thresholds, rng=generator(0, f"profile {arm}"))
        lower, upper = (tuple(end.tolist()) if len(table) > 1 else None for end in band)
        profiles.append(Profile(arm, tuple(thresholds.tolist()), tuple(share.tolist()), lower, upper))
    return profiles
