"""The few operations a GPT spends its time in, in the forms that are fastest on a CPU.

Everything here is equal to the plain PyTorch expression in its docstring (tests/test_kernels.py), gradients
included, and falls back to it off the CPU. What each form gained when timed alone is in docs/log.md:

- matrix products through oneDNN, which uses the processor's 512-bit units where PyTorch's default library does not;
- one autograd node for the feed-forward layer and one for attention, which keep less and copy less;
- explicit casts to bfloat16: PyTorch adds a bfloat16 tensor to a float32 one tens of times slower than two of a kind;
- dropout masks from 16 random bits an element instead of one random number an element.

`torch.autocast` chooses the precision of the products; the residual stream, layer norms and softmax stay float32. This
is the only file that calls operators PyTorch does not document; it is longer than others to keep them in one place.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Activation = Literal["relu", "gelu", "gelu_new"]


@cache
def _onednn() -> Callable[..., Tensor] | None:
    """The linear layer of oneDNN, where the processor has 512-bit units for it and this PyTorch the operator."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()
    operators = torch.ops.mkldnn
    return operators._linear_pointwise.default if wide and hasattr(operators, "_linear_pointwise") else None


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed results for the next ones; on other C libraries this does nothing.

    It otherwise gives megabytes back to the system after each operation, to fetch them again page by page: 6,000 page
    faults and a tenth of the time of an exact action for 100 rows. Called where training or scoring begins.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in malloc.h
            mallopt(option, 2**30)


def product(
    rows: Float[Tensor, "M I"], weight: Float[Tensor, "J I"], bias: Float[Tensor, "J"] | None = None, relu: bool = False
) -> Float[Tensor, "M J"]:
    """`rows @ weight.T + bias`, then a ReLU if asked for; outside of autograd."""
    onednn = _onednn()
    if onednn is not None and rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.bfloat16):
        result: Tensor = onednn(rows, weight, bias, "relu" if relu else "none", [], "")
        return result
    result = F.linear(rows, weight, bias)
    return result.relu_() if relu else result


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The precision of products here: autocast's, or the tensor's own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


class _Linear(torch.autograd.Function):
    """`linear` with its products in another precision and through `product`."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        rows, matrix = inputs.flatten(0, -2).to(dtype), weight.to(dtype)
        ctx.save_for_backward(rows, matrix)
        ctx.like = inputs.shape, inputs.dtype
        result = product(rows, matrix, None if bias is None else bias.to(dtype))
        return result.view(*inputs.shape[:-1], len(matrix))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, matrix = ctx.saved_tensors
        shape, dtype = ctx.like
        grad = grad.flatten(0, -2)
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            product(grad, matrix.T).view(shape).to(dtype) if to_inputs else None,
            (grad.T @ rows).float() if to_weight else None,
            grad.sum(0).float() if to_bias else None,
            None,
        )


class _FeedForward(torch.autograd.Function):
    """Linear, activation, linear as one node; with a ReLU only what comes out of it is kept."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, widen: Tensor, bias: Tensor, narrow: Tensor, bias_2: Tensor,
        activation: Activation, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        rows, widen, narrow = inputs.flatten(0, -2).to(dtype), widen.to(dtype), narrow.to(dtype)
        inner = product(rows, widen, bias.to(dtype), relu=activation == "relu")
        ctx.save_for_backward(rows, widen, narrow, inner)
        ctx.like = inputs.shape, inputs.dtype
        ctx.activation = activation
        active = inner if activation == "relu" else activate(inner, activation)
        return product(active, narrow, bias_2.to(dtype)).view(inputs.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, widen, narrow, inner = ctx.saved_tensors
        shape, dtype = ctx.like
        grad = grad.flatten(0, -2)
        to_inputs, trains = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        through = product(grad, narrow.T)
        active = inner
        if ctx.activation == "relu":
            torch.ops.aten.threshold_backward.grad_input(through, inner, 0, grad_input=through)
        else:
            approximate = "tanh" if ctx.activation == "gelu_new" else "none"
            through = torch.ops.aten.gelu_backward(through, inner, approximate=approximate)
            active = activate(inner, ctx.activation)
        return (
            product(through, widen.T).view(shape).to(dtype) if to_inputs else None,
            (through.T @ rows).float() if trains else None,
            through.sum(0).float() if trains else None,
            (grad.T @ active).float() if trains else None,
            grad.sum(0).float() if trains else None,
            None,
            None,
        )


class _Attention(torch.autograd.Function):
    """Short attention as one node: keys' and values' gradients are written side by side."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key_value: Tensor, bias: Tensor, keep: Tensor | None, scale: float) -> Tensor:
        key, value = key_value.chunk(2, dim=-1)
        weights = torch.baddbmm(bias, query, key.mT, alpha=scale).softmax(-1, dtype=torch.float32)
        ctx.save_for_backward(query, key_value, weights, keep)
        ctx.scale = scale
        return torch.bmm((weights if keep is None else weights * keep).to(value.dtype), value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key_value, weights, keep = ctx.saved_tensors
        key, value = key_value.chunk(2, dim=-1)
        grad_key_value = torch.empty_like(key_value)
        grad_key, grad_value = grad_key_value.chunk(2, dim=-1)
        torch.bmm((weights if keep is None else weights * keep).to(grad.dtype).mT, grad, out=grad_value)
        grad_weights = torch.bmm(grad, value.mT).float()
        if keep is not None:
            grad_weights.mul_(keep)
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, torch.float32)
        grad_scores = grad_scores.mul_(ctx.scale).to(query.dtype)
        torch.bmm(grad_scores.mT, query, out=grad_key)
        return torch.bmm(grad_scores, key), grad_key_value, None, None, None


def linear(
    inputs: Float[Tensor, "*B I"], weight: Float[Tensor, "*R J I"], bias: Float[Tensor, "*R J"] | None
) -> Float[Tensor, "*B J"]:
    """`F.linear(inputs, weight, bias)`; with stacked weights, row r of `inputs` meets the weights of run r."""
    dtype = compute_dtype(inputs)
    if weight.ndim == 3:
        rows = inputs.flatten(1, -2).to(dtype)
        offsets = torch.zeros((), dtype=dtype, device=rows.device) if bias is None else bias.to(dtype)[:, None]
        return torch.baddbmm(offsets, rows, weight.to(dtype).mT).view(*inputs.shape[:-1], weight.shape[1])
    if inputs.device.type != "cpu":
        return F.linear(inputs, weight, bias)
    result: Tensor = _Linear.apply(inputs, weight, bias, dtype)  # type: ignore[no-untyped-call]
    return result


def feed_forward(
    inputs: Float[Tensor, "*B D"], widen: nn.Linear, narrow: nn.Linear, activation: Activation
) -> Float[Tensor, "*B D"]:
    """`narrow(activation(widen(inputs)))`."""
    if widen.weight.ndim == 3 or inputs.device.type != "cpu":
        inner = activate(linear(inputs, widen.weight, widen.bias), activation)
        return linear(inner, narrow.weight, narrow.bias)
    result: Tensor = _FeedForward.apply(  # type: ignore[no-untyped-call]
        inputs, widen.weight, widen.bias, narrow.weight, narrow.bias, activation, compute_dtype(inputs)
    )
    return result


def activate(inner: Tensor, activation: Activation) -> Tensor:
    """The non-linearity of a feed-forward layer."""
    match activation:
        case "relu":
            return F.relu(inner)
        case "gelu":
            return F.gelu(inner)
        case "gelu_new":
            return F.gelu(inner, approximate="tanh")


def layer_norm(hidden: Float[Tensor, "*B D"], norm: nn.LayerNorm) -> Float[Tensor, "*B D"]:
    """`norm(hidden)` in float32; with stacked scales and offsets `[R,D]`, row r meets those of run r."""
    if norm.weight.ndim == 1:
        return F.layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    shape = (len(norm.weight), *(1,) * (hidden.ndim - 2), -1)
    return torch.addcmul(
        norm.bias.view(shape), F.layer_norm(hidden, norm.normalized_shape, eps=norm.eps), norm.weight.view(shape)
    )


def attention(
    query: Float[Tensor, "*B Q D"],
    key_value: Float[Tensor, "*B L D2"],
    num_heads: int,
    bias: Float[Tensor, "_ 1 Q L"] | None,
    keep: Float[Tensor, "N H Q L"] | None,
    scale: float,
) -> Float[Tensor, "*B Q D"]:
    """`(keep * softmax(scale * query @ key.T + bias)) @ value` for each head.

    Short sequences, and any with dropout, hold all weights: on a CPU faster than PyTorch's blockwise attention.

    Args:
        query: What each asking position asks, heads side by side; all positions or only the last.
        key_value: Keys, then values, of all positions.
        num_heads: Heads.
        bias: Zero where a query may look, −inf where not; None for all up to its own.
        keep: Scaled dropout mask over the weights; None for no dropout. Needs `bias`.
        scale: Factor on the scores.
    """
    heads = query.flatten(0, -3).unflatten(-1, (num_heads, -1)).transpose(1, 2)
    pairs = key_value.flatten(0, -3).unflatten(-1, (2, num_heads, -1)).movedim(-2, 1)
    length, causal = key_value.shape[-2], bias is None and query.shape[-2] == key_value.shape[-2]
    bias = None if bias is None else bias.to(query.dtype)
    if bias is not None and (keep is not None or is_short(length)):
        mixed = _with_all_weights(heads, pairs, bias, keep, scale)
    elif causal and query.device.type == "cpu" and not is_short(length):
        mixed = _in_blocks(heads, pairs, scale)
    else:
        assert keep is None
        mixed = F.scaled_dot_product_attention(
            heads, pairs[..., 0, :], pairs[..., 1, :], attn_mask=bias, is_causal=causal, scale=scale
        )
    together: Tensor = mixed.transpose(1, 2).flatten(-2)
    return together.view(query.shape)


def _with_all_weights(heads: Tensor, pairs: Tensor, bias: Tensor, keep: Tensor | None, scale: float) -> Tensor:
    num_heads = heads.shape[1]
    flat: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        heads.flatten(0, 1), pairs.flatten(-2).flatten(0, 1),
        bias.expand(-1, num_heads, -1, -1).flatten(0, 1) if len(bias) > 1 else bias[0],
        None if keep is None else keep.flatten(0, 1), scale,
    )  # fmt: skip
    mixed: Tensor = flat.unflatten(0, (-1, num_heads))
    return mixed


def _in_blocks(heads: Tensor, pairs: Tensor, scale: float, size: int = 256) -> Tensor:
    """Causal attention, a block of queries at a time, each with the keys up to its own end.

    Half the scores are never computed, and none twice: for 8 × 1,024 × 128 in bfloat16 73 ms forward and backward
    where PyTorch's blockwise attention takes 121.
    """
    length, parts = heads.shape[2], []
    for first in range(0, length, size):
        end = min(first + size, length)
        bias = heads.new_full((end - first, end), float("-inf")).triu_(first + 1)[None, None]
        parts.append(_with_all_weights(heads[:, :, first:end], pairs[:, :, :end], bias, None, scale))
    return torch.cat(parts, dim=2)


def is_short(length: int) -> bool:
    """Whether attention over this many positions holds all its weights."""
    return length <= 256


def add_dropped(
    stream: Float[Tensor, "*B D"], update: Float[Tensor, "*B D"], keep: Float[Tensor, "*B D"] | None
) -> Float[Tensor, "*B D"]:
    """`stream + keep * update` in the stream's precision; `keep` is a scaled dropout mask or None."""
    update = update.to(stream.dtype)
    return stream + update if keep is None else torch.addcmul(stream, update, keep)


def look_up(table: Float[Tensor, "*R T D"], rows: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
    """`table[rows]`; with stacked tables, row r of `rows` looks into the table of run r."""
    if table.ndim == 3:
        first = torch.arange(len(table), device=rows.device) * table.shape[1]
        rows, table = rows + first.view(-1, *(1,) * (rows.ndim - 1)), table.flatten(0, 1)
    return F.embedding(rows, table)


class Dropout(nn.Module):
    """Masks for inverted dropout, from 16 random bits an element.

    The probability is rounded to a multiple of 1 / 65,536, and the scale to match it, so that the expectation is exact.
    Stacked runs have a generator each, which draws what the run alone would draw.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generators: Sequence[torch.Generator | None] = (None,)

    def mask(self, shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "..."] | None:
        """A mask of zeros and 1 / (1 − p), or None when nothing is dropped."""
        if not self.training or self.probability == 0.0:
            return None
        dropped = min(round(self.probability * 2**16), 2**16 - 1)
        rows = len(self.generators)
        size = math.prod(shape) // rows
        bits = torch.empty(rows, -(-size // 4), dtype=torch.int64, device=device)
        for row, generator in zip(bits, self.generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        kept = bits.view(torch.int16)[:, :size].ge_(dropped - 2**15)
        return kept.to(torch.float32).mul_(2**16 / (2**16 - dropped)).view(shape)


def draw_dropout_from(model: nn.Module, generators: Sequence[torch.Generator]) -> None:
    """Let all dropout in a model draw from these generators: one, or one for each stacked run."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generators = tuple(generators)
