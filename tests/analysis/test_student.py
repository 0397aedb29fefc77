import math
from collections.abc import Callable

import numpy as np
import pytest

from wikirl.analysis.student import detectable_shift, hedges_correction, student_cdf, student_quantile

# From the tables at the end of any textbook: 97.5 % points.
TABLE = {1.0: 12.7062, 2.0: 4.3027, 4.0: 2.7764, 9.0: 2.2622, 30.0: 2.0423, 120.0: 1.9799, 10_000.0: 1.9602}


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_are_those_of_the_tables(degrees: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(TABLE[degrees], abs=5.1e-5)
    assert student_quantile(0.025, degrees) == pytest.approx(-TABLE[degrees], abs=5.1e-5)
    assert student_quantile(0.5, degrees) == pytest.approx(0, abs=1e-9)


CLOSED: dict[float, Callable[[float], float]] = {
    1.0: lambda t: 0.5 + math.atan(t) / math.pi,
    2.0: lambda t: 0.5 + t / (2 * math.sqrt(2 + t * t)),
}


@pytest.mark.parametrize("degrees", CLOSED)
@pytest.mark.parametrize("t", [-30.0, -1.0, 0.0, 0.3, 2.0, 60.0])
def test_one_and_two_degrees_have_closed_forms(degrees: float, t: float) -> None:
    assert student_cdf(t, degrees) == pytest.approx(CLOSED[degrees](t), abs=1e-9)


def test_the_shifted_distribution_is_that_of_shifted_draws() -> None:
    rng = np.random.default_rng(0)
    draws = (rng.standard_normal(400_000) + 1.5) / np.sqrt(rng.chisquare(4, 400_000) / 4)
    for t in (-1.0, 1.0, 3.0):
        assert student_cdf(t, 4.0, 1.5) == pytest.approx((draws <= t).mean(), abs=0.003)


def test_with_many_degrees_the_detectable_shift_is_the_normal_one() -> None:
    assert detectable_shift(1e6, power=0.8, level=0.95) == pytest.approx(1.959964 + 0.841621, abs=1e-4)


def test_the_detectable_shift_is_detected_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    shift = detectable_shift(4.0, power=0.7, level=0.9)
    samples = rng.standard_normal((100_000, 5)) + shift / math.sqrt(5)
    t = samples.mean(1) / (samples.std(1, ddof=1) / math.sqrt(5))
    assert (np.abs(t) > student_quantile(0.95, 4.0)).mean() == pytest.approx(0.7, abs=0.006)


def test_hedges_correction() -> None:
    assert hedges_correction(1.0) == 0
    assert hedges_correction(2.0) == pytest.approx(1 / math.sqrt(math.pi))
    assert hedges_correction(40.0) == pytest.approx(1 - 3 / (4 * 40 - 1), abs=1e-4)


@pytest.mark.extras
@pytest.mark.parametrize("degrees", [1.0, 1.5, 2.0, 4.7, 9.0, 89.0, 1e5])
def test_scipy_agrees(degrees: float) -> None:
    from scipy import stats

    for probability in (0.6, 0.9, 0.975, 0.999):
        assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-7)
    for t in (-3.0, 0.0, 0.5, 2.0, 12.0):
        for shift in (0.0, 0.5, 2.8, 6.0):
            assert student_cdf(t, degrees, shift) == pytest.approx(stats.nct.cdf(t, degrees, shift), abs=1e-8)
