"""Actions of one column: numbers, or choices among whole numbers or words.

This file knows how choices are recognised and counted from 0. It deliberately does not know episodes.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64, Shaped

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import shown

MAX_CHOICES = 256  # more whole numbers than that are taken for a measured quantity
MAX_WORDS = 10_000
_WIDEST = 1_000  # from the smallest to the largest choice, so that those in between that nobody took keep their number


class Choices(ABC):
    """Sees the actions of one column go by, chunk by chunk, and says in the end what they are."""

    @abstractmethod
    def missing(self, values: Shaped[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Where there is no action."""

    @abstractmethod
    def add(
        self, values: Shaped[np.ndarray, "n"], unacted: Bool[np.ndarray, "n"]
    ) -> Float64[np.ndarray, "n"] | Int64[np.ndarray, "n"]:
        """Look at a chunk, and bring it to the form that `decided` goes on with."""

    @abstractmethod
    def decide(self, discrete: bool | None) -> list[Any] | None:
        """The original action of each choice, counted from 0; None: the actions are numbers.

        Args:
            discrete: What the user says; None: the data decide.

        Raises:
            DatasetError: the data cannot be what the user says.
        """

    @abstractmethod
    def decided(self, values: Shaped[np.ndarray, "n"], choices: list[Any]) -> Int64[np.ndarray, "n"]:
        """From what `add` gave to choices."""


class NumberedChoices(Choices):
    """Numbers: choices if they are whole and few."""

    def __init__(self, path: Path, column: str):
        """Prepare to look at `column` of `path`, which messages name."""
        self._where = f"{path}: column {shown(column)}"
        self._seen: npt.NDArray[np.float64] = np.empty(0)
        self._fraction: float | None = None

    def missing(self, values: Shaped[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Where there is no number."""
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)

    def add(self, values: Shaped[np.ndarray, "n"], unacted: Bool[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """Remember the different numbers, as long as they are few."""
        numbers = values.astype(np.float64)
        if self._fraction is None and len(self._seen) <= MAX_CHOICES:
            acted = numbers[~unacted]
            broken = acted != np.floor(acted)
            if broken.any():
                self._fraction = float(acted[broken][0])
            else:
                self._seen = np.union1d(self._seen, acted)
        return numbers

    def decide(self, discrete: bool | None) -> list[Any] | None:
        """Whole numbers from the smallest to the largest, if there are at most `MAX_CHOICES`."""
        whole = self._fraction is None and 0 < len(self._seen) <= MAX_CHOICES
        if discrete is False or (discrete is None and not whole):
            return None
        if not whole:
            found = f"found {self._fraction:g}" if self._fraction is not None else f"found more than {MAX_CHOICES}"
            raise DatasetError(f"{self._where}: --discrete needs a few whole numbers or words as actions, {found}")
        low, high = int(self._seen[0]), int(self._seen[-1])
        return list(range(low, high + 1)) if high - low < _WIDEST else [int(value) for value in self._seen]

    def decided(self, values: Shaped[np.ndarray, "n"], choices: list[Any]) -> Int64[np.ndarray, "n"]:
        """The place of each number among the choices."""
        return np.searchsorted(np.array(choices, dtype=np.float64), values).astype(np.int64)


class LabelledChoices(Choices):
    """Words: always choices, in alphabetical order."""

    def __init__(self, path: Path, column: str):
        """Prepare to look at `column` of `path`, which messages name."""
        self._where = f"{path}: column {shown(column)}"
        self._codes: dict[str, int] = {}

    def missing(self, values: Shaped[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Where there is no word."""
        return np.asarray(values == "", dtype=bool)

    def add(self, values: Shaped[np.ndarray, "n"], unacted: Bool[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """Number the words as they come; -1 where there is none."""
        words, places = np.unique(values, return_inverse=True)
        for word in words.tolist():
            if word:
                self._codes.setdefault(word, len(self._codes))
        if len(self._codes) > MAX_WORDS:
            raise DatasetError(f"{self._where}: there are more than {MAX_WORDS} different words; is this the action?")
        return np.array([self._codes.get(word, -1) for word in words.tolist()], dtype=np.int64)[places]

    def decide(self, discrete: bool | None) -> list[Any] | None:
        """The words in alphabetical order."""
        if discrete is False:
            raise DatasetError(
                f"{self._where}: --continuous needs numbers as actions, found {shown(next(iter(self._codes)))!r}"
            )
        return sorted(self._codes)

    def decided(self, values: Shaped[np.ndarray, "n"], choices: list[Any]) -> Int64[np.ndarray, "n"]:
        """From the order of their coming to the alphabet."""
        place = {word: number for number, word in enumerate(choices)}
        ranks = np.array([place[word] for word in self._codes], dtype=np.int64)
        result: npt.NDArray[np.int64] = ranks[values]
        return result
