import math

import numpy as np
import pytest

from tests.analysis.tables import rng
from wikirl.analysis.intervals import (
    BLOCK,
    Interval,
    blocks,
    check_sampling,
    checked,
    draw_runs,
    percentile_interval,
    times_drawn,
    unbounded,
)
from wikirl.errors import ConfigError


def test_the_middle_of_evenly_spread_samples() -> None:
    interval = percentile_interval(50.0, rng().permutation(np.arange(101.0)), 0.5)
    assert interval == Interval(50.0, 25.0, 75.0, 0.5, 101)


def test_an_interval_contains_its_ends_and_nothing_beyond() -> None:
    interval = Interval(2.0, 1.0, 3.0, 0.95, 100)
    assert interval.contains(1.0)
    assert interval.contains(3.0)
    assert not interval.contains(3.01)
    assert interval.is_bounded


def test_what_cannot_be_known_is_unbounded() -> None:
    interval = unbounded(2.0, 0.95)
    assert (interval.low, interval.high, interval.num_samples) == (-math.inf, math.inf, 0)
    assert not interval.is_bounded


@pytest.mark.parametrize(
    ("num_samples", "num_cells"), [(1, 1), (2000, 90), (7, BLOCK), (5, BLOCK // 2), (3, 9 * BLOCK)]
)
def test_blocks_are_as_many_samples_as_asked_and_small(num_samples: int, num_cells: int) -> None:
    counts = list(blocks(num_samples, num_cells))
    assert sum(counts) == num_samples
    assert all(count == 1 or count * num_cells <= BLOCK for count in counts)


def test_tasks_are_drawn_independently_and_runs_equally_often() -> None:
    indices = draw_runs(rng(), 20_000, 4, 2)
    pairs = np.bincount((4 * indices[:, 0, 0] + indices[:, 0, 1]), minlength=16) / 20_000
    assert np.abs(pairs - 1 / 16).max() < 0.01


def test_times_drawn_counts_each_run_in_its_task() -> None:
    indices = draw_runs(rng(), 5, 4, 3)
    counts = times_drawn(indices)
    expected = [[[(indices[s, :, t] == r).sum() for r in range(4)] for s in range(5)] for t in range(3)]
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused_with_their_number(value: float) -> None:
    with pytest.raises(ConfigError, match="found 2 that are not"):
        checked(np.array([[1.0, value], [value, 0.0]]))


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"found shape \(0, 3\)"):
        checked(np.zeros((0, 3)))


def test_senseless_sampling_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one bootstrap sample, found 0"):
        check_sampling(0, 0.95)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            check_sampling(10, level)
