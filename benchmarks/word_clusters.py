"""Seconds to cluster a 50,257 × 768 word table into 1,000 clusters (the paper's setting for GPT-2).

python benchmarks/word_clusters.py [--num-threads 1]

The table is random with the anisotropy of a language model's: a common direction and a spectrum that falls off.
"""

import argparse
import json
import time

import torch

from wikirl.models.word_clusters import assign, spherical_k_means


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds to cluster a 50,257 × 768 word table.")
    parser.add_argument("--num-threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().num_threads)
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1, 769) ** -0.5
    words = torch.randn(50_257, 768, generator=generator) * scales + scales.flip(0)
    started = time.perf_counter()
    centres = spherical_k_means(words, 1000, seed=0)
    seconds = time.perf_counter() - started
    fit = assign(torch.nn.functional.normalize(words, dim=-1), centres)[0].mean().item()
    print(json.dumps({"seconds": round(seconds, 1), "mean_cosine": round(fit, 4)}))


if __name__ == "__main__":
    main()
