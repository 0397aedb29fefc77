"""What a check has to say, and how numbers are put into its sentences.

This file knows words. It deliberately knows no data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: An error makes training fail or pointless; a warning is most often a mistake in the data; a note is
            worth knowing before choosing settings.
        topic: What it is about: reading, ends, episodes, returns, rewards, observations, actions, pixels or amount.
        message: What was found, with its numbers.
        advice: What to do about it.
    """

    severity: Severity
    topic: str
    message: str
    advice: str


def percent(share: float) -> str:
    """A share in words; what is above 0 or below 1 never reads 0 % or 100 %."""
    if 0 < share < 0.001:
        return "less than 0.1 %"
    if 0.999 < share < 1:
        return "more than 99.9 %"
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def some(names: Sequence[object], most: int = 8) -> str:
    """A list in words; a long one ends with how many more there are."""
    words = [str(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(words)} and {len(names) - most:,} more"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def number(value: float) -> str:
    """Four digits, in a form that command lines take too where it is short."""
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
