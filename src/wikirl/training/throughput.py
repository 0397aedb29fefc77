"""How much arithmetic a step needs, and how much of it this machine could do: the share says what is left to gain."""

import time

import torch

from wikirl.kernels import product


def language_model_gflop(
    num_layers: int, hidden_size: int, inner_size: int, vocab_size: int, block_length: int
) -> float:
    """Billions of operations to train on one token: forward, and twice that backward.

    Matrix products only, as 2 operations a weight and token; causal attention over half the block on average.
    """
    weights = num_layers * (4 * hidden_size**2 + 2 * hidden_size * inner_size) + vocab_size * hidden_size
    attention = num_layers * 2 * hidden_size * block_length / 2
    return 3 * 2 * (weights + attention) / 1e9


def matrix_gflops(device: str, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """Billions of operations a second in products of 1024 × 1024 matrices, the best of those tried in `seconds`."""
    left, right = (torch.ones(1024, 1024, device=device, dtype=dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        product(left, right)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best / 1e9
