import math
import statistics as textbook

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float

from tests.analysis.tables import random_scores, rng, whole_scores
from wikirl.analysis.statistics import (
    Statistic,
    bootstrap_interval,
    deviation,
    improvement_interval,
    interquartile_mean,
    mean,
    median,
    performance_profile,
    probability_of_improvement,
    profile_band,
)
from wikirl.errors import ConfigError

ALL = {"mean": mean, "deviation": deviation, "median": median, "interquartile_mean": interquartile_mean}
SCORES = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, 20.0], [6.0, 100.0]])


def slow_interquartile_mean(scores: Float[np.ndarray, "R T"]) -> float:
    ordered = sorted(scores.ravel().tolist())
    cut = math.floor(len(ordered) / 4)
    return textbook.fmean(ordered[cut : len(ordered) - cut])


def slow_probability(x: Float[np.ndarray, "N T"], y: Float[np.ndarray, "M T"]) -> float:
    pairs = [(a, b) for task in range(x.shape[1]) for a in x[:, task] for b in y[:, task]]
    return textbook.fmean(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)


def test_by_hand() -> None:
    assert mean(SCORES) == 21.5
    assert median(SCORES) == (3 + 40) / 2
    assert interquartile_mean(SCORES) == (4 + 6 + 10 + 20) / 4
    assert deviation(SCORES) == pytest.approx((textbook.stdev([0, 2, 4, 6]) + textbook.stdev([10, 30, 20, 100])) / 2)


@given(whole_scores)
def test_interquartile_mean_equals_the_textbook(scores: Float[np.ndarray, "R T"]) -> None:
    assert interquartile_mean(scores) == pytest.approx(slow_interquartile_mean(scores), abs=1e-12)


@given(scores=whole_scores, factor=st.sampled_from([0.5, 1.0, 4.0]), shift=st.integers(-9, 9))
def test_statistics_follow_shift_and_scale(scores: Float[np.ndarray, "R T"], factor: float, shift: int) -> None:
    for statistic in (mean, median, interquartile_mean):
        assert statistic(factor * scores + shift) == pytest.approx(factor * statistic(scores) + shift, abs=1e-9)
    assert deviation(factor * scores + shift) == pytest.approx(factor * deviation(scores), abs=1e-9, nan_ok=True)


@given(scores=whole_scores, seed=st.integers(0, 99))
def test_the_order_of_runs_makes_no_difference(scores: Float[np.ndarray, "R T"], seed: int) -> None:
    shuffled = rng(seed).permuted(scores, axis=0)
    for statistic in (mean, median, interquartile_mean):
        same = [bootstrap_interval(table, statistic, rng=rng(), num_samples=20) for table in (scores, shuffled)]
        assert same[0] == same[1]
    other = random_scores(3, scores.shape[1])
    assert improvement_interval(scores, other, rng=rng(), num_samples=20) == improvement_interval(
        shuffled, other[::-1].copy(), rng=rng(), num_samples=20
    )


@pytest.mark.parametrize("name", ALL)
def test_the_bootstrap_is_that_of_the_textbook(name: str) -> None:
    """One table after the other, a run after the other, with the same draws."""
    scores, statistic = np.sort(random_scores(5, 3), axis=0), ALL[name]
    interval = bootstrap_interval(scores, statistic, rng=rng(), num_samples=300, level=0.8)
    draws = rng().integers(5, size=(300, 5, 3))
    samples = []
    for draw in draws:
        table = np.array([[scores[draw[run, task], task] for task in range(3)] for run in range(5)])
        samples.append(statistic(table))
    assert interval.value == statistic(scores)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(samples, [0.1, 0.9])))
    assert (interval.level, interval.num_samples) == (0.8, 300)


def test_the_interval_of_a_mean_is_the_normal_one_for_many_runs() -> None:
    scores = random_scores(400, 3)
    interval = bootstrap_interval(scores, mean, rng=rng(), num_samples=20_000)
    error = math.sqrt((scores.var(0) / 400).sum()) / 3
    assert interval.low == pytest.approx(interval.value - 1.96 * error, abs=0.05 * error)
    assert interval.high == pytest.approx(interval.value + 1.96 * error, abs=0.05 * error)


@pytest.mark.parametrize("name", ["mean", "median", "interquartile_mean"])
def test_the_interval_of_symmetric_scores_surrounds_their_centre(name: str) -> None:
    scores = np.array([[-3.0], [-1.0], [0.0], [1.0], [3.0]]) * [[1.0, 2.0, 3.0]] + 50
    interval = bootstrap_interval(scores, ALL[name], rng=rng())
    assert interval.value == pytest.approx(50)
    assert interval.contains(interval.value)
    assert interval.high - 50 == pytest.approx(50 - interval.low, rel=0.3)


def test_more_samples_than_fit_in_a_block_are_all_drawn() -> None:
    interval = bootstrap_interval(random_scores(300, 9), mean, rng=rng(), num_samples=500)
    assert interval.num_samples == 500
    assert interval.contains(interval.value)


@given(whole_scores)
def test_scores_without_spread_have_an_interval_without_width(scores: Float[np.ndarray, "R T"]) -> None:
    level = np.repeat(scores[:1], 4, axis=0)
    interval = bootstrap_interval(level, median, rng=rng(), num_samples=10)
    assert interval.low == interval.value == interval.high


def test_a_single_run_gives_no_interval() -> None:
    scores = SCORES[:1]
    assert math.isnan(deviation(scores))
    for interval in (
        bootstrap_interval(scores, mean, rng=rng()),
        improvement_interval(scores, SCORES, rng=rng()),
        improvement_interval(SCORES, scores, rng=rng()),
    ):
        assert (interval.low, interval.high, interval.num_samples) == (-math.inf, math.inf, 0)
    low, high = profile_band(scores, np.array([1.0, 2.0]), rng=rng())
    assert (low == -np.inf).all()
    assert (high == np.inf).all()


def test_a_statistic_of_ones_own() -> None:
    worst_task = Statistic(lambda tables: np.asarray(tables.mean(1).min(1)))
    assert worst_task(SCORES) == 3
    assert bootstrap_interval(SCORES, worst_task, rng=rng()).contains(3.0)


@given(x=whole_scores, y=whole_scores)
def test_probability_of_improvement_equals_the_textbook(
    x: Float[np.ndarray, "N T"], y: Float[np.ndarray, "M T2"]
) -> None:
    num_tasks = min(x.shape[1], y.shape[1])
    x, y = x[:, :num_tasks], y[:, :num_tasks]
    probability = probability_of_improvement(x, y)
    assert probability == pytest.approx(slow_probability(x, y))
    assert probability_of_improvement(y, x) == pytest.approx(1 - probability)


def test_the_bootstrap_of_improvement_is_that_of_the_textbook() -> None:
    x, y = np.sort(random_scores(4, 2), axis=0), np.sort(random_scores(6, 2, seed=1), axis=0)
    interval = improvement_interval(x, y, rng=rng(), num_samples=200)
    draws, samples = rng(), []
    of_x, of_y = draws.integers(4, size=(200, 4, 2)), draws.integers(6, size=(200, 6, 2))
    for draw_x, draw_y in zip(of_x, of_y, strict=True):
        samples.append(slow_probability(np.take_along_axis(x, draw_x, 0), np.take_along_axis(y, draw_y, 0)))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    assert interval.value == probability_of_improvement(x, y)


def test_an_arm_that_always_wins() -> None:
    x, y = random_scores(5, 3) + 1000, random_scores(4, 3)
    interval = improvement_interval(x, y, rng=rng())
    assert interval.low == interval.value == interval.high == 1


def test_two_equal_arms_are_a_coin() -> None:
    assert probability_of_improvement(SCORES, SCORES) == 0.5
    assert probability_of_improvement(np.ones((3, 2)), np.ones((5, 2))) == 0.5


def test_a_profile_by_hand() -> None:
    profile = performance_profile(SCORES, np.array([-1.0, 0.0, 5.0, 10.0, 99.0, 100.0]))
    np.testing.assert_array_equal(profile, np.array([8, 7, 5, 3, 1, 0]) / 8)


def test_the_band_is_the_bootstrap_of_the_profile() -> None:
    scores, thresholds = np.sort(random_scores(5, 3), axis=0), np.array([0.0, 45.0, 55.0, 200.0])
    low, high = profile_band(scores, thresholds, rng=rng(), num_samples=300)
    draws = rng().integers(5, size=(300, 5, 3))
    samples = [performance_profile(np.take_along_axis(scores, draw, 0), thresholds) for draw in draws]
    np.testing.assert_allclose([low, high], np.quantile(samples, [0.025, 0.975], axis=0))
    profile = performance_profile(scores, thresholds)
    assert (low <= profile).all()
    assert (profile <= high).all()
    assert low[0] == high[0] == 1
    assert low[-1] == high[-1] == 0


def test_bad_tables_are_refused() -> None:
    broken = SCORES.copy()
    broken[1, 1] = np.nan
    with pytest.raises(ConfigError, match="found 1 that are not"):
        mean(broken)
    with pytest.raises(ConfigError, match="finite thresholds"):
        performance_profile(SCORES, np.array([np.nan]))
    with pytest.raises(ConfigError, match="found 2 and 1 columns"):
        probability_of_improvement(SCORES, SCORES[:, :1])
    with pytest.raises(ConfigError, match="bootstrap sample"):
        bootstrap_interval(SCORES, mean, rng=rng(), num_samples=0)


@pytest.mark.slow
@pytest.mark.parametrize(("num_runs", "num_tasks", "lowest"), [(40, 1, 0.925), (20, 3, 0.925), (5, 9, 0.89)])
def test_the_interval_of_a_mean_covers_the_truth(num_runs: int, num_tasks: int, lowest: float) -> None:
    """Few runs cover less than 95 %: the bootstrap's spread is short by a factor of √(1 − 1/R)."""
    tables, draws = rng(1).normal(size=(4000, num_runs, num_tasks)), rng(2)
    covered = [bootstrap_interval(table, mean, rng=draws, num_samples=1000).contains(0.0) for table in tables]
    assert lowest < np.mean(covered) < 0.96
