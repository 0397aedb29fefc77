"""Clustering a 50,257 × 768 word table into 1,000 (the paper's setting for GPT-2): ours, faiss, scikit-learn.

    .venv-extras/bin/python benchmarks/word_clusters.py [--rounds 3] [--num-threads 2] [--smoke]

The table is random with the anisotropy of a language model's: a common direction and a spectrum that falls off. All
start from random rows of it and do the same number of Lloyd's rounds, except the line that says otherwise; the mean
cosine of a word to its centre says how good the clusters are.
"""

from collections.abc import Callable

import faiss
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from timing import Contender, Options, Timing, matrix_products, measure_with_floors, parse_options, table
from torch import Tensor
from torch.nn.functional import normalize

from wikirl.models.word_clusters import assign, spherical_k_means

NUM_ROUNDS = 20


def word_table(num_words: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1, width + 1) ** -0.5
    return torch.randn(num_words, width, generator=generator) * scales + scales.flip(0)


def with_faiss(words: Tensor, num_clusters: int) -> Tensor:
    """Spherical k-means; the limits on points per centre would only draw a sample or warn."""
    kmeans = faiss.Kmeans(
        words.shape[1], num_clusters, niter=NUM_ROUNDS, spherical=True, seed=0,
        min_points_per_centroid=1, max_points_per_centroid=len(words),
    )  # fmt: skip
    kmeans.train(normalize(words, dim=-1).numpy())
    return torch.from_numpy(kmeans.centroids)


def with_scikit_learn(words: Tensor, num_clusters: int) -> Tensor:
    """Plain k-means of unit vectors; `tol` 0 so that it does not stop early."""
    kmeans = KMeans(num_clusters, init="random", n_init=1, max_iter=NUM_ROUNDS, tol=0, random_state=0)
    return torch.from_numpy(kmeans.fit(normalize(words, dim=-1).numpy()).cluster_centers_)


def clustering(options: Options) -> tuple[dict[str, Timing], dict[str, str]]:
    """Seconds for the whole clustering, and the mean cosine reached by each."""
    num_words, width, num_clusters = (2000, 32, 50) if options.smoke else (50_257, 768, 1000)
    words = word_table(num_words, width)
    found: dict[str, Tensor] = {}
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: spherical_k_means(words, num_clusters, 0, NUM_ROUNDS),
        "faiss, spherical": lambda: with_faiss(words, num_clusters),
        "scikit-learn": lambda: with_scikit_learn(words, num_clusters),
        "ours, as fine-tuning calls it": lambda: spherical_k_means(words, num_clusters, 0),
    }

    def keeping(name: str) -> Contender:
        def run() -> float:
            found[name] = ways[name]()
            return 1

        return run

    with threadpool_limits(options.num_threads):
        timings = measure_with_floors(
            {name: keeping(name) for name in ways},
            matrix_products(8192 if not options.smoke else 100, width, num_clusters, smoke=options.smoke),
            2e-9 * NUM_ROUNDS * num_words * width * num_clusters,
            options,
            warm_up=False,
        )
    unit = normalize(words, dim=-1)
    cosines = {
        name: f"{assign(unit, normalize(centres, dim=-1))[0].mean().item():.4f}" for name, centres in found.items()
    }
    return timings, cosines


def main() -> None:
    options = parse_options("Clustering a word table.", num_threads=2)
    faiss.omp_set_num_threads(options.num_threads)
    timings, cosines = clustering(options)
    print(f"## Word clusters\n\n50,257 × 768 into 1,000, {NUM_ROUNDS} rounds, {options.num_threads} threads.\n")
    more = {"mean cosine": cosines}
    print(table(timings, options, unit="s", show=lambda seconds: seconds, ours=("ours",), more=more))


if __name__ == "__main__":
    main()
