"""A multilayer perceptron as a policy: one observation in, one action out; what baselines learn.

Behaviour cloning and the offline Q-learners that we compare with all act this way, so one model and one bundle serve
them. This file knows layers, spaces and the best action. It deliberately does not know how the weights were learnt, and
has no history and no target return.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor, nn

from wikirl.models.actions import ActionCodec
from wikirl.models.decision_transformer import Normalizer
from wikirl.types import ActionSelection, Space

# What the last layer computes: actions that are vectors, logits of choices, or the value of each choice.
Outputs = Literal["actions", "logits", "values"]


def fresh_layers(observation_size: int, hidden_size: int, num_layers: int, action_size: int) -> list[nn.Linear]:
    """`num_layers` hidden layers and one to read actions from, with PyTorch's own initial weights."""
    sizes = [observation_size, *[hidden_size] * num_layers, action_size]
    return [nn.Linear(width, following) for width, following in pairwise(sizes)]


class Perceptron(nn.Module):
    """Standardised observations, linear layers with ReLU between them, actions within bounds or a number per choice."""

    def __init__(self, layers: Sequence[nn.Linear], normalizer: Normalizer, codec: ActionCodec) -> None:
        """Join the parts.

        Args:
            layers: All linear layers in order; used as they are, so that another model may share them.
            normalizer: Statistics of the observations.
            codec: What actions are.
        """
        super().__init__()
        self.hidden, self.head = nn.ModuleList(layers[:-1]), layers[-1]
        self.normalizer, self.codec = normalizer, codec

    def forward(self, observations: Num[Tensor, "B K *O"]) -> Float[Tensor, "B K P"]:
        """Actions in environment units, or a number for each choice; every step by itself."""
        values = self.normalizer(observations.flatten(2).float())
        for layer in self.hidden:
            values = torch.relu(layer(values))
        return self.codec.read(self.head(values))


class PerceptronPolicy:
    """Takes the best action for each observation; nothing else counts, and nothing is drawn."""

    def __init__(
        self, model: Perceptron, observation_space: Space, action_space: Space, *, predicts_values: bool = False
    ) -> None:
        """Wrap a model.

        Args:
            model: On the device it shall run on.
            observation_space: What it was trained to see.
            action_space: What it was trained to choose.
            predicts_values: Whether its numbers for choices are values and not logits.
        """
        self.model = model
        self.observation_space, self.action_space = observation_space, action_space
        for_choices: Outputs = "values" if predicts_values else "logits"
        self.outputs: Outputs = for_choices if action_space.is_discrete else "actions"

    @property
    def action_selection(self) -> ActionSelection | None:
        """How a choice is made; None if actions are vectors."""
        return "greedy" if self.action_space.is_discrete else None

    @property
    def device(self) -> str:
        """Where it runs."""
        return str(self.model.normalizer.mean.device)

    def reset(self, num_envs: int, seed: int) -> None:
        """Nothing to forget."""

    @torch.no_grad()
    def act(
        self,
        observations: Shaped[np.ndarray, "E *O"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Shaped[np.ndarray, "E *A"]:
        """The best actions; rows that are not active get zeros."""
        rows = np.arange(len(observations)) if active is None else np.flatnonzero(active)
        seen = torch.as_tensor(observations[rows], dtype=torch.float32, device=self.device)
        predicted = self.model(seen[:, None])[:, 0].cpu().numpy()
        best = predicted.argmax(-1) if self.action_space.is_discrete else predicted
        actions = np.zeros((len(observations), *best.shape[1:]), best.dtype)
        actions[rows] = best
        return actions
