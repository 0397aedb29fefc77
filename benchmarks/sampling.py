"""Milliseconds to draw one training batch (64 windows of 20 steps) from the memory-mapped Hopper data.

python benchmarks/sampling.py [--batches 2000]
"""

import argparse
import json
import time

import numpy as np
import torch

from wikirl.trajectories.sampling import ContextSampler
from wikirl.trajectories.sources import load_trajectories


def main() -> None:
    parser = argparse.ArgumentParser(description="Milliseconds to draw one training batch.")
    parser.add_argument("--batches", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sampler = ContextSampler(load_trajectories("builtin:hopper-medium-replay"), 20, np.random.default_rng(0))
    sampler.sample(64)
    times = []
    for _ in range(options.batches):
        started = time.perf_counter()
        sampler.sample(64)
        times.append(1e3 * (time.perf_counter() - started))
    print(
        json.dumps(
            {"median_ms": round(float(np.median(times)), 4), "p99_ms": round(float(np.quantile(times, 0.99)), 4)}
        )
    )


if __name__ == "__main__":
    main()
