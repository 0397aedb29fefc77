"""From marked rows to episodes: which rows belong together, which is the last, and whether their timesteps agree.

This file knows borders and orders. It deliberately does not know columns or files.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64

from wikirl.errors import DatasetError
from wikirl.trajectories.growing import GrowingArrays, give_back_pages
from wikirl.trajectories.steps import Rows

_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How rows become episodes.

    Attributes:
        order: The rows to keep, in the order of episodes; None: all, as they are.
        starts: First step of each episode, and the number of steps.
        terminated: Whether each episode ended in a terminal state.
        was_scattered: Whether rows of an episode were not adjacent.
        dropped_rows: Rows without an action, last of their episodes, that were left out.
        dropped_episodes: Episodes of nothing but such a row.
    """

    order: Int64[np.ndarray, "S"] | None
    terminated: Bool[np.ndarray, "N"]
    starts: Int64[np.ndarray, "N+1"]
    was_scattered: bool
    dropped_rows: int
    dropped_episodes: int


def arrange(path: Path, rows: Rows, grown: GrowingArrays) -> Arrangement:
    """Put the rows of each episode together, in the order of the file, and take off last rows without an action.

    Raises:
        DatasetError: an action is missing before the last row of an episode, an end is marked there, nothing is left,
            or timesteps have gaps or are out of order; names the row.
    """
    order, lengths = _together(rows)
    last = np.cumsum(lengths) - 1
    if rows.has_timesteps:
        _check_timesteps(path, rows, grown, order, last)
    unacted = rows.unacted if order is None else rows.unacted[order]
    inner = unacted.copy()
    inner[last] = False
    if inner.any():
        raise DatasetError(
            f"{path}: data row {_row(order, int(np.argmax(inner)))} has no action but is not the last of its episode"
        )
    ends_unacted = unacted[last]
    marked = [_marks_at_end(path, marks, order, last, ends_unacted) for marks in (rows.terminated, rows.truncated)]
    kept = lengths - ends_unacted
    if not kept.any():
        raise DatasetError(f"{path}: there is no row with an action")
    if ends_unacted.any():
        order = np.flatnonzero(~unacted) if order is None else order[~unacted]
    lengths = kept[kept > 0]
    return Arrangement(
        order=order,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        terminated=marked[0][kept > 0],
        was_scattered=rows.labels is not None and len(np.unique(rows.labels)) < len(rows.labels),
        dropped_rows=int(ends_unacted.sum()),
        dropped_episodes=int((kept == 0).sum()),
    )


def _together(rows: Rows) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64]]:
    """(rows in the order of episodes, None if they are; length of each episode), by first appearance."""
    runs = np.flatnonzero(rows.begins)
    lengths = np.diff(np.append(runs, len(rows.begins)))
    if rows.labels is None:
        return None, lengths
    labels, first, episode = np.unique(rows.labels, return_index=True, return_inverse=True)
    if len(labels) == len(runs):
        return None, lengths
    rank = np.empty(len(labels), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(labels))
    episode = rank[episode]
    by_episode = np.argsort(episode, kind="stable")
    moved = lengths[by_episode]
    begins = np.cumsum(moved) - moved
    order = np.repeat(runs[by_episode] - begins, moved) + np.arange(len(rows.begins))
    return order, np.bincount(episode, weights=lengths).astype(np.int64)


def _marks_at_end(
    path: Path,
    marks: Bool[np.ndarray, "S"],
    order: Int64[np.ndarray, "S"] | None,
    last: Int64[np.ndarray, "N"],
    ends_unacted: Bool[np.ndarray, "N"],
) -> npt.NDArray[np.bool_]:
    """Whether each episode is marked at its last row, or at its last step where they differ."""
    arranged = marks.copy() if order is None else marks[order]
    before = np.maximum(last - ends_unacted, 0)
    ended: npt.NDArray[np.bool_] = arranged[last] | (arranged[before] & ends_unacted)
    arranged[last] = False
    arranged[before[ends_unacted]] = False
    if arranged.any():
        raise DatasetError(
            f"{path}: data row {_row(order, int(np.argmax(arranged)))} is marked as an end, and it is not the last of "
            "its episode; check --terminated, --truncated and --episode"
        )
    return ended


def _check_timesteps(
    path: Path,
    rows: Rows,
    grown: GrowingArrays,
    order: Int64[np.ndarray, "S"] | None,
    last: Int64[np.ndarray, "N"],
) -> None:
    times = grown.array("timesteps")
    begins = np.zeros(len(times), dtype=bool)
    begins[0] = True
    begins[last[:-1] + 1] = True
    for first in range(1, len(times), _CHUNK):
        rows_here = np.arange(first - 1, min(first + _CHUNK, len(times)))
        here = times[rows_here if order is None else order[rows_here]]
        steps = np.diff(here)
        wrong = (steps != 1) if rows.whole_timesteps else (steps <= 0)
        wrong &= ~begins[rows_here[1:]]
        if wrong.any():
            place = int(np.argmax(wrong))
            row, before, after = _row(order, int(rows_here[place + 1])), here[place], here[place + 1]
            raise DatasetError(f"{path}: data row {row}: {_what_is_wrong(before, after)}")
        give_back_pages(times)


def _what_is_wrong(before: float, after: float) -> str:
    unless = "; if that is as it should be, say --timestep none"
    if after == before:
        return f"timestep {after:g} comes twice in its episode{unless}"
    if after < before:
        return f"timestep {after:g} comes after {before:g}: sort the rows by episode and timestep{unless}"
    return f"timestep {after:g} comes after {before:g}: steps are missing{unless}"


def _row(order: Int64[np.ndarray, "S"] | None, place: int) -> int:
    """The number of a row in the file, from 1."""
    return 1 + (place if order is None else int(order[place]))
