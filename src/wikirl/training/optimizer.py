"""AdamW with the three groupings that matter here, its schedules, and its state as plain tensors."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wikirl.errors import RunError

Grouping = Literal["uniform", "paper", "released"]
Schedule = Callable[[int], float]


def constant_after_warmup(warmup_steps: int) -> Schedule:
    """Rise linearly over `warmup_steps`, then stay; steps count from 1.

    Source: Decision Transformer, `LambdaLR(min((steps + 1) / warmup_steps, 1))`.
    """
    return lambda step: min(step / max(warmup_steps, 1), 1.0)


def linear_decay_after_warmup(warmup_steps: int, num_steps: int) -> Schedule:
    """Rise linearly over `warmup_steps`, then fall linearly to zero after `num_steps`; steps count from 1."""

    def factor(step: int) -> float:
        falling = (num_steps + 1 - step) / max(num_steps + 1 - warmup_steps, 1)
        return min(step / max(warmup_steps, 1), falling)

    return factor


def parameter_groups(
    grouping: Grouping,
    backbone: Sequence[nn.Parameter],
    others: Sequence[nn.Parameter],
    shared_positions: nn.Parameter | None,
    *,
    learning_rate: float,
    backbone_learning_rate: float | None,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Sort parameters into groups with a learning rate and a weight decay each.

    `uniform`: one group, everything decays (Decision Transformer's own). `paper`: the language model has its own rate
    and no decay. `released`: what the released code does in effect, one group with decay for everything, in which a
    position table shared as timestep table stands twice (facts Q7, Q8).

    Args:
        grouping: Which of the three.
        backbone: Parameters of the language model, its word and position tables included.
        others: All others; disjoint from `backbone`.
        shared_positions: The position table if it also serves as timestep table.
        learning_rate: Rate of all but the backbone.
        backbone_learning_rate: Rate of the backbone in `paper`; None for the same.
        weight_decay: Decoupled decay.
    """
    everything = {"params": [*backbone, *others], "lr": learning_rate, "weight_decay": weight_decay}
    match grouping:
        case "uniform":
            return [everything]
        case "paper":
            rate = learning_rate if backbone_learning_rate is None else backbone_learning_rate
            language = {"params": list(backbone), "lr": rate, "weight_decay": 0.0}
            return [language, {**everything, "params": list(others)}]
        case "released":
            if shared_positions is not None:
                everything["params"] = [*backbone, *others, shared_positions]
            return [everything]


def make_optimizer(
    groups: list[dict[str, Any]], *, epsilon: float = 1e-8, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW, fused unless a parameter stands twice: then one by one, so that it is updated twice as in torch 1.8.

    The rate of each group at construction is its peak; `set_rates` scales it.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    duplicated = len(parameters) != len({id(parameter) for parameter in parameters})
    with warnings.catch_warnings():
        if duplicated:  # asked for by the `released` grouping
            warnings.filterwarnings("ignore", message="optimizer contains a parameter group with duplicate parameters")
        kind = {"foreach": False} if duplicated else {"fused": True}
        optimizer = torch.optim.AdamW(groups, eps=epsilon, betas=betas, **kind)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts as named tensors, `{parameter index}.{name}`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, into an optimizer over the same parameters.

    Raises:
        RunError: the tensors belong to other parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    current = optimizer.state_dict()
    known = {index for group in current["param_groups"] for index in group["params"]}
    if not state.keys() <= known:
        raise RunError(f"expected optimizer state of {len(known)} parameters; found some for others; the checkpoint is of another model")
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
