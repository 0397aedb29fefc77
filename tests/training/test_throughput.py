import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config

from wikirl.training.throughput import language_model_gflop, matrix_gflops


def test_operations_are_those_pytorch_counts() -> None:
    """Against PyTorch's own count for Hugging Face's model, which computes scores of masked tokens too."""
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=32, n_inner=128, n_positions=16, vocab_size=50, bos_token_id=0, eos_token_id=0
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 16, dtype=torch.long)).logits.sum().backward()
    masked = 3 * 2 * 2 * 2 * 32 * 16 / 2  # half of the scores and sums, in two layers
    assert language_model_gflop(2, 32, 128, 50, 16) * 1e9 == pytest.approx(counter.get_total_flops() / 16 - masked)


def test_a_machine_multiplies() -> None:
    assert matrix_gflops("cpu", torch.float32, seconds=0.05) > 0.1
