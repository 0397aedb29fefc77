"""From returns to numbers one may print: task constants, evaluations and their summary.

This file knows the three ways to pick a checkpoint, which it never mixes. It deliberately knows no simulator: nothing
here plays an episode, so a report can read scores without MuJoCo.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from wikirl.errors import ConfigError
from wikirl.evaluation.references import ReferenceScore, reference_for, task_name

_NUM_LAST = 4  # evaluations; one alone swings by tens of points


@dataclass(frozen=True)
class TaskConstants:
    """What the paper fixes for one task.

    Attributes:
        target_returns: The returns asked for at evaluation, in environment units, the higher first.
        return_scale: Returns are divided by this before they enter the model.
        horizon: Steps after which an episode is cut off.
    """

    target_returns: tuple[float, ...]
    return_scale: float
    horizon: int


# Source: experiment.py of the released Wiki-RL code, the same as Decision Transformer's.
_CONSTANTS = {
    "hopper": TaskConstants((3600.0, 1800.0), 1000.0, 1000),
    "halfcheetah": TaskConstants((12000.0, 6000.0), 1000.0, 1000),
    "walker2d": TaskConstants((5000.0, 2500.0), 1000.0, 1000),
    "reacher2d": TaskConstants((76.0, 40.0), 10.0, 100),
}


def task_constants(environment_id: str) -> TaskConstants | None:
    """What the paper fixes for a task, whatever its version; None for a task it does not have."""
    return _CONSTANTS.get(task_name(environment_id))


@dataclass(frozen=True)
class Evaluation:
    """N episodes of one checkpoint at one target return.

    Attributes:
        step: Training step of the checkpoint.
        target_return: The return asked for, in environment units; None for a policy that is not asked for
            one.
        returns: Return of each episode, in environment units.
        lengths: Steps of each episode.
        normalized: The returns in per cent, or None where no reference is known.
    """

    step: int
    target_return: float | None
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    normalized: tuple[float, ...] | None

    @classmethod
    def of(
        cls,
        environment_id: str,
        step: int,
        target_return: float | None,
        returns: Float[np.ndarray, "N"],
        lengths: Int[np.ndarray, "N"],
        reference: ReferenceScore | None = None,
    ) -> "Evaluation":
        """An evaluation in `environment_id`, normalised by `reference`, else by the published one if there is one."""
        reference = reference or reference_for(environment_id)
        normalized = None if reference is None else tuple(reference.normalize(returns).tolist())
        return cls(step, target_return, tuple(returns.tolist()), tuple(lengths.tolist()), normalized)

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Evaluation":
        """The inverse of `to_json`.

        Raises:
            ConfigError: a field is missing or of the wrong kind, there is no episode, or the columns differ
                in length.
        """
        try:
            target, normalized = value["target_return"], value["normalized"]
            evaluation = cls(
                int(value["step"]),
                None if target is None else float(target),
                tuple(float(item) for item in value["returns"]),
                tuple(int(item) for item in value["lengths"]),
                None if normalized is None else tuple(float(item) for item in normalized),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not an evaluation: {type(error).__name__} {error}, found {value!r}") from error
        counts = {len(evaluation.returns), len(evaluation.lengths)}
        counts |= set() if evaluation.normalized is None else {len(evaluation.normalized)}
        if len(counts) != 1 or counts == {0}:
            raise ConfigError(
                f"the evaluation at step {evaluation.step} has columns of lengths {sorted(counts)}; "
                "expected one positive number of episodes"
            )
        return evaluation


@dataclass(frozen=True)
class TargetSummary:
    """What a run came to at one target return, under three rules that are kept apart.

    Every number is a mean over episodes; `best_*` was chosen by looking at the scores and may only be printed
    beside the others, under its own name.

    Attributes:
        target_return: The return asked for, in environment units; None for a policy that is not asked for
            one.
        num_evaluations: Evaluations at this target.
        last_step: Training step of the last one.
        last_return: Mean return of the last checkpoint, in environment units.
        last_normalized: The same in per cent; None where no reference is known, as in all `*_normalized`.
        num_in_last_four: How many evaluations the mean of the last four is over: 4, or fewer in a short run.
        mean_last_four_return: Mean over the last four evaluations, each weighing the same.
        mean_last_four_normalized: The same in per cent.
        best_step: Training step of the evaluation with the highest mean return, the earliest of equals.
        best_return: Mean return of that evaluation.
        best_normalized: The same in per cent.
    """

    target_return: float | None
    num_evaluations: int
    last_step: int
    last_return: float
    last_normalized: float | None
    num_in_last_four: int
    mean_last_four_return: float
    mean_last_four_normalized: float | None
    best_step: int
    best_return: float
    best_normalized: float | None

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes."""
        return asdict(self)


def summarize(evaluations: Iterable[Evaluation]) -> tuple[TargetSummary, ...]:
    """One summary per target return, the highest target first, from evaluations in any order.

    Raises:
        ConfigError: no evaluation, two of the same step and target, or some normalised and others not.
    """
    evaluations = sorted(evaluations, key=lambda evaluation: evaluation.step)
    if not evaluations:
        raise ConfigError("expected at least one evaluation to summarize, found none")
    if len({evaluation.normalized is None for evaluation in evaluations}) > 1:
        raise ConfigError("some evaluations are normalised and others are not; they cannot share a summary")
    targets = {evaluation.target_return for evaluation in evaluations}
    ordered = sorted(targets, key=lambda target: -math.inf if target is None else target, reverse=True)
    return tuple(_summarize_target(target, evaluations) for target in ordered)


def _summarize_target(target: float | None, evaluations: list[Evaluation]) -> TargetSummary:
    at_target = [evaluation for evaluation in evaluations if evaluation.target_return == target]
    steps = [evaluation.step for evaluation in at_target]
    if len(set(steps)) < len(steps):
        twice = next(step for step in steps if steps.count(step) > 1)
        raise ConfigError(f"step {twice} was evaluated more than once at target return {target}")
    returns = [float(np.mean(evaluation.returns)) for evaluation in at_target]
    normalized = [float(np.mean(e.normalized)) for e in at_target if e.normalized is not None]
    best = returns.index(max(returns))
    return TargetSummary(
        target_return=target,
        num_evaluations=len(at_target),
        last_step=steps[-1],
        last_return=returns[-1],
        last_normalized=normalized[-1] if normalized else None,
        num_in_last_four=len(returns[-_NUM_LAST:]),
        mean_last_four_return=float(np.mean(returns[-_NUM_LAST:])),
        mean_last_four_normalized=float(np.mean(normalized[-_NUM_LAST:])) if normalized else None,
        best_step=steps[best],
        best_return=returns[best],
        best_normalized=normalized[best] if normalized else None,
    )
