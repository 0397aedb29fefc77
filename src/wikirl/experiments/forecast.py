"""What a suite will take, before it starts: from finished runs beside it where there are any, else from a few steps.

This file knows plans, folders and costs. It deliberately does not know how a step is timed (timing.py).
"""

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from wikirl.errors import WikiRLError
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.progress import duration
from wikirl.experiments.shapes import Shape, shape_of, shape_of_values
from wikirl.experiments.timing import Cost, timed
from wikirl.experiments.worker import Machine, is_finished
from wikirl.recipes.settings import DEFAULT_EVALUATIONS
from wikirl.reproducibility import available_cpus
from wikirl.runs import checkpoints_of, read_json, read_metrics

MOST_SECONDS = 20.0  # for all shapes together; what is left then is guessed
_ENOUGH_RUNS = 3  # finished runs of a shape to look at


@dataclass(frozen=True)
class Forecast:
    """What a suite will take.

    Attributes:
        num_runs: Unfinished runs.
        num_processes: How many are made at a time.
        seconds: Until all are finished.
        step_seconds: What of that goes into training.
        score_seconds: What of that goes into scores and checkpoints.
        num_known_shapes: Kinds of runs of which finished ones tell the times.
        num_timed_shapes: Kinds that were tried.
        num_guessed_shapes: Kinds taken to be as the others are.
        num_timed_steps: The fewest steps that a kind was tried for; 0 if none was.
    """

    num_runs: int
    num_processes: int
    seconds: float
    step_seconds: float
    score_seconds: float
    num_known_shapes: int
    num_timed_shapes: int
    num_guessed_shapes: int
    num_timed_steps: int

    def sentence(self) -> str:
        """In one line."""
        if self.num_runs == 0:
            return "nothing is left to run"
        sources = []
        if self.num_known_shapes:
            sources.append(f"from finished runs of {_count(self.num_known_shapes, 'shape')}")
        if self.num_timed_shapes:
            of = "of" if self.num_timed_shapes == 1 else "of each of"
            steps = _count(self.num_timed_steps, "timed step")
            sources.append(f"from {steps} {of} {_count(self.num_timed_shapes, 'shape')}")
        if self.num_guessed_shapes:
            sources.append(f"extrapolated to {_count(self.num_guessed_shapes, 'other shape')}")
        return (
            f"{_count(self.num_runs, 'run')}: about {duration(self.seconds)} on "
            f"{_count(self.num_processes, 'process', 'processes')} (steps {duration(self.step_seconds)}, scores "
            f"{duration(self.score_seconds)}), {', '.join(sources)}"
        )


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def forecast(plans: Sequence[RunPlan], machine: Machine, *, num_processes: int) -> Forecast:
    """Foresee how long the unfinished runs of a suite take.

    Finished runs beside them tell it for runs of the same shape; of every other shape one run is tried for a few steps
    in this process, those that are most of the work first, until `MOST_SECONDS` are spent. Other shapes are then taken
    to cost what these do, window for window. What a run's own mistake will end at once counts for nothing.

    Args:
        plans: All runs of the suite, or the unfinished ones.
        machine: How they are made.
        num_processes: How many are made at a time.
    """
    shapes = {plan: shape_of(plan, machine) for plan in plans if not is_finished(plan)}
    known = _known({plan.folder.parent for plan in plans}, set(shapes.values()))
    costs: dict[Shape, Cost | None] = dict(known)
    examples: dict[Shape, RunPlan] = {}
    for plan, shape in shapes.items():
        examples.setdefault(shape, plan)
    work = Counter(dict.fromkeys(examples, 0))
    for plan, shape in shapes.items():
        work[shape] += _windows(plan) * _left(plan)[0]
    until = time.monotonic() + MOST_SECONDS
    for shape, _ in work.most_common():
        if shape not in costs and (time.monotonic() < until or not any(costs.values())):
            costs[shape] = _tried(examples[shape], machine)
    tried = [cost for shape, cost in costs.items() if shape not in known and cost is not None]
    guessed = [shape for shape in work if shape not in costs]
    for shape in guessed:
        costs[shape] = _guessed(examples[shape], {examples[other]: costs[other] for other in work if other in costs})
    times = [_seconds(plan, cost) for plan, shape in shapes.items() if (cost := costs[shape]) is not None]
    at_once = max(min(num_processes, available_cpus() // max(machine.num_threads, 1), len(times)), 1)
    whole = _until_all_are_done([steps + scores for steps, scores in times], at_once)
    together = sum(steps + scores for steps, scores in times)
    in_scores = sum(scores for _, scores in times) / together * whole if together else 0.0
    return Forecast(
        len(shapes), num_processes, whole, whole - in_scores, in_scores, len(known), len(tried), len(guessed),
        min((cost.num_steps for cost in tried), default=0),
    )  # fmt: skip


def _tried(plan: RunPlan, machine: Machine) -> Cost | None:
    try:
        return timed(plan, machine)
    except WikiRLError:
        return None  # it will say so itself, and cost next to nothing


def _windows(plan: RunPlan) -> int:
    """Steps of the data in an update."""
    return plan.config.batch_size * getattr(plan.config, "context_length", 1)


def _guessed(plan: RunPlan, costs: Mapping[RunPlan, Cost | None]) -> Cost | None:
    """The mean of what is known of its kind, or else of all, in proportion to the data in an update."""
    found = [(other, cost) for other, cost in costs.items() if cost is not None]
    found = [(other, cost) for other, cost in found if type(other.config) is type(plan.config)] or found
    if not found:
        return None
    step = fmean(cost.step / _windows(other) for other, cost in found) * _windows(plan)
    return replace(_mean([cost for _, cost in found]), step=step)


def _left(plan: RunPlan) -> tuple[int, int]:
    """Steps and scores that a run has yet to do."""
    config = plan.config
    every = config.eval_every or max(config.num_steps // DEFAULT_EVALUATIONS, 1)
    done = max((checkpoint.step for checkpoint in checkpoints_of(plan.folder)), default=0)
    return config.num_steps - done, -(-config.num_steps // every) - done // every


def _seconds(plan: RunPlan, cost: Cost) -> tuple[float, float]:
    """What a run will spend on steps, and on scores."""
    steps, scores = _left(plan)
    return cost.start + steps * cost.step, scores * (cost.score + plan.config.eval_episodes * cost.episode)


def _until_all_are_done(seconds: Iterable[float], at_once: int) -> float:
    """When the last of some runs has ended, if the next one begins as soon as a place is free."""
    places = [0.0] * at_once
    for needed in seconds:
        heapq.heapreplace(places, places[0] + needed)
    return max(places)


def _known(folders: Iterable[Path], wanted: set[Shape]) -> dict[Shape, Cost]:
    """Costs of wanted shapes, as finished runs in some folders tell them."""
    found: dict[Shape, list[Cost]] = {}
    for scores in sorted(path for folder in folders for path in folder.glob("*/scores.json")):
        values = read_json(scores.with_name("config.json"))
        shape = shape_of_values(values)
        if shape in wanted and len(found.get(shape, [])) < _ENOUGH_RUNS:
            found.setdefault(shape, []).append(_of_finished(values, read_metrics(scores.parent)))
    return {shape: _mean(costs) for shape, costs in found.items()}


def _mean(costs: Sequence[Cost]) -> Cost:
    start, step, score, episode = (
        fmean(getattr(cost, name) for cost in costs) for name in ("start", "step", "score", "episode")
    )
    return Cost(start, step, score, episode, 0)


def _of_finished(values: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Cost:
    """Where the seconds of a finished run went: what a step with a score takes longer than others is the score's."""
    seconds = [0.0, *(line["seconds"] for line in lines)]
    taken = [after - before for before, after in pairwise(seconds)]
    scored = ["evaluations" in line or "held_out_action_error" in line for line in lines]
    plain = [each for each, has_score in zip(taken, scored, strict=True) if not has_score]
    step = median(plain) if plain else sum(taken) / max(len(taken), 1)
    for_scores = [max(each - step, 0.0) for each, has_score in zip(taken, scored, strict=True) if has_score]
    step = (sum(taken) - sum(for_scores)) / max(len(taken), 1)
    score = fmean(for_scores) if for_scores else 0.0
    if values["environment"] is None:
        return Cost(0.0, step, score, 0.0, 0)
    return Cost(0.0, step, 0.0, score / values["eval_episodes"], 0)
