"""What a Decision Transformer asks of a backbone, and every backbone gives.

Two classes do: `GPT` (gpt.py), our own lean forward for the GPT-2 family, and `HuggingFaceBackbone` (hugging_face.py),
which wraps any other causal decoder of Hugging Face's library.
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

# What to read: all positions, or the last one.
EVERYTHING, LAST = slice(None), slice(-1, None)


class Backbone(nn.Module, ABC):
    """A causal sequence model: embeddings `[B,L,D]` in, hidden states `[B,L,D]` out; owns its word table."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width D of embeddings and hidden states."""

    @property
    @abstractmethod
    def max_length(self) -> int | None:
        """Most tokens L that `forward` takes; None for any number."""

    @property
    @abstractmethod
    def word_table(self) -> Float[Tensor, "*R V D"] | None:
        """Word embeddings; None if there are none, or no more."""

    @property
    @abstractmethod
    def position_table(self) -> Float[Tensor, "*R P D"] | None:
        """Learnt positions that `forward` does not add by itself, so that timesteps can use them; None without."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, in their order."""

    @abstractmethod
    def forward(
        self,
        embeddings: Float[Tensor, "*B L D"],
        mask: Bool[Tensor, "*B L"] | None = None,
        read: slice = EVERYTHING,
    ) -> Float[Tensor, "*B Q D"]:
        """Run all blocks.

        Args:
            embeddings: Inputs with whatever positions they need already added.
            mask: True for real positions. Padded positions are invisible to real ones; what comes out at a padded
                position is finite and means nothing. None if all are real.
            read: The positions that are returned.
        """

    @abstractmethod
    def embed_tokens(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """What `forward` takes for text.

        Raises:
            TypeError: a table that this needs is missing.
        """

    @abstractmethod
    def drop_tables(self, *, words: bool, positions: bool) -> None:
        """Forget tables that will not be used, so that they are neither counted, trained nor saved."""

    @abstractmethod
    def extend_positions(self, num_positions: int) -> None:
        """Make the position table at least `num_positions` long.

        Raises:
            TypeError: there is none.
        """

    @abstractmethod
    def with_dropout(self, *, embedding: float, attention: float, residual: float) -> "Backbone":
        """The same weights under other dropout rates."""

    @abstractmethod
    def fresh(self) -> "Backbone":
        """The same architecture, tables included, with weights from PyTorch's global generator."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The architecture, from which the bundle builds it again."""

    def all_but_norms(self) -> list[nn.Parameter]:
        """All parameters except those of layer norms (RMS norms too), which the names of their classes tell."""
        norms = {
            id(parameter)
            for module in self.modules()
            if "norm" in type(module).__name__.lower()
            for parameter in module.parameters(recurse=False)
        }
        return [parameter for parameter in self.parameters() if id(parameter) not in norms]
