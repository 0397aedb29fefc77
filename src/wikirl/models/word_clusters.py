"""Word clusters: the few directions around which a backbone's word embeddings gather.

Spherical k-means (Lloyd's algorithm on unit vectors with cosine similarity), in chunks, so that a 50,257 × 768 table
into 1,000 clusters needs seconds and little memory. Centres depend on the table and the seed alone and are cached by
content.
"""

import hashlib
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from wikirl.errors import ConfigError
from wikirl.kernels import product
from wikirl.runs import replacing_folder

CHUNK = 8192


def word_clusters(
    words: Float[Tensor, "V D"], num_clusters: int, *, seed: int = 0, cache: Path | None = None
) -> Float[Tensor, "C D"]:
    """Unit-length cluster centres of a word table.

    Args:
        words: Word embeddings.
        num_clusters: How many centres (the paper: 1000).
        seed: Chooses the rows that the search starts from.
        cache: Folder to keep results in; None for no cache.

    Raises:
        ConfigError: there are fewer words than clusters.

    Source: facts 1.2; the released code takes plain means of raw rows instead (docs/differences.md).
    """
    if num_clusters > len(words):
        raise ConfigError(f"expected at most {len(words)} clusters (the size of the vocabulary); found {num_clusters}")
    words = words.detach().float().cpu().contiguous()
    if cache is None:
        return spherical_k_means(words, num_clusters, seed)
    digest = hashlib.sha256(words.numpy().tobytes()).hexdigest()[:16]
    folder = cache / "word_clusters" / f"{digest}-{num_clusters}-{seed}"
    if not (folder / "centres.safetensors").exists():
        with replacing_folder(folder) as temporary:
            save_file({"centres": spherical_k_means(words, num_clusters, seed)}, temporary / "centres.safetensors")
    return load_file(folder / "centres.safetensors")["centres"]


def spherical_k_means(
    points: Float[Tensor, "V D"], num_clusters: int, seed: int, max_rounds: int = 50
) -> Float[Tensor, "C D"]:
    """Lloyd's algorithm with cosine similarity; an empty cluster restarts at the worst-fitting point.

    A round compares only what may have changed: members of a cluster that gained or lost points with all centres, all
    others with the centres of such clusters. The result is that of whole rounds, in two thirds of the time.
    """
    points = F.normalize(points, dim=-1)
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randperm(len(points), generator=generator)[:num_clusters]]
    fit, nearest = assign(points, centres)
    changed = torch.ones(num_clusters, dtype=torch.bool)
    for _ in range(max_rounds - 1):
        _move(centres, changed, points, fit, nearest)
        before = nearest.clone()
        members = changed[nearest]
        fit[members], nearest[members] = assign(points[members], centres)
        others = (~members).nonzero()[:, 0]
        candidate_fit, candidate = assign(points[others], centres[changed])
        better = candidate_fit > fit[others]
        fit[others[better]] = candidate_fit[better]
        nearest[others[better]] = changed.nonzero()[:, 0][candidate[better]]
        moved = nearest != before
        if not moved.any():
            break
        changed = torch.bincount(nearest, minlength=num_clusters) == 0
        changed[before[moved]] = changed[nearest[moved]] = True
    return centres


def _move(
    centres: Float[Tensor, "C D"],
    changed: Bool[Tensor, "C"],
    points: Float[Tensor, "V D"],
    fit: Float[Tensor, "V"],
    nearest: Int[Tensor, "V"],
) -> None:
    """Put the centres of changed clusters into the middle of their members."""
    members = changed[nearest].nonzero()[:, 0]
    sums = torch.zeros_like(centres).index_add_(0, nearest[members], points[members])
    empty = torch.bincount(nearest, minlength=len(centres)) == 0
    sums[empty] = points[fit.argsort()[: int(empty.sum())]]
    centres[changed] = F.normalize(sums, dim=-1)[changed]


def assign(points: Float[Tensor, "V D"], centres: Float[Tensor, "C D"]) -> tuple[Float[Tensor, "V"], Int[Tensor, "V"]]:
    """Cosine to, and index of, each point's nearest centre; both arguments of unit length."""
    best = [product(part, centres).max(dim=-1) for part in points.split(CHUNK)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])
