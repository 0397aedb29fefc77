"""Numbers and intervals in words, as every part of a report writes them."""

import math
from collections.abc import Sequence

from wikirl.analysis.intervals import Interval

NOTHING = "–"


def num_seeds(count: int) -> str:
    """A number of seeds in words."""
    return "1 seed" if count == 1 else f"{count} seeds"


def signed(value: float) -> str:
    """A difference: with its sign, a true minus, and no sign for what rounds to 0."""
    return plain(value) if plain(abs(value)) == "0.0" else f"{value:+.1f}".replace("-", "−")


def plain(value: float) -> str:
    """A score."""
    return f"{value:.1f}".replace("-", "−").replace("−0.0", "0.0")


def ratio(value: float) -> str:
    """A factor, with two digits that count where it is small."""
    if value < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def span(interval: Interval) -> str:
    """The ends of an interval of a difference."""
    return f"{signed(interval.low)} to {signed(interval.high)}" if interval.is_bounded else "none"


def estimate(interval: Interval) -> str:
    """A score with its interval."""
    return _with_ends(interval, plain(interval.value), plain(interval.low), plain(interval.high))


def difference(interval: Interval) -> str:
    """A difference with its interval."""
    return _with_ends(interval, signed(interval.value), plain(interval.low), plain(interval.high))


def factor(interval: Interval | None) -> str:
    """A ratio with its interval."""
    if interval is None:
        return NOTHING
    return _with_ends(interval, *(ratio(end) for end in (interval.value, interval.low, interval.high)))


def chance(interval: Interval) -> str:
    """A probability with its interval."""
    return _with_ends(interval, *(f"{end:.2f}" for end in (interval.value, interval.low, interval.high)))


def spread(mean: float, deviation: float | None) -> str:
    """A mean with its deviation."""
    return plain(mean) if deviation is None else f"{plain(mean)} ± {plain(deviation)}"


def seeds(numbers: Sequence[int]) -> str:
    """How many there are, and which."""
    in_a_row = len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    which = f"{numbers[0]}–{numbers[-1]}" if in_a_row else ", ".join(map(str, numbers))
    return f"{len(numbers)} ({which})"


def listed(words: Sequence[str]) -> str:
    """Words with commas and an "and"."""
    return "".join(words[:1]) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


def _with_ends(interval: Interval, value: str, low: str, high: str) -> str:
    return f"{value} [{low}, {high}]" if interval.is_bounded and not math.isnan(interval.value) else value
