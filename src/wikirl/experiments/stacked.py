"""Runs of a suite in this process: those that are alike stacked (recipes/together.py), all others one by one.

This file knows which runs can be stacked. It deliberately knows no other process.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from tqdm import tqdm

from wikirl.errors import ConfigError, WikiRLError
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.processes import alone_in
from wikirl.experiments.shapes import architecture_of
from wikirl.experiments.worker import Machine, make_run
from wikirl.recipes.building import starting_point
from wikirl.recipes.settings import FinetuneConfig
from wikirl.recipes.together import finetune_together
from wikirl.runs import checkpoints_of


def run_stacked(plans: Sequence[RunPlan], machine: Machine, *, most_together: int = 10) -> dict[str, str]:
    """Make or finish all runs.

    Runs that stand at different steps go on in different groups. A group in which one run fails, or for which memory
    is short, is halved until the rest has been made. Ctrl-C or SIGTERM stops after the present step with a checkpoint.

    Args:
        plans: Runs in folders of different names.
        machine: How they are made.
        most_together: Runs in a group.

    Returns:
        Why runs could not be finished, in one line each, by name of their folder; empty if all were.

    Raises:
        ConfigError: `most_together` is not positive.
        RunError: another suite works in the same folder.
        KeyboardInterrupt: as asked for.
    """
    if most_together < 1:
        raise ConfigError(f"expected at least 1 run together; found {most_together}")
    troubles: dict[str, str] = {}
    with ExitStack() as stack:
        for folder in sorted({plan.folder.parent.resolve() for plan in plans}):
            stack.enter_context(alone_in(folder))
        done = 0
        for group in groups(plans, most_together):
            troubles |= _make(group, machine)
            done += len(group)
            tqdm.write(f"{done} of {len(plans)} runs, {len(troubles)} of them failed", file=sys.stderr)
    return troubles


def _make(group: Sequence[RunPlan], machine: Machine) -> dict[str, str]:
    """Make the runs of a group, together if they can be, and say which failed."""
    refusal = _refusal_of(
        partial(_together, group, machine) if len(group) > 1 else partial(make_run, group[0], machine)
    )
    if refusal is None:
        return {}
    if len(group) == 1:
        tqdm.write(f"{group[0].folder.name}: failed: {refusal}", file=sys.stderr)
        return {group[0].folder.name: refusal}
    tqdm.write(f"{len(group)} runs cannot be made together ({refusal}); trying halves", file=sys.stderr)
    half = len(group) // 2
    return {name: why for part in (group[:half], group[half:]) for name, why in _make_all(part, machine).items()}


def _make_all(plans: Sequence[RunPlan], machine: Machine) -> dict[str, str]:
    """`_make`, in groups of runs that still stand at the same step."""
    return {name: why for part in groups(plans, len(plans)) for name, why in _make(part, machine).items()}


def _refusal_of(make: Callable[[], object]) -> str | None:
    """What the user can mend, in one line; None if all went well."""
    try:
        make()
    except WikiRLError as error:
        return " ".join(str(error).split())
    except torch.OutOfMemoryError as error:
        refusal = f"expected room for them on the device; found: {str(error).splitlines()[0]}"
    else:
        return None
    gc.collect()  # models and gradients, which hang together in circles
    torch.cuda.empty_cache()
    return refusal


def _together(group: Sequence[RunPlan], machine: Machine) -> None:
    torch.set_num_threads(machine.num_threads)
    runs = [(plan.config, plan.folder) for plan in group if isinstance(plan.config, FinetuneConfig)]
    finetune_together(runs, device=machine.device, precision=machine.precision)


def groups(plans: Sequence[RunPlan], most_together: int) -> Iterator[list[RunPlan]]:
    """The runs that can be stacked, at most so many at once, in the order of the first of each kind.

    All of a group have a checkpoint at one step, from which they go on: the newest of those of them that are behind.
    """
    alike: dict[object, list[RunPlan]] = {}
    for plan in plans:
        alike.setdefault(_kind(plan), []).append(plan)
    for waiting in alike.values():
        while waiting:
            at = min(_steps(plan)[-1] for plan in waiting)
            level = [plan for plan in waiting if at in _steps(plan)]
            waiting = [plan for plan in waiting if plan not in level]
            yield from (level[first : first + most_together] for first in range(0, len(level), most_together))


def _steps(plan: RunPlan) -> list[int]:
    """Where a run can go on; 0 for one that has not saved anything."""
    return [checkpoint.step for checkpoint in checkpoints_of(plan.folder)] or [0]


def _kind(plan: RunPlan) -> object:
    """Something that is equal for runs that can be stacked; what `finetune_together` refuses is a kind of its own."""
    config = plan.config
    if not isinstance(config, FinetuneConfig) or config.cotraining_corpus is not None:
        return plan
    architecture = architecture_of(starting_point(config))
    if architecture is None or not architecture.is_gpt:
        return plan
    return replace(config, seed=0, backbone="", alignment_weight=0.0), architecture
