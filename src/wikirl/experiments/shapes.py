"""What runs have in common: whether they can be stacked, and whether one takes as long a step as the other.

This file knows configurations and architectures. It deliberately knows no clock.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from wikirl.errors import WikiRLError
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.worker import Machine
from wikirl.models.backbone import load_backbone
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.perturbed import perturbation_of
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import choose_device, choose_precision, precision_name


@dataclass(frozen=True)
class Architecture:
    """A backbone without its weights.

    Attributes:
        text: Equal for equal architectures.
        is_gpt: Whether it is of the GPT-2 family.
    """

    text: str
    is_gpt: bool


@cache
def architecture_of(name: str) -> Architecture | None:
    """That of a backbone, by the name that a configuration gives it; None if it cannot be read."""
    if name == "dt":
        return Architecture(str(GPTConfig()), is_gpt=True)
    try:
        perturbation = perturbation_of(name)
        backbone = load_backbone(perturbation.backbone if perturbation else name)
    except WikiRLError:
        return None  # its run says what is wrong
    if isinstance(backbone, GPT):
        return Architecture(str(backbone.config), is_gpt=True)
    return Architecture(str(backbone.to_json()), is_gpt=False)


Shape = tuple[object, ...]


def shape_of(plan: RunPlan, machine: Machine) -> Shape:
    """What decides how long a step of a run and an episode of its scores take; equal shapes, equal times.

    Tricks that cost little, such as an alignment loss, and what only decides how many steps there are, are left out.
    """
    kind = "finetune" if isinstance(plan.config, FinetuneConfig) else "baseline"
    autocast = choose_precision(machine.precision, choose_device(machine.device)) if kind == "finetune" else None
    return shape_of_values({**asdict(plan.config), "kind": kind, "precision": precision_name(autocast)})


def shape_of_values(values: Mapping[str, Any]) -> Shape:
    """`shape_of` of what config.json says of a run."""
    common = (values["kind"], values["environment"], values["batch_size"], values["precision"])
    if values["kind"] == "baseline":
        return (*common, values["algorithm"], values["hidden_size"])
    name = values["architecture"] if values["backbone"] == "scratch" else values["backbone"]
    text = values["cotraining_corpus"] is not None and values["cotraining_batch_size"]
    return (*common, architecture_of(name) or name, values["context_length"], values["freeze"], text)
