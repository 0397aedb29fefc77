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
    weight: float | Tensor = 1.0


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
        objective: Computes the terms of the loss for a step number (from 1), with gradients attached or, if they carry
            none, already in the parameters (`Recorded`).
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
        if loss.requires_grad:
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


def train_together(
    objective: Objective,
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    num_steps: int,
    first_step: int = 1,
    clip_norm: float = 0.25,
) -> Iterator[list[StepMetrics]]:
    """`train` for R stacked runs at once: the same updates as one by one, up to rounding.

    Every parameter holds the runs' own as its rows, terms are `[R]`, weights a number or `[R]`. Each run is clipped by
    its own gradient norm. Yields the metrics of all runs after each step.

    Raises:
        DivergedError: the loss or gradient of a run is no longer finite; names the run (from 0).
    """
    parameters = list({id(p): p for group in optimizer.param_groups for p in group["params"]}.values())
    for step in range(first_step, num_steps + 1):
        set_rates(optimizer, schedule(step))
        terms = objective(step)
        losses = torch.stack([term.value * term.weight for term in terms.values()]).sum(0)
        if losses.requires_grad:
            optimizer.zero_grad()
            losses.sum().backward()
        norms = _clip_each(parameters, clip_norm or float("inf"))
        _require_finite(losses, norms, step)
        optimizer.step()
        columns = {name: term.value.tolist() for name, term in terms.items()}
        rate = optimizer.param_groups[-1]["lr"]
        yield [
            StepMetrics(step, loss, {name: values[run] for name, values in columns.items()}, norm, rate)
            for run, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True))
        ]


def _clip_each(parameters: list[Tensor], clip_norm: float) -> Tensor:
    """Scale each run's gradient to a norm of at most `clip_norm`; the norms `[R]` before that.

    Source: torch.nn.utils.clip_grad_norm_, whose formula it is.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    each = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
    norms: Tensor = torch.linalg.vector_norm(each, dim=0)
    factors = (clip_norm / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *(1,) * (gradient.ndim - 1)))
    return norms


def _require_finite(losses: Tensor, norms: Tensor, step: int) -> None:
    finite = torch.isfinite(losses) & torch.isfinite(norms)
    if not finite.all():
        run = int((~finite).nonzero()[0])
        raise DivergedError(
            f"the loss of run {run} is {losses[run].item()}, its gradient norm {norms[run].item()} at step {step}; "
            "try a smaller learning rate"
        )
