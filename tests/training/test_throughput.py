import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from wikirl.models.gpt import GPT, GPTConfig
from wikirl.training.throughput import language_model_gflop, matrix_gflops


def test_operations_are_those_pytorch_counts() -> None:
    """Against PyTorch's own count of a forward, which does not know that attention is causal."""
    config = GPTConfig(num_layers=2, num_heads=2, hidden_size=32, inner_size=128, num_positions=16, vocab_size=50)
    gpt = GPT(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        # On the meta device, where linears are PyTorch's own.
        hidden = gpt.to("meta")(torch.empty(1, 16, 32, device="meta"))
        _ = hidden @ torch.empty(32, 50, device="meta")
    masked = 2 * 2 * 2 * 32 * 16 / 2  # half of the scores and sums, of two layers
    expected = 3 * (counter.get_total_flops() / 16 - masked) / 1e9
    assert language_model_gflop(2, 32, 128, 50, 16) == pytest.approx(expected)


def test_a_machine_multiplies() -> None:
    assert matrix_gflops("cpu", torch.float32, seconds=0.05) > 0.1
