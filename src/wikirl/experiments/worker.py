"""One run of a suite, made in this process: what every backend calls, on this machine or another.

This file knows the two kinds of runs. It deliberately knows no queue and no other process.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wikirl.experiments.many_runs import RunPlan
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.settings import FinetuneConfig


@dataclass(frozen=True)
class Machine:
    """How runs are made; of no effect on what they are compared by, but of some on their bits.

    Attributes:
        device: auto, cpu or cuda.
        precision: auto, float32 or bfloat16.
        num_threads: CPU threads of a run.
    """

    device: str = "auto"
    precision: str = "auto"
    num_threads: int = 1


def is_finished(plan: RunPlan) -> bool:
    """Whether the run has left its scores."""
    return (plan.folder / "scores.json").exists()


def make_run(plan: RunPlan, machine: Machine) -> None:
    """Make the run, or go on with it; nothing is done if it is finished.

    Raises:
        WikiRLError: as `finetune` and `baseline`.
        KeyboardInterrupt: a signal asked for it; the run has saved itself.
    """
    import torch

    from wikirl.recipes.baseline import baseline
    from wikirl.recipes.finetune import finetune

    if is_finished(plan):
        return
    torch.set_num_threads(machine.num_threads)
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    match plan.config:
        case FinetuneConfig():
            finetune(plan.config, plan.folder, device=machine.device, precision=machine.precision)
        case BaselineConfig():
            baseline(plan.config, plan.folder, device=machine.device)


def plan_to_json(plan: RunPlan) -> dict[str, Any]:
    """A value that `json.dumps` takes, for another process."""
    kind = "finetune" if isinstance(plan.config, FinetuneConfig) else "baseline"
    return {"arm": plan.arm, "kind": kind, "config": asdict(plan.config), "folder": str(plan.folder)}


def plan_from_json(value: Mapping[str, Any]) -> RunPlan:
    """The inverse of `plan_to_json`."""
    kind: Callable[..., FinetuneConfig | BaselineConfig] = (
        FinetuneConfig if value["kind"] == "finetune" else BaselineConfig
    )
    config = {name: tuple(item) if isinstance(item, list) else item for name, item in value["config"].items()}
    return RunPlan(value["arm"], kind(**config), Path(value["folder"]))
