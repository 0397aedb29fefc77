"""Intervals, and the resampling they come from: runs are drawn again within each task, tasks never.

Letters beside the house's: R runs (seeds) · T tasks · S bootstrap samples · P points of a curve.

Percentile intervals of few runs are too narrow: docs/results/statistics.md says how much. `paired.student_interval`
is not where differences are about normal.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from wikirl.errors import ConfigError

NUM_SAMPLES = 2000
LEVEL = 0.95
BLOCK = 2**18
"""Numbers drawn at a time: they stay in a core's cache, and memory does not grow with the number of samples."""


@dataclass(frozen=True)
class Interval:
    """An estimate and how far it can be trusted.

    Attributes:
        value: The estimate itself, from the data as they are.
        low: Lower end; -inf where the data cannot say (a single run).
        high: Upper end; inf likewise.
        level: Nominal coverage, 0.95 for 95 %.
        num_samples: Bootstrap samples behind it; 0 where none were drawn.
    """

    value: float
    low: float
    high: float
    level: float
    num_samples: int

    @property
    def is_bounded(self) -> bool:
        """Whether the data said anything of the interval's ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def contains(self, value: float) -> bool:
        """Whether `value` lies inside, ends included."""
        return self.low <= value <= self.high


def unbounded(value: float, level: float) -> Interval:
    """The interval of an estimate whose spread cannot be known."""
    return Interval(value, -math.inf, math.inf, level, 0)


def percentile_interval(value: float, samples: Float[np.ndarray, "S"], level: float) -> Interval:
    """The middle `level` of the bootstrap samples, interpolated linearly between them."""
    low, high = percentiles(samples, level)
    return Interval(value, float(low), float(high), level, len(samples))


def percentiles(samples: Float[np.ndarray, "S *P"], level: float) -> Float[np.ndarray, "2 *P"]:
    """Lower and upper end of the middle `level` of the samples, for each point."""
    return np.asarray(np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0))


def blocks(num_samples: int, num_cells: int) -> Iterator[int]:
    """How many bootstrap samples to draw at a time when each holds `num_cells` numbers; together `num_samples`."""
    block = max(1, BLOCK // num_cells)
    for first in range(0, num_samples, block):
        yield min(block, num_samples - first)


def draw_runs(rng: np.random.Generator, num_samples: int, num_runs: int, num_tasks: int) -> Int[np.ndarray, "S R T"]:
    """Which run stands in each place of each bootstrap sample, drawn for each task on its own."""
    return rng.integers(num_runs, size=(num_samples, num_runs, num_tasks))


def times_drawn(indices: Int[np.ndarray, "S R T"]) -> Float[np.ndarray, "T S R"]:
    """How often each run was drawn: what statistics that are linear in the runs need instead of the tables."""
    num_samples, num_runs, num_tasks = indices.shape
    cells = num_runs * np.arange(num_tasks * num_samples).reshape(num_tasks, num_samples, 1)
    counts = np.bincount((indices.transpose(2, 0, 1) + cells).ravel(), minlength=indices.size)
    return counts.reshape(num_tasks, num_samples, num_runs).astype(np.float64)


def checked(scores: Float[np.ndarray, "*shape"], what: str = "scores") -> Float[np.ndarray, "*shape"]:
    """The array in double precision.

    Raises:
        ConfigError: it is empty, or a value is not finite.
    """
    if scores.size == 0:
        raise ConfigError(f"expected {what} of at least one run and one task, found shape {scores.shape}; give some")
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise ConfigError(
            f"expected finite {what}, found {count} that are not; leave out or repeat the runs behind them"
        )
    return scores.astype(np.float64)


def check_sampling(num_samples: int, level: float) -> None:
    """Refuse what cannot make an interval.

    Raises:
        ConfigError: no samples, or a level outside 0 to 1.
    """
    if num_samples < 1:
        raise ConfigError(f"expected at least one bootstrap sample, found {num_samples}; 2000 is usual")
    check_share(level, "a level")


def check_share(share: float, what: str) -> None:
    """Refuse a share that is none.

    Raises:
        ConfigError: it does not lie between 0 and 1.
    """
    if not 0 < share < 1:
        raise ConfigError(f"expected {what} between 0 and 1, found {share}; 0.95 means 95 %")
