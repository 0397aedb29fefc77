"""Student's t, central and not, so that the core install needs no SciPy. Knows no scores.

T = (Z + shift) / W with Z normal and W² = chi²/degrees, so P(T ≤ t) is the mean of Φ(t·W − shift) over W. The mean is a
trapezoid sum over log W, whose integrand is smooth and dies out at both ends: exact to about 1e-10 for degrees ≥ 1.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float

NUM_POINTS = 401
NEGLIGIBLE = 40.0
"""The density's logarithm this far below its peak is left out."""


def student_cdf(t: float, degrees: float, shift: float = 0.0) -> float:
    """Probability that a t variable is at most `t`.

    Args:
        t: The bound.
        degrees: Degrees of freedom, ≥ 1, not necessarily whole.
        shift: Noncentrality, the true effect over its standard error.
    """
    widths, weights = _chi_grid(degrees)
    arguments = (shift - t * widths) / math.sqrt(2)
    return float(weights @ [math.erfc(argument) / 2 for argument in arguments.tolist()])


def student_quantile(probability: float, degrees: float) -> float:
    """The value that a central t variable stays below with `probability`."""
    if probability < 0.5:
        return -student_quantile(1 - probability, degrees)
    return _solve(lambda t: student_cdf(t, degrees), probability)


def detectable_shift(degrees: float, *, power: float, level: float) -> float:
    """The noncentrality at which a two-sided t test of size 1 − `level` rejects with probability `power`."""
    critical = student_quantile((1 + level) / 2, degrees)

    def rejected(shift: float) -> float:
        return 1 - student_cdf(critical, degrees, shift) + student_cdf(-critical, degrees, shift)

    return _solve(rejected, power)


def hedges_correction(degrees: float) -> float:
    """What takes the small-sample bias from a standardised mean; 0 for one degree, where no correction exists.

    Source: Hedges 1981, "Distribution theory for Glass's estimator of effect size", equation 6e.
    """
    if degrees <= 1:
        return 0.0
    return math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) / math.sqrt(degrees / 2)


@lru_cache(maxsize=8)
def _chi_grid(degrees: float) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """Values of W and their probabilities."""
    near, far = math.sqrt(NEGLIGIBLE / degrees), NEGLIGIBLE / degrees
    logs = np.linspace(-near - far, near, NUM_POINTS)
    widths = np.exp(logs)
    density = np.exp(degrees * (logs - widths**2 / 2 + 0.5))
    return widths, density / density.sum()


def _solve(increasing: Callable[[float], float], goal: float) -> float:
    """Where a function of x ≥ 0 that grows reaches `goal`; 0 where it begins above."""
    low, high = 0.0, 1.0
    while increasing(high) < goal:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < goal else (low, middle)
    return (low + high) / 2
