"""The training loop as a generator: it yields after every step, and the caller decides what happens in between.

It knows gradients, clipping and rates. It does not know data, evaluation, files or progress bars.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wikirl.errors import DivergedError
from wikirl.training.optimizer import Optimizer, Schedule, set_rates


@dataclass(frozen=True)
class Term:
    """One named part of the loss and its weight."""

    value: Tensor
    weight: float = 1.0


Objective = Callable[[int], Mapping[str, Term]]


@dataclass(frozen=True)
class StepMetrics:
    """What one step did.

    Attributes:
        step: Updates done so far, this one included.
        loss: Weighted sum of the terms.
        terms: Each term before its weight.
        gradient_norm: Global norm before clipping.
        learning_rate: Rate of the last parameter group.
    """

    step: int
    loss: float
    terms: dict[str, float]
    gradient_norm: float
    learning_rate: float


def train(
    objective: Objective,
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    num_steps: int,
    first_step: int = 1,
    clip_norm: float = 0.25,
) -> Iterator[StepMetrics]:
    """Minimise an objective, yielding after each of the steps `first_step` … `num_steps`.

    Args:
        objective: Computes the terms of the loss for a step number (from 1), with gradients attached.
        optimizer: From `make_optimizer`.
        schedule: Factor on the learning rate for a step number.
        num_steps: Last step.
        first_step: First step; above 1 when resuming.
        clip_norm: Largest global gradient norm; 0 for no clipping.

    Raises:
        DivergedError: the loss or its gradient is no longer finite; the parameters are those of the step before.
    """
    parameters = list({id(p): p for group in optimizer.param_groups for p in group["params"]}.values())
    for step in range(first_step, num_steps + 1):
        set_rates(optimizer, schedule(step))
        terms = objective(step)
        loss = torch.stack([term.value * term.weight for term in terms.values()]).sum()
        if not torch.isfinite(loss):
            values = {name: term.value.item() for name, term in terms.items()}
            raise DivergedError(f"the loss is {loss.item()} at step {step} ({values}); try a smaller learning rate")
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
        if not torch.isfinite(norm):
            raise DivergedError(f"the gradient norm is {norm.item()} at step {step}; try a smaller learning rate")
        optimizer.step()
        yield StepMetrics(
            step,
            loss.item(),
            {name: term.value.item() for name, term in terms.items()},
            norm.item(),
            optimizer.param_groups[-1]["lr"],
        )
