"""rliable 1.2.0, the library of the paper that asked for such intervals, on the same scores.

Its bootstrap is also given our draws: then intervals are equal, not just alike. Of its own it draws from NumPy's global
generator, whatever `random_state` says, so that one is seeded.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float

from tests.analysis.tables import random_scores, rng
from wikirl.analysis.intervals import Interval, draw_runs
from wikirl.analysis.statistics import (
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    mean,
    median,
    performance_profile,
    probability_of_improvement,
    profile_band,
)

pytestmark = pytest.mark.extras

STATISTICS = {"mean": mean, "median": median, "iqm": interquartile_mean}
SHAPES = [(10, 9), (5, 2), (7, 1), (3, 4)]
NUM_SAMPLES = 500


def theirs(name: str) -> Callable[..., Any]:
    from rliable import metrics

    aggregate = getattr(metrics, name)
    return lambda *tables: np.array([aggregate(*tables)])


def sorted_scores(num_runs: int, num_tasks: int, seed: int = 0) -> Float[np.ndarray, "R T"]:
    """Sorted within tasks, as our draws expect; rounded, so that there are ties."""
    return np.round(np.sort(random_scores(num_runs, num_tasks, seed=seed), axis=0))


def with_our_draws(function: Callable[..., Any], scores: Float[np.ndarray, "R T"]) -> Any:
    from rliable.library import StratifiedBootstrap

    draws = iter(draw_runs(rng(), NUM_SAMPLES, *scores.shape))

    class WithOurDraws(StratifiedBootstrap):  # type: ignore[misc]
        def update_indices(self) -> tuple[Any, ...]:
            return (next(draws), *self._strata_indices)

    return WithOurDraws(scores).conf_int(function, reps=NUM_SAMPLES, size=0.95, method="percentile")


@pytest.fixture
def _seeded() -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_and_intervals_are_equal(name: str, shape: tuple[int, int]) -> None:
    scores, aggregate = sorted_scores(*shape), theirs(f"aggregate_{name}")
    ours = bootstrap_interval(scores, STATISTICS[name], rng=rng(), num_samples=NUM_SAMPLES)
    assert ours.value == pytest.approx(aggregate(scores)[0], rel=1e-13)
    np.testing.assert_allclose([ours.low, ours.high], with_our_draws(aggregate, scores)[:, 0], rtol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_of_improvement_and_intervals_are_equal(shape: tuple[int, int]) -> None:
    from rliable.library import StratifiedIndependentBootstrap

    x, y = sorted_scores(*shape), sorted_scores(shape[0] + 1, shape[1], seed=1)
    probability, draws = theirs("probability_of_improvement"), rng()
    indices = [iter(draw_runs(draws, NUM_SAMPLES, *scores.shape)) for scores in (x, y)]

    class WithOurDraws(StratifiedIndependentBootstrap):  # type: ignore[misc]
        def update_indices(self) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
            strata = self._args_strata_indices
            return [(next(draw), *stratum) for draw, stratum in zip(indices, strata, strict=True)], {}

    their_ends = WithOurDraws(x, y).conf_int(probability, reps=NUM_SAMPLES, size=0.95, method="percentile")
    ours = improvement_interval(x, y, rng=rng(), num_samples=NUM_SAMPLES)
    assert ours.value == probability_of_improvement(x, y) == pytest.approx(probability(x, y)[0], rel=1e-13)
    np.testing.assert_allclose([ours.low, ours.high], their_ends[:, 0], rtol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_profiles_and_bands_are_equal(shape: tuple[int, int]) -> None:
    from rliable.library import score_distributions

    scores = sorted_scores(*shape)
    thresholds = np.unique(np.concatenate([scores.ravel()[::5], np.linspace(0, 100, 21)]))
    np.testing.assert_allclose(performance_profile(scores, thresholds), score_distributions(scores, thresholds))
    band = profile_band(scores, thresholds, rng=rng(), num_samples=NUM_SAMPLES)
    np.testing.assert_allclose(band, with_our_draws(lambda table: score_distributions(table, thresholds), scores))


@pytest.mark.usefixtures("_seeded")
def test_with_draws_of_their_own_intervals_are_alike() -> None:
    from rliable.library import get_interval_estimates

    x, y = random_scores(10, 9), random_scores(10, 9, seed=1)

    def alike(ours: Interval, points: Any, ends: Any) -> None:
        """Ends differ by much less than the interval's width: the bootstrap's own noise with 2,000 samples."""
        assert ours.value == pytest.approx(points["x"][0])
        assert (ours.low, ours.high) == pytest.approx(tuple(ends["x"][:, 0]), abs=0.05 * (ours.high - ours.low))

    alike(
        bootstrap_interval(x, interquartile_mean, rng=rng()),
        *get_interval_estimates({"x": x}, theirs("aggregate_iqm"), reps=2000),
    )
    alike(
        improvement_interval(x, y, rng=rng(), num_samples=500),
        *get_interval_estimates({"x": [x, y]}, theirs("probability_of_improvement"), reps=500),
    )
