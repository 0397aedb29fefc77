"""The two kinds of actions, vectors and choices: how they enter a Decision Transformer and how they leave it.

    kind                 enters as                    leaves as
    vectors in a box     a product, bounds at ±1      tanh, back within the bounds
    choices among n      a row of a table [n,D]       n logits

This file knows values, weights and probabilities. It deliberately knows no windows, no losses and no environments: what
a prediction is compared by is training/losses.py's business, when one is drawn acting.py's.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Float64, Int, Num
from torch import Tensor, nn

from wikirl.errors import ConfigError
from wikirl.kernels import linear, look_up
from wikirl.types import Space

# A column with more holds something else, such as times or ids, whose table would fill the memory.
MAX_CHOICES = 2**16


class ActionCodec(nn.Module, ABC):
    """Turns actions into tokens, and what the head computes into predictions.

    It has no parameters: the embedding and the head are the model's own, so that weights have the same names for both
    kinds.

    Attributes:
        size: Numbers the head computes for an action: A coordinates, or n logits.
    """

    size: int

    @abstractmethod
    def make_embedding(self, width: int) -> nn.Linear | nn.Embedding:
        """A fresh layer for `embed`."""

    @abstractmethod
    def embed(self, actions: Num[Tensor, "..."], embedding: nn.Module) -> Float[Tensor, "*R B K D"]:
        """Action tokens; with stacked weights, of row r's run."""

    @abstractmethod
    def shared_head(self, embedding: nn.Module) -> Float[Tensor, "*R P D"]:
        """The embedding's weights turned around, to read actions with."""

    @abstractmethod
    def read(self, outputs: Float[Tensor, "*R B K P"]) -> Float[Tensor, "*R B K P"]:
        """Predictions from what the head computed, in float32."""


class ActionScaler(ActionCodec):
    """Vectors: maps bounded actions onto −1 … 1, where tanh lives, and back; the identity for the bounds −1 and 1."""

    midpoint: Tensor
    half_range: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, low: Float[Tensor, "A"], high: Float[Tensor, "A"]) -> None:
        super().__init__()
        self.size = len(low)
        self.register_buffer("midpoint", (high + low) / 2)
        self.register_buffer("half_range", (high - low) / 2)
        # Only to undo rounding, by which midpoint ± half_range may lie just outside.
        self.register_buffer("low", low.clone(), persistent=False)
        self.register_buffer("high", high.clone(), persistent=False)

    def make_embedding(self, width: int) -> nn.Linear:
        """A linear layer."""
        return nn.Linear(self.size, width)

    def embed(self, actions: Float[Tensor, "*R B K A"], embedding: nn.Module) -> Float[Tensor, "*R B K D"]:
        """The product of actions in −1 … 1 and the layer."""
        assert isinstance(embedding, nn.Linear)  # it made it
        return linear(self.to_unit(actions), embedding.weight, embedding.bias)

    def shared_head(self, embedding: nn.Module) -> Float[Tensor, "*R A D"]:
        """The layer's matrix, transposed."""
        assert isinstance(embedding, nn.Linear)
        return embedding.weight.mT

    def read(self, outputs: Float[Tensor, "*R B K A"]) -> Float[Tensor, "*R B K A"]:
        """Actions in environment units and within bounds."""
        return self.from_unit(torch.tanh(outputs.float()))

    def to_unit(self, actions: Float[Tensor, "*R B K A"]) -> Float[Tensor, "*R B K A"]:
        """Environment units to −1 … 1."""
        return (actions - self.midpoint) / self.half_range

    def from_unit(self, actions: Float[Tensor, "*R B K A"]) -> Float[Tensor, "*R B K A"]:
        """−1 … 1 to environment units."""
        return (self.midpoint + actions * self.half_range).clamp(self.low, self.high)


class ActionChoices(ActionCodec):
    """Choices among n: a table row each, and a logit each.

    Source: Decision Transformer's Atari model for the table; that model's tanh behind it belongs to its own tokens.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.size = n

    def make_embedding(self, width: int) -> nn.Embedding:
        """A table `[n,D]` of small numbers, as GPT-2's words and the Atari model's actions start with.

        With PyTorch's own, of variance 1, a shared head starts at logits of deviation √D and learns far slower.
        """
        embedding = nn.Embedding(self.size, width)
        nn.init.normal_(embedding.weight, std=0.02)
        return embedding

    def embed(self, actions: Int[Tensor, "*R B K"], embedding: nn.Module) -> Float[Tensor, "*R B K D"]:
        """Their rows. Padding and the action not yet taken stand here as choice 0; no prediction sees either."""
        assert isinstance(embedding, nn.Embedding)  # it made it
        return look_up(embedding.weight, actions)

    def shared_head(self, embedding: nn.Module) -> Float[Tensor, "*R n D"]:
        """The table itself: a logit is the product of hidden state and row."""
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    def read(self, outputs: Float[Tensor, "*R B K n"]) -> Float[Tensor, "*R B K n"]:
        """Logits."""
        return outputs.float()


def action_codec(space: Space) -> ActionCodec:
    """What suits an action space.

    Raises:
        ConfigError: a box without finite bounds, or more choices than `MAX_CHOICES`.
    """
    if space.n is not None:
        if not 1 <= space.n <= MAX_CHOICES:
            raise ConfigError(
                f"expected 1 to {MAX_CHOICES:,} choices of action; found {space.n:,}; number them from 0 without gaps"
            )
        return ActionChoices(space.n)
    low, high = (
        torch.broadcast_to(torch.tensor(bound, dtype=torch.float32), (space.size,)).clone()
        for bound in (space.low, space.high)
    )
    if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (low < high).all()):
        raise ConfigError(f"expected bounded actions; found {space.low} … {space.high}")
    return ActionScaler(low, high)


def draw_choices(logits: Float[Tensor, "N n"], uniform: Float64[Tensor, "N"]) -> Int[Tensor, "N"]:
    """One choice per row with the probabilities softmax(logits), from one uniform number in [0, 1) per row.

    By inverting the distribution function: choice j if the number lies between the summed probabilities of the choices
    before j and those up to j.
    """
    borders = logits.double().softmax(-1).cumsum(-1)
    return (borders <= uniform[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)
