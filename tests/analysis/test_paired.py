import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float

from tests.analysis.tables import random_scores, rng, whole_scores
from wikirl.analysis.paired import detectable_gap, paired_difference, student_interval
from wikirl.analysis.statistics import bootstrap_interval, mean
from wikirl.errors import ConfigError

X = np.array([[12.0], [15.0], [11.0], [18.0]])
Y = np.array([[10.0], [11.0], [11.0], [12.0]])


def test_by_hand() -> None:
    """Differences 2, 4, 0, 6: mean 3, deviation √(20/3), standard error √(20/12)."""
    found = paired_difference(X, Y, rng=rng())
    assert found.mean.value == found.by_task[0].value == 3
    assert found.num_pairs == 4
    assert found.effect_size == pytest.approx(3 / math.sqrt(20 / 3) * 0.7236, abs=1e-4)  # J(3) = 0.7236
    interval = student_interval(X, Y)
    assert interval.high - 3 == pytest.approx(3.18245 * math.sqrt(20 / 12), abs=1e-4)
    assert interval.low + interval.high == pytest.approx(6)


def test_pairing_takes_out_what_a_seed_gives_both_arms() -> None:
    luck = rng(1).normal(0, 30, (6, 3))
    x, y = random_scores(6, 3, seed=2) + luck, random_scores(6, 3, seed=3) + luck
    paired = paired_difference(x, y, rng=rng()).mean
    shuffled = paired_difference(x, np.roll(y, 1, axis=0), rng=rng()).mean
    assert paired.high - paired.low < 0.6 * (shuffled.high - shuffled.low)


def test_the_interval_is_that_of_the_mean_of_differences() -> None:
    x, y = random_scores(6, 3), random_scores(6, 3, seed=1)
    found = paired_difference(x, y, rng=rng(), num_samples=500, level=0.9)
    expected = bootstrap_interval(x - y, mean, rng=rng(), num_samples=500, level=0.9)
    assert (found.mean.low, found.mean.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean.level, found.mean.num_samples) == (0.9, 500)
    for task, interval in enumerate(found.by_task):
        assert interval.value == pytest.approx((x - y)[:, task].mean())
        assert interval.contains(interval.value)


@given(scores=whole_scores, seed=st.integers(0, 99))
def test_the_order_of_pairs_makes_no_difference(scores: Float[np.ndarray, "R T"], seed: int) -> None:
    other = random_scores(*scores.shape)
    order = rng(seed).permutation(len(scores))
    first = paired_difference(scores, other, rng=rng(), num_samples=20)
    second = paired_difference(scores[order], other[order], rng=rng(), num_samples=20)
    assert (first.mean.low, first.mean.high) == (second.mean.low, second.mean.high)
    assert first.effect_size == pytest.approx(second.effect_size)


@given(scores=whole_scores)
def test_exchanging_the_arms_turns_the_sign(scores: Float[np.ndarray, "R T"]) -> None:
    other = random_scores(*scores.shape)
    forth, back = student_interval(scores, other), student_interval(other, scores)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert detectable_gap(scores, other) == pytest.approx(detectable_gap(other, scores))


@given(scores=whole_scores, shift=st.sampled_from([0.0, 0.1, -7.3]))
def test_a_constant_difference_has_no_spread_and_no_effect_size(scores: Float[np.ndarray, "R T"], shift: float) -> None:
    """Rounding in `scores + shift` is not taken for spread."""
    scores = np.concatenate([scores, scores])
    found = paired_difference(scores + shift, scores, rng=rng(), num_samples=20)
    assert found.effect_size is None
    assert found.mean.value == pytest.approx(shift, abs=1e-12)
    assert detectable_gap(scores + shift, scores) == 0
    interval = student_interval(scores + shift, scores)
    assert interval.low == interval.high == interval.value


def test_effect_size_pools_deviations_within_tasks() -> None:
    """Tasks that differ in their mean difference do not count as spread."""
    x = np.array([[1.0, 101.0], [3.0, 103.0], [5.0, 105.0]])
    found = paired_difference(x, np.zeros((3, 2)), rng=rng())
    assert found.effect_size == pytest.approx(53 / 2 * 0.7979, abs=2e-3)  # J(4) = 0.7979


def test_effect_size_of_a_large_sample_is_the_true_one() -> None:
    x = rng().normal(0.5, 1, (4000, 5))
    assert paired_difference(x, np.zeros((4000, 5)), rng=rng(), num_samples=2).effect_size == pytest.approx(
        0.5, abs=0.03
    )


def test_a_single_pair_says_nothing() -> None:
    found = paired_difference(X[:1], Y[:1], rng=rng())
    assert found.mean.value == 2
    assert not found.mean.is_bounded
    assert not found.by_task[0].is_bounded
    assert found.effect_size is None
    assert found.num_pairs == 1
    assert not student_interval(X[:1], Y[:1]).is_bounded
    assert detectable_gap(X[:1], Y[:1]) == math.inf


def test_two_pairs_of_one_task_have_no_effect_size() -> None:
    assert paired_difference(X[:2], Y[:2], rng=rng()).effect_size is None


def test_the_detectable_gap_is_shown_as_often_as_its_power_says() -> None:
    num_runs, num_tasks, spread = 6, 2, 4.0
    noise = rng().normal(0, spread, (num_runs, num_tasks))
    noise *= spread / noise.std(0, ddof=1)  # a design of exactly this observed spread
    gap = detectable_gap(noise, np.zeros_like(noise))
    trials = rng(1).normal(gap, spread, (400, num_runs, num_tasks))
    shown = [not student_interval(trial, np.zeros_like(trial)).contains(0.0) for trial in trials]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


def test_more_pairs_detect_less() -> None:
    x, y = random_scores(5, 2), random_scores(5, 2, seed=1)
    gaps = [detectable_gap(np.tile(x, (times, 1)), np.tile(y, (times, 1))) for times in (1, 2, 4)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert detectable_gap(x, y, power=0.9) > gaps[0] > detectable_gap(x, y, level=0.9)


def test_what_cannot_be_paired_is_refused() -> None:
    for compare in (student_interval, detectable_gap):
        with pytest.raises(ConfigError, match=r"found tables of \(4, 1\) and \(3, 1\)"):
            compare(X, Y[:3])
    with pytest.raises(ConfigError, match=r"found tables of \(4, 1\) and \(4, 2\)"):
        paired_difference(X, np.tile(Y, 2), rng=rng())
    with pytest.raises(ConfigError, match="found 1 that are not"):
        paired_difference(X, np.where(Y == 12, np.nan, Y), rng=rng())
    with pytest.raises(ConfigError, match="a power between"):
        detectable_gap(X, Y, power=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("num_runs", [3, 5, 10])
def test_the_interval_of_student_covers_the_truth_of_few_pairs(num_runs: int) -> None:
    tables = rng(1).normal(0, [1.0, 3.0], (3000, num_runs, 2))
    covered = [student_interval(table, np.zeros_like(table)).contains(0.0) for table in tables]
    assert 0.935 < np.mean(covered) < 0.975
