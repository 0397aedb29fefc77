import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.tables import rng
from wikirl.analysis.convergence import first_crossing, own_maximum_rule, time_ratio
from wikirl.errors import ConfigError

STEPS = np.array([100, 200, 300, 400])
CURVES = np.array(
    [
        [10.0, 60.0, 40.0, 70.0],  # crosses 50 at 200, falls back, crosses again
        [50.0, 20.0, 20.0, 20.0],  # at the threshold at once
        [10.0, 20.0, 30.0, 49.9],  # never
        [10.0, 20.0, 30.0, 50.0],  # at the very end
    ]
)
YES, NO = True, False


def test_first_crossings_by_hand() -> None:
    times, reached = first_crossing(STEPS, CURVES, 50.0)
    assert times.tolist() == [200, 100, 400, 400]
    assert reached.tolist() == [True, True, False, True]


def test_each_run_may_have_its_own_clock() -> None:
    seconds = STEPS * np.array([[1.0], [2.0], [3.0], [4.0]]) / 100
    times, reached = first_crossing(seconds, CURVES, 50.0)
    assert times.tolist() == [2, 2, 12, 16]
    assert reached.tolist() == [True, True, False, True]


def test_the_rule_of_ones_own_maximum_by_hand() -> None:
    assert own_maximum_rule(STEPS, CURVES).tolist() == [400, 100, 400, 400]
    assert own_maximum_rule(STEPS, CURVES, within=10.0).tolist() == [200, 100, 400, 400]
    assert own_maximum_rule(STEPS, CURVES, within=100.0).tolist() == [100, 100, 100, 100]


def test_the_rule_of_ones_own_maximum_flatters_a_run_that_learns_nothing() -> None:
    learns, sleeps = np.array([[1.0, 20.0, 40.0, 60.0]]), np.array([[1.0, 1.5, 0.5, 1.0]])
    assert own_maximum_rule(STEPS, sleeps)[0] < own_maximum_rule(STEPS, learns)[0]
    assert not first_crossing(STEPS, sleeps, 54.0)[1][0]


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(0, 10))
def test_crossings_equal_a_loop(curves: list[list[int]], threshold: int) -> None:
    times, reached = first_crossing(STEPS, np.array(curves, dtype=np.float64), float(threshold))
    for time, crossed, curve in zip(times, reached, curves, strict=True):
        found = [step for step, score in zip(STEPS.tolist(), curve, strict=True) if score >= threshold]
        assert (time, crossed) == ((found[0], True) if found else (400, False))


def test_the_ratio_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 8.0, 8.0])
    found = time_ratio(a, np.array([YES, YES, YES]), b, np.array([YES, YES, NO]), horizon=8.0, rng=rng())
    assert (found.mean_a, found.mean_b) == pytest.approx((2, 20 / 3))
    assert found.ratio.value == pytest.approx(10 / 3)
    assert found.ratio.contains(10 / 3)
    counts = found.num_reached_a, found.num_runs_a, found.num_reached_b, found.num_runs_b, found.horizon
    assert counts == (3, 3, 2, 3, 8)


def test_the_bootstrap_of_the_ratio_is_that_of_the_textbook() -> None:
    """With censoring at the horizon alone, a restricted mean is a plain mean."""
    a, b = np.array([1.0, 2.0, 3.0, 9.0]), np.array([4.0, 6.0, 9.0])
    found = time_ratio(a, a < 9, b, b < 9, horizon=9.0, rng=rng(), num_samples=300, level=0.8)
    draws = rng()
    of_a, of_b = draws.integers(4, size=(300, 4)), draws.integers(3, size=(300, 3))
    low, high = np.quantile(b[of_b].mean(1) / a[of_a].mean(1), [0.1, 0.9])
    assert (found.ratio.low, found.ratio.high) == pytest.approx((low, high))
    assert (found.ratio.level, found.ratio.num_samples) == (0.8, 300)


def test_an_arm_twice_as_fast_comes_out_as_twice_as_fast() -> None:
    a = rng().gamma(4, 10, 400)
    b, watched = 2 * rng(1).gamma(4, 10, 400), 1000.0
    found = time_ratio(a, a < watched, b, b < watched, horizon=watched, rng=rng())
    assert found.ratio.contains(2.0)
    assert found.ratio.high - found.ratio.low < 0.4


def test_equal_arms_have_the_ratio_one() -> None:
    times, reached = np.array([1.0, 4.0, 9.0, 9.0]), np.array([YES, YES, NO, NO])
    ratio = time_ratio(times, reached, times, reached, horizon=9.0, rng=rng()).ratio
    assert ratio.value == 1
    assert ratio.low < 1 < ratio.high


def test_exchanging_the_arms_turns_the_ratio_round() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 8.0, 8.0])
    reached = np.array([YES, YES, NO])
    forth = time_ratio(a, reached, b, reached, horizon=3.0, rng=rng())
    back = time_ratio(b, reached, a, reached, horizon=3.0, rng=rng())
    assert forth.ratio.value == pytest.approx(1 / back.ratio.value)


@given(st.permutations(range(4)))
def test_the_order_of_runs_makes_no_difference(order: list[int]) -> None:
    times, reached = np.array([1.0, 4.0, 9.0, 9.0]), np.array([YES, YES, NO, YES])
    other = np.array([2.0, 9.0])
    first = time_ratio(times, reached, other, other < 9, horizon=9.0, rng=rng(), num_samples=50)
    assert first == time_ratio(times[order], reached[order], other, other < 9, horizon=9.0, rng=rng(), num_samples=50)


def test_what_happens_behind_the_horizon_is_not_seen() -> None:
    a, b, reached = np.array([1.0, 5.0, 7.0]), np.array([2.0, 6.0, 6.0]), np.array([YES, YES, YES])
    found = time_ratio(a, reached, b, reached, horizon=4.0, rng=rng())
    assert (found.num_reached_a, found.num_reached_b) == (1, 1)
    assert found.ratio.value == pytest.approx((2 + 4 + 4) / (1 + 4 + 4))


def test_what_was_spent_before_counts_as_if_every_time_and_the_horizon_were_later() -> None:
    a, b = np.array([1.0, 2.0, 8.0]), np.array([4.0, 8.0, 8.0])
    found = time_ratio(a, a < 8, b, b < 8, horizon=8.0, rng=rng(), offset_a=6.0)
    assert found.mean_a == pytest.approx(6 + 11 / 3)
    assert found.mean_b == pytest.approx(20 / 3)
    assert found.ratio.value == pytest.approx((20 / 3) / (6 + 11 / 3))
    later = time_ratio(a + 6, a < 8, b + 6, b < 8, horizon=14.0, rng=rng())
    assert later.mean_a == pytest.approx(found.mean_a)


def test_runs_that_ended_early_are_censored_there() -> None:
    """Kaplan and Meier by hand: of 3 runs one crosses at 2, one is censored at 3, one crosses at 4."""
    times, reached = np.array([2.0, 3.0, 4.0]), np.array([YES, NO, YES])
    found = time_ratio(times, reached, np.array([1.0, 1.0]), np.array([YES, YES]), horizon=6.0, rng=rng())
    assert found.mean_a == pytest.approx(2 + 2 / 3 * 2)


def test_where_nothing_can_be_said_the_ratio_is_unbounded() -> None:
    never, some = np.array([NO, NO]), np.array([YES, NO])
    for reached_a, reached_b in ((never, never), (some[:1], some), (some, some[:1])):
        a, b = np.where(reached_a, 3.0, 9.0), np.where(reached_b, 3.0, 9.0)
        found = time_ratio(a, reached_a, b, reached_b, horizon=9.0, rng=rng())
        assert (found.ratio.low, found.ratio.high) == (-math.inf, math.inf)


def test_one_arm_that_never_crosses_bounds_the_ratio() -> None:
    a, b = np.array([2.0, 3.0, 4.0]), np.full(3, 9.0)
    ratio = time_ratio(a, a < 9, b, b < 9, horizon=9.0, rng=rng()).ratio
    assert ratio.value == pytest.approx(3)
    assert 9 / 4 <= ratio.low < 3 < ratio.high <= 9 / 2


def test_bad_input_is_refused() -> None:
    a, reached = np.array([1.0, 4.0]), np.array([YES, NO])
    for horizon, offset, times, words in (
        (5.0, 0.0, a, "while the second arm was watched until 4"),
        (0.0, 0.0, a, "positive horizon"),
        (4.0, -1.0, a, "an offset of at least 0"),
        (4.0, 0.0, a - 1, "a run of the second arm at 0"),
        (4.0, 0.0, a - 2, "times from 0 on"),
    ):
        with pytest.raises(ConfigError, match=words):
            time_ratio(a * 2, reached, times, reached, horizon=horizon, rng=rng(), offset_a=offset)
    with pytest.raises(ConfigError, match="finite threshold"):
        first_crossing(STEPS, CURVES, math.nan)
    with pytest.raises(ConfigError, match="ascending order"):
        first_crossing(STEPS[::-1], CURVES, 50.0)
    with pytest.raises(ConfigError, match="at least 0 points"):
        own_maximum_rule(STEPS, CURVES, within=-1.0)
    with pytest.raises(ConfigError, match="finite scores"):
        own_maximum_rule(STEPS, np.where(CURVES == 70, np.nan, CURVES))
