"""A study's scores as tables, where each arm stands in them, and how it compares with its reference.

This file knows which runs belong together: the same task, the same seeds, one scale. It deliberately knows neither the
formulas (`wikirl.analysis`) nor how anything is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from wikirl.analysis import statistics
from wikirl.analysis.intervals import Interval
from wikirl.analysis.paired import detectable_gap, paired_difference, student_interval
from wikirl.errors import ConfigError
from wikirl.evaluation.protocol import CheckpointRule, require_same_protocol
from wikirl.reports.results import RunResult, StudyResults
from wikirl.reproducibility import generator

RULES: tuple[CheckpointRule, ...] = ("mean_last_four", "last", "best")
PRIMARY_RULE: CheckpointRule = "mean_last_four"
LAST_FEW = 4  # evaluations, as in `evaluation.scores`

Scale = Literal["normalized", "return"]
Outcome = Literal["better", "worse", "not shown", "one seed"]


@dataclass(frozen=True)
class Level:
    """Where an arm stands.

    Attributes:
        arm: Which.
        task: On which task; None for all together.
        seeds: Those that count; for all tasks together, those that every task has.
        mean: Mean over seeds (and tasks).
        deviation: Over seeds, averaged over tasks; None for a single seed.
        median: Over seeds; for all tasks together, over tasks of the means.
        iqm: Interquartile mean with its interval.
    """

    arm: str
    task: str | None
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None
    median: float
    iqm: Interval


@dataclass(frozen=True)
class Comparison:
    """An arm against another, paired by seed.

    Attributes:
        arm: Which.
        against: Compared with which.
        tasks: On one task, or on all that both have, each weighing the same.
        seeds: Those that both have on all of these tasks.
        difference: Mean difference with its bootstrap interval.
        student: The same with an interval by Student's t, which few seeds do not make too narrow.
        effect_size: Mean difference over the deviation of differences, after Hedges; None where there is none.
        improvement: Probability that a run of the arm beats one of the other.
        detectable: The gap that this design would have shown with 80 % power; None for a single seed.
        outcome: `better` or `worse` only where both intervals leave out 0.
    """

    arm: str
    against: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    difference: Interval
    student: Interval
    effect_size: float | None
    improvement: Interval
    detectable: float | None
    outcome: Outcome


@dataclass(frozen=True)
class RuleStudy:
    """Levels and comparisons under one rule for choosing the checkpoint."""

    rule: CheckpointRule
    levels: tuple[Level, ...]
    comparisons: tuple[Comparison, ...]

    def level(self, arm: str, task: str | None) -> Level | None:
        """The level of an arm on a task, or on all together (None)."""
        return next((one for one in self.levels if (one.arm, one.task) == (arm, task)), None)

    def comparison(self, arm: str, task: str | None) -> Comparison | None:
        """The comparison of an arm on a task, or on all together (None)."""
        return next(
            (
                one
                for one in self.comparisons
                if one.arm == arm and (len(one.tasks) > 1 if task is None else one.tasks == (task,))
            ),
            None,
        )


class Scores:
    """The scores of a study as tables, a row per seed and a column per task."""

    def __init__(self, results: StudyResults) -> None:
        """Look up which tasks have runs, and on what scale they can be compared."""
        self.results = results
        self.tasks = tuple(task.name for task in results.tasks if any(run.task == task.name for run in results.runs))
        self.arms = tuple(arm.name for arm in results.arms if any(run.arm == arm.name for run in results.runs))
        self.scales: dict[str, Scale] = {task: self._scale(task) for task in self.tasks}
        self.apart = self._why_apart()

    def seeds(self, arms: Sequence[str], tasks: Sequence[str]) -> tuple[int, ...]:
        """Those that every one of the arms has on every one of the tasks."""
        found = [set(self.results.of(arm, task)) for arm in arms for task in tasks]
        return tuple(sorted(set.intersection(*found))) if found else ()

    def table(
        self, rule: CheckpointRule, arm: str, tasks: Sequence[str], seeds: Sequence[int]
    ) -> Float[np.ndarray, "R T"]:
        """Scores under a rule: normalised where a task has a reference, else returns in environment units."""
        return np.array([[self._number(rule, self.results.of(arm, task)[seed]) for task in tasks] for seed in seeds])

    def curves(self, arm: str, task: str, seeds: Sequence[int]) -> Float[np.ndarray, "R P"]:
        """All evaluations of some runs."""
        runs = self.results.of(arm, task)
        return np.array([self._values(runs[seed]) for seed in seeds])

    def _number(self, rule: CheckpointRule, run: RunResult) -> float:
        values = self._values(run)
        match rule:
            case "last":
                return values[-1]
            case "mean_last_four":
                return float(np.mean(values[-LAST_FEW:]))
            case "best":
                return max(values)

    def _values(self, run: RunResult) -> list[float]:
        normalized = [score.normalized for score in run.scores if score.normalized is not None]
        if self.scales[run.task] == "normalized":
            return normalized
        return [score.return_mean for score in run.scores]

    def _scale(self, task: str) -> Scale:
        known = [score.normalized is not None for run in self.results.runs if run.task == task for score in run.scores]
        return "normalized" if all(known) else "return"

    def _why_apart(self) -> str | None:
        """Why scores of several tasks cannot be put together; None if they can."""
        raw = [task for task, scale in self.scales.items() if scale == "return"]
        if raw and len(self.tasks) > 1:
            return f"no reference score is known for {', '.join(raw)}, so returns of several tasks have no common unit"
        families: dict[str, list[RunResult]] = {}
        for run in self.results.runs:
            families.setdefault(run.protocol.environment_id.rpartition("/")[0], []).append(run)
        shown = ("environment_id", "dataset_environment", "reference", "target_return", "version_warning")
        try:
            for runs in families.values():  # versions count within a family of environments
                require_same_protocol([run.protocol for run in runs], may_differ=shown)
            anything = ("environment_version",)
            require_same_protocol([run.protocol for run in self.results.runs], may_differ=shown + anything)
        except ConfigError as error:
            return str(error)
        return None


def study_rule(scores: Scores, rule: CheckpointRule) -> RuleStudy:
    """Levels of all arms and all comparisons under one rule."""
    levels, comparisons = [], []
    for arm in scores.arms:
        groups: list[tuple[str | None, Sequence[str]]] = [(task, [task]) for task in scores.tasks]
        if len(scores.tasks) > 1 and scores.apart is None:
            groups.append((None, scores.tasks))
        levels += [_level(scores, rule, arm, task, tasks) for task, tasks in groups if scores.seeds([arm], tasks)]
        against = scores.results.arm(arm).against
        if against is not None:
            comparisons += compare(scores, rule, arm, against)
    return RuleStudy(rule, tuple(levels), tuple(comparisons))


def compare(scores: Scores, rule: CheckpointRule, arm: str, against: str) -> list[Comparison]:
    """An arm against another on each task that both have, and on all of these together if they can be."""
    tasks = [task for task in scores.tasks if scores.seeds([arm, against], [task])]
    groups = [[task] for task in tasks]
    if len(tasks) > 1 and scores.apart is None and scores.seeds([arm, against], tasks):
        groups.append(tasks)
    return [_comparison(scores, rule, arm, against, group) for group in groups]


def _level(scores: Scores, rule: CheckpointRule, arm: str, task: str | None, tasks: Sequence[str]) -> Level:
    seeds = scores.seeds([arm], tasks)
    table = scores.table(rule, arm, tasks, seeds)
    rng = generator(0, f"level {rule} {arm} {task}")
    return Level(
        arm, task, seeds,
        mean=statistics.mean(table),
        deviation=statistics.deviation(table) if len(seeds) > 1 else None,
        median=statistics.median(table) if task is None else float(np.median(table)),
        iqm=statistics.bootstrap_interval(table, statistics.interquartile_mean, rng=rng),
    )  # fmt: skip


def _comparison(scores: Scores, rule: CheckpointRule, arm: str, against: str, tasks: Sequence[str]) -> Comparison:
    seeds = scores.seeds([arm, against], tasks)
    ours, theirs = (scores.table(rule, name, tasks, seeds) for name in (arm, against))
    rng = generator(0, f"comparison {rule} {arm} {against} {' '.join(tasks)}")
    paired = paired_difference(ours, theirs, rng=rng)
    student = student_interval(ours, theirs)
    return Comparison(
        arm, against, tuple(tasks), seeds, paired.mean, student, paired.effect_size,
        improvement=statistics.improvement_interval(ours, theirs, rng=rng),
        detectable=detectable_gap(ours, theirs) if len(seeds) > 1 else None,
        outcome=_outcome(paired.mean, student),
    )  # fmt: skip


def _outcome(difference: Interval, student: Interval) -> Outcome:
    if not difference.is_bounded:
        return "one seed"
    if min(difference.low, student.low) > 0:
        return "better"
    return "worse" if max(difference.high, student.high) < 0 else "not shown"
