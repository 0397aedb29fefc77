"""How soon each arm reaches what its reference ends at: in steps, in seconds, and with pre-training paid for.

The threshold is fixed before an arm is looked at: a share of the reference arm's final mean on the task. Runs that
never get there are censored, not left out. The paper's follow-up used another rule, the run's own best, which stands
beside it. This file knows which clock is meant. It deliberately knows no formula (`wikirl.analysis.convergence`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wikirl.analysis.convergence import first_crossing, own_maximum_rule, time_ratio
from wikirl.analysis.intervals import Interval
from wikirl.analysis.survival import kaplan_meier, median_time
from wikirl.reports.results import RunResult
from wikirl.reports.study_scores import PRIMARY_RULE, Scores
from wikirl.reports.suite_file import Arm
from wikirl.reproducibility import generator

OWN_BEST = 2.0  # normalised points; source: `calculate_statistics` of the paper's follow-up
_TOKENS_A_STEP = 3  # return-to-go, observation, action


@dataclass(frozen=True)
class Convergence:
    """One arm on one task against its reference.

    Attributes:
        arm: Which.
        against: Its reference; itself for an arm that has none.
        task: Where.
        seeds: Those that both have.
        threshold: Score to be reached.
        num_reached: Runs that did.
        median_steps: Kaplan and Meier's median of the steps it took; None if fewer than half got there.
        steps_ratio: How many times more steps the reference takes, with its interval; None for the reference itself.
        seconds_ratio: Likewise in wall clock.
        pretraining_steps: Tokens of pre-training in fine-tuning steps; None without pre-training.
        steps_ratio_paid: `steps_ratio` with pre-training counted in full.
        seconds_ratio_paid: `seconds_ratio` likewise.
        own_best_steps: Mean steps to within 2 points of a run's own best; None for raw returns.
    """

    arm: str
    against: str
    task: str
    seeds: tuple[int, ...]
    threshold: float
    num_reached: int
    median_steps: float | None
    steps_ratio: Interval | None
    seconds_ratio: Interval | None
    pretraining_steps: float | None
    steps_ratio_paid: Interval | None
    seconds_ratio_paid: Interval | None
    own_best_steps: float | None


@dataclass(frozen=True)
class NoThreshold:
    """A task on which a share of the reference's score makes no threshold, and why."""

    task: str
    against: str
    reason: str


def study_convergence(scores: Scores, share: float) -> tuple[list[Convergence], list[NoThreshold]]:
    """All arms on all tasks; an arm that has no reference is its own.

    Args:
        scores: Of the study.
        share: Of the reference arm's final mean.
    """
    found: list[Convergence] = []
    impossible: list[NoThreshold] = []
    for task in scores.tasks:
        for name in scores.arms:
            arm = scores.results.arm(name)
            against = arm.against or name
            seeds = scores.seeds([name, against], [task])
            if not seeds:
                continue
            every = scores.seeds([against], [task])  # one threshold for all arms, whatever seeds they have
            final = float(scores.table(PRIMARY_RULE, against, [task], every).mean())
            if final > 0:
                found.append(_convergence(scores, arm, task, seeds, share * final))
            elif against == name:
                reason = f"{against} ends at {final:.1f}, and a share of a score below 0 is above it"
                impossible.append(NoThreshold(task, against, reason))
    return found, impossible


class _Watched:
    """When the runs of an arm on a task crossed the threshold, on both clocks."""

    def __init__(self, scores: Scores, arm: str, task: str, seeds: tuple[int, ...], threshold: float) -> None:
        runs = [scores.results.of(arm, task)[seed] for seed in seeds]
        trained = [place for place, score in enumerate(runs[0].scores) if score.step > 0]
        self.values = scores.curves(arm, task, seeds)[:, trained]
        self.steps = np.array([runs[0].scores[place].step for place in trained])
        self.seconds = np.array([_clock(run, trained) for run in runs])
        self.by_steps = first_crossing(self.steps, self.values, threshold)
        self.by_seconds = first_crossing(self.seconds, self.values, threshold)


def _clock(run: RunResult, places: list[int]) -> list[float]:
    """Seconds at each evaluation; a clock that stood still, as at a millisecond's resolution it may, gets a nudge."""
    seconds: list[float] = []
    for place in places:
        seconds.append(max(run.scores[place].seconds, (seconds[-1] if seconds else 0.0) + 1e-3))
    return seconds


def _convergence(scores: Scores, arm: Arm, task: str, seeds: tuple[int, ...], threshold: float) -> Convergence:
    against = arm.against or arm.name
    ours, theirs = (_Watched(scores, name, task, seeds, threshold) for name in (arm.name, against))
    times, reached = ours.by_steps
    compared, costs = arm.against is not None, _costs(scores, arm, task)
    purpose = f"{arm.name} {against} {task}"

    def ratio(clock: str, offset: float | None) -> Interval | None:
        if not compared or offset is None:
            return None
        pair = (ours.by_steps, theirs.by_steps) if clock == "steps" else (ours.by_seconds, theirs.by_seconds)
        rng = generator(0, f"convergence {clock} {purpose}")
        return time_ratio(*pair[0], *pair[1], horizon=_horizon(*pair), rng=rng, offset_a=offset).ratio

    best = own_maximum_rule(ours.steps, ours.values, OWN_BEST) if scores.scales[task] == "normalized" else None
    return Convergence(
        arm.name, against, task, seeds, threshold,
        num_reached=int(reached.sum()),
        median_steps=median_time(kaplan_meier(times, reached)),
        steps_ratio=ratio("steps", 0.0), seconds_ratio=ratio("seconds", 0.0),
        pretraining_steps=costs[0],
        steps_ratio_paid=ratio("steps", costs[0]), seconds_ratio_paid=ratio("seconds", costs[1]),
        own_best_steps=None if best is None else float(best.mean()),
    )  # fmt: skip


def _costs(scores: Scores, arm: Arm, task: str) -> tuple[float | None, float | None]:
    """Pre-training in fine-tuning steps and in seconds; None for an arm without, or with a pre-trained reference."""
    reference = scores.results.arm(arm.against) if arm.against else None
    run = next(iter(scores.results.of(arm.name, task).values()))
    if arm.pretraining is None or run.context_length is None or (reference and reference.pretraining):
        return None, None
    tokens_a_step = _TOKENS_A_STEP * run.context_length * run.batch_size
    return arm.pretraining.num_tokens / tokens_a_step, arm.pretraining.seconds


_Crossings = tuple[Float[np.ndarray, "R"], Bool[np.ndarray, "R"]]


def _horizon(*arms: _Crossings) -> float:
    """Where the first run that never crossed stopped being watched; the last crossing if there is no such run."""
    censored = [times[~reached] for times, reached in arms]
    everything = np.concatenate([times for times, _ in arms])
    unseen = np.concatenate(censored)
    return float(unseen.min() if len(unseen) else everything.max())
