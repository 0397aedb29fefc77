"""Episodes kept out of training, and how a policy's actions compare with theirs: a figure that needs no environment.

This file knows windows and predictions. It deliberately does not know how a policy was trained, nor what it earns.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.perceptron import PerceptronPolicy
from wikirl.reproducibility import generator
from wikirl.training.losses import action_loss, masked_choice_accuracy
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sampling import consecutive_windows
from wikirl.trajectories.transforms import split_episodes
from wikirl.types import TrajectoryBatch


def held_out_errors(
    policy: DecisionTransformerPolicy, dataset: TrajectoryDataset, batch_size: int = 64
) -> dict[str, float]:
    """`action_errors` of a Decision Transformer, in windows as long as it looks back."""
    policy.model.eval()
    device = str(policy.model.normalizer.mean.device)
    windows = {"context_length": policy.context_length, "batch_size": batch_size}
    return action_errors(lambda batch: policy.model(batch).actions, dataset, device, **windows)


def perceptron_errors(policy: PerceptronPolicy, dataset: TrajectoryDataset) -> dict[str, float]:
    """`action_errors` of a baseline. Values of choices are no logits, so of them there is the accuracy alone."""
    errors = action_errors(
        lambda batch: policy.model(batch.observations), dataset, policy.device, context_length=64, batch_size=64
    )
    if policy.outputs == "values":
        del errors["held_out_action_error"]
    return errors


@torch.no_grad()
def action_errors(
    predict: Callable[[TrajectoryBatch], Tensor],
    dataset: TrajectoryDataset,
    device: str,
    *,
    context_length: int,
    batch_size: int,
) -> dict[str, float]:
    """How predicted actions compare with those of a dataset, over its every step, in consecutive windows.

    Args:
        predict: From a batch to predictions: actions `[B, K, A]`, or logits of choices `[B, K, n]`.
        dataset: Whose actions count as right.
        device: Where batches go.
        context_length: Steps K in a window.
        batch_size: Windows at once.

    Returns:
        `held_out_action_error`, the action loss; of choices also `held_out_action_accuracy`, the share that is the
        model's likeliest.
    """
    measures: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"held_out_action_error": action_loss}
    if dataset.action_space.is_discrete:
        measures["held_out_action_accuracy"] = masked_choice_accuracy
    totals, steps = dict.fromkeys(measures, 0.0), 0
    for batch in consecutive_windows(dataset, context_length, batch_size):
        batch = batch.to(device)
        count = int(batch.mask.sum())
        predicted = predict(batch)
        for name, measure in measures.items():
            totals[name] += measure(predicted, batch.actions, batch.mask).item() * count
        steps += count
    return {name: total / steps for name, total in totals.items()}


def split(dataset: TrajectoryDataset, fraction: float, seed: int) -> tuple[TrajectoryDataset, TrajectoryDataset | None]:
    """Training and held-out episodes; the same split for the same seed."""
    return split_episodes(dataset, fraction, generator(seed, "held-out")) if fraction else (dataset, None)
