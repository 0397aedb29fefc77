from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Bool, Float

from tests.analysis.tables import rng
from wikirl.analysis.survival import (
    SurvivalCurve,
    check_horizon,
    kaplan_meier,
    median_time,
    restricted_mean,
    restricted_means,
)
from wikirl.errors import ConfigError

# (time, reached) of each run; times from a few values, so that ties and censoring at a crossing are common.
runs = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=9)


def columns(pairs: list[tuple[int, bool]]) -> tuple[Float[np.ndarray, "R"], Bool[np.ndarray, "R"]]:
    return np.array([float(time) for time, _ in pairs]), np.array([reached for _, reached in pairs])


def slow_kaplan_meier(pairs: list[tuple[int, bool]]) -> dict[int, Fraction]:
    """The textbook's table, a line for each time at which a run crossed, in exact fractions."""
    remaining, table = Fraction(1), {}
    for time in sorted({time for time, reached in pairs if reached}):
        watched = sum(other >= time for other, _ in pairs)
        crossed = sum(other == time and reached for other, reached in pairs)
        remaining *= 1 - Fraction(crossed, watched)
        table[time] = remaining
    return table


def test_by_hand() -> None:
    """6 runs: 1 crosses at 2, 2 at 3 (one censored then, still watched), 1 censored at 4, 1 crosses at 5."""
    times, reached = np.array([3.0, 2.0, 3.0, 4.0, 5.0, 3.0]), np.array([True, True, True, False, True, False])
    curve = kaplan_meier(times, reached)
    np.testing.assert_array_equal(curve.times, [2, 3, 5])
    np.testing.assert_allclose(curve.remaining, [5 / 6, 5 / 6 * 3 / 5, 0], atol=1e-15)
    assert median_time(curve) == 3
    assert restricted_mean(curve, 5.0) == pytest.approx(2 + 5 / 6 + 2 * 1 / 2)
    assert restricted_mean(curve, 4.0) == pytest.approx(2 + 5 / 6 + 1 / 2)
    assert restricted_mean(curve, 1.0) == 1


@given(runs)
def test_the_curve_equals_the_textbook(pairs: list[tuple[int, bool]]) -> None:
    curve, table = kaplan_meier(*columns(pairs)), slow_kaplan_meier(pairs)
    assert curve.times.tolist() == list(table)
    np.testing.assert_allclose(curve.remaining, [float(value) for value in table.values()], atol=1e-12)
    half = [time for time, remaining in table.items() if remaining <= Fraction(1, 2)]
    assert median_time(curve) == (half[0] if half else None)


@given(pairs=runs, horizon=st.integers(1, 9))
def test_the_restricted_mean_is_the_area_under_the_textbook_curve(pairs: list[tuple[int, bool]], horizon: int) -> None:
    table = slow_kaplan_meier(pairs)
    heights = [min((value for time, value in table.items() if time <= t), default=Fraction(1)) for t in range(horizon)]
    assert restricted_mean(kaplan_meier(*columns(pairs)), float(horizon)) == pytest.approx(float(sum(heights)))


@given(runs)
def test_censored_at_the_horizon_the_restricted_mean_is_a_plain_mean(pairs: list[tuple[int, bool]]) -> None:
    times = np.array([float(time) for time, _ in pairs])
    curve = kaplan_meier(np.minimum(times, 5), times <= 5)
    assert restricted_mean(curve, 5.0) == pytest.approx(np.minimum(times, 5).mean())


@given(pairs=runs, seed=st.integers(0, 99))
def test_weights_are_runs_that_occur_so_often(pairs: list[tuple[int, bool]], seed: int) -> None:
    times, reached = columns(pairs)
    drawn = rng(seed).integers(len(pairs), size=(5, len(pairs)))
    weights = np.array([np.bincount(row, minlength=len(pairs)) for row in drawn]).astype(np.float64)
    expected = [restricted_mean(kaplan_meier(times[row], reached[row]), 8.0) for row in drawn]
    np.testing.assert_allclose(restricted_means(weights, times, reached, 8.0), expected)


def test_half_of_the_runs_are_enough_for_a_median() -> None:
    for num_runs in range(2, 40, 2):
        times = np.arange(1.0, num_runs + 1)
        assert median_time(kaplan_meier(times, times <= num_runs / 2)) == num_runs / 2
        assert median_time(kaplan_meier(times, times < num_runs / 2)) is None


def test_nobody_crosses() -> None:
    curve = kaplan_meier(np.array([4.0, 4.0]), np.array([False, False]))
    assert curve.times.size == curve.remaining.size == 0
    assert median_time(curve) is None
    assert restricted_mean(curve, 4.0) == 4


def test_all_cross_at_once() -> None:
    curve = kaplan_meier(np.array([4.0, 4.0]), np.array([True, True]))
    assert (curve.times.tolist(), curve.remaining.tolist()) == ([4], [0])
    assert restricted_mean(curve, 10.0) == 4


def test_senseless_times_are_refused() -> None:
    for times, words in (([-1.0], "from 0 on, found -1"), ([np.nan], "finite times"), ([], "at least one run")):
        with pytest.raises(ConfigError, match=words):
            kaplan_meier(np.array(times, dtype=np.float64), np.ones(len(times), dtype=bool))
    for horizon in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match="positive horizon"):
            check_horizon(horizon)
        with pytest.raises(ConfigError, match="positive horizon"):
            restricted_mean(SurvivalCurve(np.array([1.0]), np.array([0.0])), horizon)


@pytest.mark.extras
def test_scipy_agrees() -> None:
    from scipy import stats

    times, reached = rng().integers(1, 12, 30).astype(np.float64), rng(1).random(30) < 0.6
    data = stats.CensoredData(uncensored=times[reached], right=times[~reached])
    theirs, curve = stats.ecdf(data).sf, kaplan_meier(times, reached)
    np.testing.assert_allclose(curve.remaining, theirs.evaluate(curve.times))
