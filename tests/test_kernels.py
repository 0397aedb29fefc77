"""Each fast form against the plain expression it stands for: values, gradients, and row r of a stack against run r."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wikirl import kernels
from wikirl.kernels import Activation, Dropout, activate, add_dropped, attention, feed_forward, linear, look_up


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradients(output: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(9))
    return torch.autograd.grad((output.float() * weights).sum(), of)


def check_same(fast: Callable[[], Tensor], plain: Callable[[], Tensor], *of: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(fast(), plain(), rtol=tolerance, atol=tolerance, check_dtype=False)
    for found, expected in zip(gradients(fast(), *of), gradients(plain(), *of), strict=True):
        torch.testing.assert_close(
            found, expected, rtol=tolerance, atol=tolerance * max(1, expected.abs().max().item())
        )


@pytest.fixture(params=["oneDNN", "fallback"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to multiply: the undocumented operator, and without it."""
    if request.param == "fallback":
        monkeypatch.setattr(kernels, "_onednn", lambda: None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("biased", [True, False])
def test_linear_is_pytorch_s(biased: bool) -> None:
    inputs, weight, bias = normal(3, 5, 7), normal(11, 7, seed=1), normal(11, seed=2)
    of = (inputs, weight, bias) if biased else (inputs, weight)
    given = bias if biased else None
    check_same(lambda: linear(inputs, weight, given), lambda: F.linear(inputs, weight, given), *of)


@pytest.mark.usefixtures("library")
def test_linear_in_bfloat16_is_autocast_s() -> None:
    inputs, weight, bias = normal(3, 5, 64), normal(32, 64, seed=1), normal(32, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(inputs, weight, bias).dtype == torch.bfloat16
        check_same(
            lambda: linear(inputs, weight, bias), lambda: F.linear(inputs, weight, bias), inputs, weight, bias,
            tolerance=2e-2,
        )  # fmt: skip


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_feed_forward_is_three_modules(activation: Activation, precision: torch.dtype) -> None:
    widen, narrow, inputs = nn.Linear(16, 40), nn.Linear(40, 16), normal(2, 6, 16)

    def plain() -> Tensor:
        return F.linear(activate(widen(inputs), activation), narrow.weight, narrow.bias)

    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        check_same(
            lambda: feed_forward(inputs, widen, narrow, activation), plain,
            inputs, *widen.parameters(), *narrow.parameters(), tolerance=1e-5 if precision == torch.float32 else 3e-2,
        )  # fmt: skip


def test_frozen_weights_get_no_gradient() -> None:
    widen, narrow, inputs = nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 4).requires_grad_(False), normal(3, 4)
    feed_forward(inputs, widen, narrow, "relu").sum().backward()
    assert inputs.grad is not None
    assert all(parameter.grad is None for parameter in [*widen.parameters(), *narrow.parameters()])


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("dropped", [True, False])
def test_attention_is_softmax_of_allowed_scores(num_heads: int, dropped: bool) -> None:
    query, pairs = normal(3, 2, 8), normal(3, 5, 16, seed=1)
    allowed = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()[:, :, 1::3] & (torch.arange(5) != 0)
    bias = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
    draws = torch.rand(3, num_heads, 2, 5, generator=torch.Generator().manual_seed(2))
    keep = (draws > 0.3) / 0.7 if dropped else None

    def plain() -> Tensor:
        def heads(part: Tensor) -> Tensor:
            split: Tensor = part.unflatten(-1, (num_heads, -1))
            return split.transpose(1, 2)

        key, value = heads(pairs[..., :8]), heads(pairs[..., 8:])
        scores = (0.4 * heads(query) @ key.mT).masked_fill(~allowed, float("-inf"))
        weights = scores.softmax(-1) * (1.0 if keep is None else keep)
        mixed: Tensor = weights @ value
        return mixed.transpose(1, 2).flatten(-2)

    check_same(lambda: attention(query, pairs, num_heads, bias, keep, 0.4), plain, query, pairs)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_long_attention_in_blocks_is_causal_attention(num_heads: int) -> None:
    query, pairs = normal(2, 600, 8), normal(2, 600, 16, seed=1)  # two blocks and a rest

    def plain() -> Tensor:
        query_, key, value = (
            part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, pairs[..., :8], pairs[..., 8:])
        )
        mixed = F.scaled_dot_product_attention(query_, key, value, is_causal=True, scale=0.4)
        return mixed.transpose(1, 2).flatten(-2)

    check_same(lambda: attention(query, pairs, num_heads, None, None, 0.4), plain, query, pairs)


def test_attention_without_a_mask_is_causal_and_the_last_query_sees_all() -> None:
    query, pairs = normal(3, 5, 8), normal(3, 5, 16, seed=1)
    causal = torch.full((1, 1, 5, 5), float("-inf")).triu(1)
    full = attention(query, pairs, 2, causal, None, 1.0)
    torch.testing.assert_close(attention(query, pairs, 2, None, None, 1.0), full)
    torch.testing.assert_close(attention(query[:, -1:], pairs, 2, None, None, 1.0), full[:, -1:])


def test_a_row_of_a_stack_is_the_run_alone() -> None:
    inputs, weight, bias = normal(2, 3, 4, 6), normal(2, 5, 6, seed=1), normal(2, 5, seed=2)
    rows = torch.randint(0, 5, (2, 3, 4), generator=torch.Generator().manual_seed(3))
    norm = nn.LayerNorm(6)
    stacked = nn.LayerNorm(6)
    stacked.weight, stacked.bias = nn.Parameter(normal(2, 6, seed=4)), nn.Parameter(normal(2, 6, seed=5))
    for run in range(2):
        torch.testing.assert_close(linear(inputs, weight, bias)[run], linear(inputs[run], weight[run], bias[run]))
        torch.testing.assert_close(linear(inputs, weight, None)[run], linear(inputs[run], weight[run], None))
        torch.testing.assert_close(look_up(weight, rows)[run], look_up(weight[run], rows[run]))
        norm.weight, norm.bias = nn.Parameter(stacked.weight[run]), nn.Parameter(stacked.bias[run])
        torch.testing.assert_close(kernels.layer_norm(inputs, stacked)[run], kernels.layer_norm(inputs[run], norm))


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.999])
def test_dropout_keeps_its_probability_and_the_expectation(probability: float) -> None:
    torch.manual_seed(0)
    mask = Dropout(probability).mask((1000, 1001), torch.device("cpu"))
    assert mask is not None
    share = (mask == 0).float().mean().item()
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 1e6) ** 0.5)
    assert mask.mean().item() == pytest.approx(1.0, abs=4 * (probability / (1 - probability) / 1e6) ** 0.5)
    assert len(mask.unique()) == 2


def test_dropout_masks_do_not_repeat_within_or_between_draws() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.5)
    first, second = (dropout.mask((64, 63), torch.device("cpu")) for _ in range(2))
    assert first is not None
    assert second is not None
    agreement = [(first == second), (first[:, 4:] == first[:, :-4]), (first[1:] == first[:-1])]
    assert all(0.4 < same.float().mean().item() < 0.6 for same in agreement)


def test_nothing_is_dropped_in_evaluation_or_at_probability_zero() -> None:
    assert Dropout(0.5).eval().mask((2, 3), torch.device("cpu")) is None
    assert Dropout(0.0).mask((2, 3), torch.device("cpu")) is None
    stream, update = normal(2, 3), normal(2, 3, seed=1)
    torch.testing.assert_close(add_dropped(stream, update, None), stream + update)


def test_stacked_runs_draw_what_each_would_draw_alone() -> None:
    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    together = Dropout(0.3)
    together.generators = (seeded(1), seeded(2))
    mask = together.mask((2, 3, 7), torch.device("cpu"))
    assert mask is not None
    for run, seed in enumerate((1, 2)):
        alone = Dropout(0.3)
        alone.generators = (seeded(seed),)
        expected = alone.mask((3, 7), torch.device("cpu"))
        assert expected is not None
        assert torch.equal(mask[run], expected)


def test_the_undocumented_operator_is_there() -> None:
    """If PyTorch drops it, products fall back silently to a slower library: this test is how we notice."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("needs 512-bit units")
    assert kernels._onednn() is not None
