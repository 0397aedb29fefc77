"""The two architectures that are measured, and what their arithmetic amounts to in GFLOP."""

from dataclasses import dataclass

OBSERVATION_SIZE, ACTION_SIZE = 11, 3  # Hopper
CONTEXT_LENGTH, MAX_TIMESTEPS = 20, 1000


@dataclass(frozen=True)
class Shape:
    """The size of a GPT-2 under a Decision Transformer; dropout is 0.1 everywhere."""

    num_layers: int
    num_heads: int
    hidden_size: int
    activation: str

    def step_gflop(self, batch_size: int) -> float:
        """A training step: three times the forward, whose last layer asks for the observation tokens only.

        A token costs 24 D² in the matrices of a layer and 4 L D in its attention, without the causal half spared.
        """
        width, length = self.hidden_size, 3 * CONTEXT_LENGTH
        full = self.num_layers - 1 + 1 / 3
        keys_and_values = 4 * width**2 * 2 / 3  # of the last layer's other two thirds
        forward = full * (24 * width**2 + 4 * length * width) + keys_and_values
        return 3e-9 * batch_size * length * forward

    def action_gflop(self) -> float:
        """One action from an exact window: all layers but the last in full, the last for one token."""
        width, length = self.hidden_size, 3 * CONTEXT_LENGTH - 1
        full = (self.num_layers - 1) * length * (24 * width**2 + 4 * length * width)
        last = length * 4 * width**2 + 20 * width**2 + 4 * length * width
        return 1e-9 * (full + last)

    def language_gflop(self, length: int, vocab_size: int) -> float:
        """A token of language-model training, output head included."""
        width = self.hidden_size
        forward = self.num_layers * (24 * width**2 + 4 * length * width) + 2 * width * vocab_size
        return 3e-9 * forward


DECISION_TRANSFORMER = Shape(num_layers=3, num_heads=1, hidden_size=128, activation="relu")
GPT2_SMALL = Shape(num_layers=12, num_heads=12, hidden_size=768, activation="gelu_new")
