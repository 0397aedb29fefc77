from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from wikirl.errors import ConfigError
from wikirl.models import word_clusters as module
from wikirl.models.word_clusters import assign, spherical_k_means, word_clusters


def table(num_words: int = 200, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(num_words, width, generator=torch.Generator().manual_seed(seed)) * 3 + 0.5


def best_cosines(words: Tensor, centres: Tensor) -> Tensor:
    return (functional.normalize(words, dim=-1) @ functional.normalize(centres, dim=-1).T).amax(dim=-1)


def slow_k_means(words: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Lloyd's algorithm one point at a time, in float64."""
    points = [word.double() / word.double().norm() for word in words]
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    centres = [points[int(i)] for i in order[:num_clusters]]
    nearest: list[int] = []
    for _ in range(50):
        cosines = [[float(point @ centre) for centre in centres] for point in points]
        chosen = [row.index(max(row)) for row in cosines]
        if chosen == nearest:
            break
        nearest = chosen
        for c in range(num_clusters):
            members = [point for point, n in zip(points, nearest, strict=True) if n == c]
            assert members, "choose a seed without an empty cluster"
            total = torch.stack(members).sum(0)
            centres[c] = total / total.norm()
    return torch.stack(centres).float()


@pytest.mark.parametrize("seed", range(4))
def test_it_is_lloyds_algorithm(seed: int) -> None:
    words = table(40, 3, seed)
    torch.testing.assert_close(word_clusters(words, 5, seed=seed), slow_k_means(words, 5, seed))


@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 100))
def test_centres_have_unit_length_and_none_is_empty(num_words: int, num_clusters: int, seed: int) -> None:
    words, num_clusters = table(num_words, 4, seed), min(num_words, num_clusters)
    centres = word_clusters(words, num_clusters, seed=seed)
    assert centres.shape == (num_clusters, 4)
    torch.testing.assert_close(centres.norm(dim=-1), torch.ones(num_clusters))
    _, nearest = assign(functional.normalize(words, dim=-1), centres)
    assert set(nearest.tolist()) == set(range(num_clusters))


def test_an_empty_cluster_restarts_at_the_worst_point() -> None:
    """Two of three starting rows are the same word, so that one of their clusters is empty at first."""
    torch.manual_seed(0)
    groups = torch.eye(3).repeat_interleave(10, 0) + 0.01 * torch.randn(30, 3)
    words = torch.cat([groups[:1].expand(50, 3), groups])
    for seed in range(5):
        centres = spherical_k_means(words, 3, seed)
        assert best_cosines(torch.eye(3), centres).min() > 0.99, seed


def test_centres_fit_better_than_random_words() -> None:
    words = table()
    fit = best_cosines(words, word_clusters(words, 10)).mean()
    for seed in range(5):
        chosen = torch.randperm(len(words), generator=torch.Generator().manual_seed(seed))[:10]
        assert fit > best_cosines(words, words[chosen]).mean() + 0.01


def test_lengths_of_words_do_not_matter() -> None:
    words = table()
    scaled = words * torch.linspace(0.1, 9, len(words))[:, None]
    torch.testing.assert_close(word_clusters(scaled, 7), word_clusters(words, 7), rtol=1e-4, atol=1e-5)


def test_as_many_clusters_as_words_are_the_words() -> None:
    words = table(9, 4)
    assert best_cosines(words, word_clusters(words, 9)).min() > 1 - 1e-6


def test_the_result_depends_on_table_and_seed_alone() -> None:
    words = table()
    torch.manual_seed(1)
    first = word_clusters(words, 8, seed=3)
    torch.manual_seed(2)
    assert torch.equal(word_clusters(words.requires_grad_(), 8, seed=3), first)
    assert not torch.equal(word_clusters(words, 8, seed=4), first)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points, centres = functional.normalize(table(), dim=-1), functional.normalize(table(9, seed=1), dim=-1)
    whole = assign(points, centres)
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = assign(points, centres)
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])


def test_results_are_kept_by_content(tmp_path: Path) -> None:
    words = table()
    first = word_clusters(words, 5, cache=tmp_path)
    assert torch.equal(first, word_clusters(words, 5))
    (path,) = tmp_path.rglob("*.safetensors")
    save_file({"centres": first + 1}, path)  # a mark that shows where the next result comes from
    assert torch.equal(word_clusters(words.clone(), 5, cache=tmp_path), first + 1)
    assert torch.equal(word_clusters(words, 5), first)
    for other, number, seed in ((words + 1e-6, 5, 0), (words, 6, 0), (words, 5, 1)):
        found = word_clusters(other, number, seed=seed, cache=tmp_path)
        torch.testing.assert_close(found, word_clusters(other, number, seed=seed), rtol=0, atol=0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    assert load_file(path).keys() == {"centres"}


def test_more_clusters_than_words() -> None:
    with pytest.raises(ConfigError, match=r"at most 200 clusters.*found 201"):
        word_clusters(table(), 201)
