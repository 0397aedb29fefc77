"""A lean GPT-2: one causal forward over embeddings that both text and trajectories use.

It knows the architecture and nothing else: no tokenizer, no files (backbone.py), no losses. Module and parameter names
are GPT-2's as Hugging Face spells them, so that weights copy one to one; the only change is that matrices are stored
as `Linear` (output × input) where Hugging Face's `Conv1D` stores input × output.

Unlike Hugging Face's model, `forward` adds no positions: a Decision Transformer brings its own timestep table, and
Wiki-RL's released code comments the addition out. `embed_tokens` adds them for text.

The file is longer than others to keep the architecture in one place.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wikirl.errors import ConfigError
from wikirl.kernels import Activation, Dropout, add_dropped, attention, feed_forward, is_short, layer_norm, linear
from wikirl.models.sequence_model import EVERYTHING, LAST, Backbone

Memory = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GPTConfig:
    """The architecture of a GPT-2.

    Attributes:
        num_layers: Transformer blocks.
        num_heads: Attention heads per block.
        hidden_size: Width D of the residual stream.
        inner_size: Width of the feed-forward layer (GPT-2: 4 D).
        num_positions: Rows of the position table; 0 for none.
        vocab_size: Rows V of the word table; 0 for none.
        activation: Non-linearity of the feed-forward layer.
        layer_norm_epsilon: Added to variances.
        initializer_range: Standard deviation of initial weights.
        scale_by_inverse_layer: Divide attention scores of layer i by i + 1 as well (a GPT-2 variant).
        embedding_dropout: Dropout on the input embeddings.
        attention_dropout: Dropout on attention weights.
        residual_dropout: Dropout on the output of each sublayer.
    """

    num_layers: int = 3
    num_heads: int = 1
    hidden_size: int = 128
    inner_size: int = 512
    num_positions: int = 1024
    vocab_size: int = 0
    activation: Activation = "relu"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_by_inverse_layer: bool = False
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = (config.hidden_size // config.num_heads) ** -0.5
        if config.scale_by_inverse_layer:
            self.scale /= layer + 1
        self.c_attn = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_dropout)

    def forward(
        self,
        hidden: Float[Tensor, "*B L D"],
        bias: Float[Tensor, "N 1 Q S"] | None,
        read: slice,
        remember: Memory | None = None,
    ) -> Float[Tensor, "*B Q D"]:
        """Mix the positions that are read with those each may look at (where `bias` is 0, or all before it).

        `remember` turns the keys and values of these positions into all that are known, earlier ones included.
        """
        width = hidden.shape[-1]
        weight, offset = self.c_attn.weight, self.c_attn.bias
        query = linear(hidden[..., read, :], weight[..., :width, :], offset[..., :width])
        key_value = linear(hidden, weight[..., width:, :], offset[..., width:])
        if remember is not None:
            key_value = remember(key_value)
        keep = None
        if bias is not None:
            rows = hidden.shape[:-2].numel()
            keep = self.dropout.mask((rows, self.num_heads, *bias.shape[-2:]), hidden.device)
        mixed = attention(query, key_value, self.num_heads, bias, keep, self.scale)
        return linear(mixed, self.c_proj.weight, self.c_proj.bias)


class FeedForward(nn.Module):
    """The position-wise two-layer network of a block."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.c_fc = nn.Linear(config.hidden_size, config.inner_size)
        self.c_proj = nn.Linear(config.inner_size, config.hidden_size)

    def forward(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Widen, bend, narrow."""
        return feed_forward(hidden, self.c_fc, self.c_proj, self.activation)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.mlp = FeedForward(config)
        self.dropout = Dropout(config.residual_dropout)

    def forward(
        self,
        hidden: Float[Tensor, "*B L D"],
        bias: Float[Tensor, "N 1 Q S"] | None,
        read: slice,
        remember: Memory | None = None,
    ) -> Float[Tensor, "*B Q D"]:
        """Add attention, then the feed-forward network, to the residual stream at the positions that are read."""
        attended = self.attn(layer_norm(hidden, self.ln_1), bias, read, remember)
        stream = hidden[..., read, :]
        stream = add_dropped(stream, attended, self.dropout.mask(stream.shape, stream.device))
        transformed = self.mlp(layer_norm(stream, self.ln_2))
        return add_dropped(stream, transformed, self.dropout.mask(stream.shape, stream.device))


class GPT(Backbone):
    """GPT-2 without its language-model head: embeddings `[B,L,D]` in, hidden states `[B,L,D]` out.

    Weights are drawn from the global PyTorch generator (seed it with `reproducibility.seed_everything`), normal with
    `initializer_range`, the two projections that write to the residual stream divided by √(2 · layers).

    Source: Radford et al. 2019, section 2.3; initialisation as in Hugging Face's GPT2PreTrainedModel.
    """

    def __init__(self, config: GPTConfig) -> None:
        """Draw fresh weights.

        Raises:
            ConfigError: heads that do not divide the width, or an unknown activation.
        """
        super().__init__()
        if config.num_heads < 1 or config.hidden_size < 1 or config.hidden_size % config.num_heads:
            raise ConfigError(
                f"expected hidden_size to be a multiple of num_heads; found {config.hidden_size} and {config.num_heads}"
            )
        if config.activation not in get_args(Activation):
            raise ConfigError(
                f"expected an activation of {', '.join(get_args(Activation))}; found {config.activation!r}"
            )
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size) if config.vocab_size else None
        self.wpe = nn.Embedding(config.num_positions, config.hidden_size) if config.num_positions else None
        self.drop = Dropout(config.embedding_dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        std = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln_" not in f".{name}":
                residual = (2 * self.config.num_layers) ** 0.5 if name.endswith("c_proj.weight") else 1.0
                parameter.normal_(0.0, std / residual)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self.config.hidden_size

    @property
    def max_length(self) -> None:
        """None: `forward` adds no positions."""
        return None

    @property
    def word_table(self) -> Float[Tensor, "*R V D"] | None:
        """GPT-2's `wte`."""
        return None if self.wte is None else self.wte.weight

    @property
    def position_table(self) -> Float[Tensor, "*R P D"] | None:
        """GPT-2's `wpe`."""
        return None if self.wpe is None else self.wpe.weight

    @property
    def blocks(self) -> nn.ModuleList:
        """GPT-2's `h`."""
        return self.h

    def with_dropout(self, *, embedding: float, attention: float, residual: float) -> "GPT":
        """The same weights under other dropout rates."""
        config = replace(
            self.config, embedding_dropout=embedding, attention_dropout=attention, residual_dropout=residual
        )
        other = GPT(config)
        other.load_state_dict(self.state_dict())
        return other

    def fresh(self) -> "GPT":
        """The same architecture, weights as the constructor draws them."""
        return GPT(self.config)

    def to_json(self) -> dict[str, Any]:
        """The fields of `GPTConfig`."""
        return asdict(self.config)

    @torch.no_grad()
    def extend_positions(self, num_positions: int) -> None:
        """Make the position table at least `num_positions` long by repeating it from its first row on."""
        if self.wpe is None:
            raise TypeError("this model has no position table")
        if num_positions > len(self.wpe.weight):
            rows = torch.arange(num_positions) % len(self.wpe.weight)
            self.wpe = nn.Embedding.from_pretrained(self.wpe.weight[rows], freeze=False)
            self.config = replace(self.config, num_positions=num_positions)

    def drop_tables(self, *, words: bool, positions: bool) -> None:
        """Forget tables that will not be used, so that they are neither counted, trained nor saved."""
        if words:
            self.wte, self.config = None, replace(self.config, vocab_size=0)
        if positions:
            self.wpe, self.config = None, replace(self.config, num_positions=0)

    def embed_tokens(self, ids: Int[Tensor, "B L"], first_position: int = 0) -> Float[Tensor, "B L D"]:
        """Word plus position embeddings, for text that stands at `first_position` of the table."""
        if self.wte is None or self.wpe is None:
            raise TypeError("this model has no word or position table")
        words: Tensor = self.wte(ids)
        return words + self.wpe.weight[first_position : first_position + ids.shape[1]]

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
            read: The positions that are returned; the last block then asks for nothing else.
        """
        bias = None
        if (
            mask is not None
            or read not in (EVERYTHING, LAST)
            or self._drops_attention
            or is_short(embeddings.shape[-2])
        ):
            bias = _causal_bias(embeddings, mask)
        hidden: Tensor = embeddings
        if (keep := self.drop.mask(embeddings.shape, embeddings.device)) is not None:
            hidden = hidden * keep
        for block in self.h[:-1]:
            hidden = block(hidden, bias, EVERYTHING)
        hidden = self.h[-1](hidden, None if bias is None else bias[:, :, read], read)
        return layer_norm(hidden, self.ln_f)

    @property
    def _drops_attention(self) -> bool:
        return self.training and self.config.attention_dropout > 0


def _causal_bias(embeddings: Float[Tensor, "*B L D"], mask: Bool[Tensor, "*B L"] | None) -> Float[Tensor, "N 1 L L"]:
    """What is added to scores: 0 for real positions up to the query's own and for itself always, −inf for all others.

    Always itself, because a row with nothing to look at would be NaN.
    """
    length = embeddings.shape[-2]
    allowed = torch.ones(1, 1, length, length, dtype=torch.bool, device=embeddings.device).tril()
    if mask is not None:
        itself = torch.eye(length, dtype=torch.bool, device=mask.device)
        allowed = (mask.flatten(0, -2)[:, None, None, :] & allowed) | itself
    return embeddings.new_zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))
