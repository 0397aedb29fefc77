"""What of a suite can be made on this machine, and why the rest cannot. No network is asked.

This file knows where data, backbones and optional packages are looked for. It deliberately fetches nothing: a suite
that downloads gigabytes because somebody wanted its list of arms would be a surprise.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from wikirl.errors import BackboneError
from wikirl.experiments.suite import ArmPlan, Source, TaskPlan
from wikirl.models.backbone import check_at_hand
from wikirl.trajectories.sources import list_datasets

_D3RLPY = ("td3+bc", "cql", "iql")


def choose_sources(tasks: Sequence[TaskPlan]) -> dict[str, Source]:
    """The best source of each task that has one at hand, by task name."""
    here = {entry.id for entry in list_datasets()}
    chosen: dict[str, Source] = {}
    for task in tasks:
        for source in task.sources:
            if source.dataset in here or source.dataset.startswith("file:"):
                chosen[task.name] = source
                break
    return chosen


def why_no_data(task: TaskPlan) -> str:
    """What to do about a task without data."""
    ids = [source.dataset for source in task.sources]
    if not ids:
        return "no data in this version"
    ways = [
        f"wikirl data download {name}" if name.startswith("d4rl:") else f"wikirl data collect {source.environment}"
        for name, source in zip(ids, task.sources, strict=True)
        if name.startswith(("d4rl:", "minari:"))
    ]
    advice = f"; {' or '.join(dict.fromkeys(ways))} makes one" if ways else ""
    return f"none of {', '.join(ids)} is on this machine{advice}"


def why_no_arm(arm: ArmPlan) -> str | None:
    """Why an arm cannot be had; None if it can."""
    if arm.unavailable is not None:
        return arm.unavailable
    if arm.settings.get("algorithm") in _D3RLPY and find_spec("d3rlpy") is None:
        return "d3rlpy is not installed; pip install 'wikirl[baselines]'"
    backbone = arm.backbone
    if backbone not in (None, "dt"):
        try:
            check_at_hand(backbone)
        except BackboneError as error:
            return str(error)
    return None
