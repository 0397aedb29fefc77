"""Tables of scores to try statistics on."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from jaxtyping import Float


def random_scores(num_runs: int, num_tasks: int, *, seed: int = 0, centre: float = 50.0) -> Float[np.ndarray, "R T"]:
    """Normal scores around a centre, tasks of different level and spread."""
    rng = np.random.default_rng(seed)
    return centre + np.linspace(-5, 5, num_tasks) + rng.normal(0, np.linspace(5, 15, num_tasks), (num_runs, num_tasks))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Whole numbers, so that ties are common and sums exact.
whole_scores = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(-20, 20).map(float)
)
