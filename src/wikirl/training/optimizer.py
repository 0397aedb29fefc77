"""AdamW with the three groupings that matter here, its schedules, and its state as plain tensors."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wikirl.errors import RunError

Grouping = Literal["uniform", "paper", "released"]
Schedule = Callable[[int], float]


@runtime_checkable
class Optimizer(Protocol):
    """The part of PyTorch's optimizers that training needs."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters with their rates."""

    def zero_grad(self) -> None:
        """Forget gradients."""

    def step(self) -> Any:
        """Update parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that must be kept to continue."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


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


def share_state(stacked: torch.optim.AdamW, alone: Sequence[torch.optim.AdamW]) -> None:
    """Join the moments of single runs' optimizers to those of a stacked one; theirs become views of its rows.

    So the single optimizers can be saved as if each had done its own updates. All must have done equally many.
    """
    for group, *singles in zip(*(optimizer.param_groups for optimizer in (stacked, *alone)), strict=True):
        for parameter, *rows in zip(group["params"], *(single["params"] for single in singles), strict=True):
            states = [optimizer.state[row] for optimizer, row in zip(alone, rows, strict=True)]
            empty = {
                "step": torch.zeros((), device=parameter.device if group["fused"] else "cpu"),
                "exp_avg": torch.zeros_like(parameter[0]), "exp_avg_sq": torch.zeros_like(parameter[0]),
            }  # fmt: skip
            joined = {name: torch.stack([state.get(name, zero) for state in states]) for name, zero in empty.items()}
            joined["step"] = joined["step"][0].clone()
            stacked.state[parameter] = joined
            for index, state in enumerate(states):
                views = {name: joined[name][index] for name in ("exp_avg", "exp_avg_sq")}
                state.update({"step": joined["step"], **views})


class MuonAndAdamW:
    """Muon for the matrices inside the blocks, AdamW for tables, norms and biases.

    Reaches the loss of a tuned AdamW with a fraction of the tokens when a small language model is pre-trained
    (docs/log.md); not used for fine-tuning, where the paper's AdamW is part of what is compared.

    Source: Jordan et al. 2024; update scale as in Moonshot's version (0.2 · √max(rows, columns)).
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        *,
        learning_rate: float,
        others_learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        muon = torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        groups = [{"params": list(others), "lr": others_learning_rate, "weight_decay": weight_decay}]
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, make_optimizer(groups, betas=betas))
        self._first = len(matrices)
        for group in muon.param_groups:
            group["peak_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of both parts, Muon's last: its rate is the one that is reported."""
        return [group for part in reversed(self._parts) for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget gradients."""
        for part in self._parts:
            part.zero_grad()

    def step(self) -> None:
        """Update all parameters."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """States of both parts, AdamW's parameters numbered after Muon's."""
        muon, adamw = (part.state_dict() for part in self._parts)
        shifted = {index + self._first: value for index, value in adamw["state"].items()}
        groups = [
            {**group, "params": [index + self._first for index in group["params"]]} for group in adamw["param_groups"]
        ]
        return {"state": muon["state"] | shifted, "param_groups": muon["param_groups"] + groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for part, mine, shift in zip(
            self._parts, (range(self._first), range(self._first, 10**9)), (0, self._first), strict=True
        ):
            current = part.state_dict()["param_groups"]
            state = {index - shift: value for index, value in state_dict["state"].items() if index in mine}
            part.load_state_dict({"state": state, "param_groups": current})


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Moments and step counts as named tensors, `{parameter index}.{name}`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
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
        raise RunError(
            f"expected optimizer state of {len(known)} parameters; found some for others; "
            "the checkpoint is of another model"
        )
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
