"""From the chunks of a table to the arrays of a dataset, but for the episodes (`arranging`) and choices (`choices`).

Everything that grows with the number of steps goes to `GrowingArrays`, but for a few bits a row. This file knows roles
of columns and missing values. It deliberately does not know file formats.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64, Shaped

from wikirl.errors import DatasetError
from wikirl.trajectories.choices import Choices, LabelledChoices, NumberedChoices
from wikirl.trajectories.columns import ColumnMapping
from wikirl.trajectories.growing import GrowingArrays
from wikirl.trajectories.stored import shown
from wikirl.trajectories.tables import Chunk, Column, Table
from wikirl.trajectories.validation import typed

_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of every row of a table when it has been read.

    Attributes:
        begins: True where a run of rows of one episode begins.
        labels: A number for the episode of each run; None if runs are episodes.
        terminated: The mark of each row.
        truncated: The mark of each row.
        unacted: True where there is no action, as in the last row of a log of T + 1 observations.
        has_timesteps: Whether `timesteps` is among the grown arrays.
        whole_timesteps: Whether all timesteps are whole numbers.
        choices: What the actions are if there is one column of them, else None.
    """

    begins: Bool[np.ndarray, "S"]
    labels: Int64[np.ndarray, "R"] | None
    terminated: Bool[np.ndarray, "S"]
    truncated: Bool[np.ndarray, "S"]
    unacted: Bool[np.ndarray, "S"]
    has_timesteps: bool
    whole_timesteps: bool
    choices: Choices | None


def read_rows(table: Table, mapping: ColumnMapping, grown: GrowingArrays) -> Rows:
    """Read a table whole: observations, actions, rewards and timesteps into `grown`, the rest into `Rows`.

    Actions of one column stay as they are (float64 numbers, or int64 codes of texts) until `choices` decides.

    Raises:
        DatasetError: a value is missing or of the wrong kind; names row and column.
    """
    reader = _Reader(table.path, mapping, table.columns, grown)
    for chunk in table.chunks(mapping.names()):
        reader.add(chunk)
    return reader.finished()


class _Reader:
    """Takes chunks one after the other and remembers the last row."""

    def __init__(self, path: Path, mapping: ColumnMapping, columns: Any, grown: GrowingArrays):
        self._path, self._mapping, self._grown = path, mapping, grown
        self._count = 0
        self._choices = _choices(path, mapping, columns)
        self._bits: dict[str, list[npt.NDArray[np.bool_]]] = {
            name: [] for name in ("begins", "terminated", "truncated", "unacted")
        }
        self._labels: list[npt.NDArray[np.int64]] = []
        self._last_label: Any = None
        self._last_ended = True
        self._first_time = self._last_time = np.nan
        self._whole_times = True

    def add(self, chunk: Chunk) -> None:
        """The next rows."""
        rows = len(next(iter(chunk.values())))
        if rows == 0:
            return
        unacted = self._add_actions(chunk)
        nowhere = np.zeros(rows, dtype=bool)
        observations = _side_by_side(chunk, self._mapping.observation)
        self._require(observations, self._mapping.observation, nowhere)
        self._grown.append("observations", typed(str(self._path), "observations", observations))
        reward = str(self._mapping.reward)
        rewards = chunk[reward].reshape(rows)
        self._require(rewards[:, None], (reward,), unacted)
        self._grown.append("rewards", typed(str(self._path), "rewards", rewards))
        terminated, truncated = (
            self._marks(chunk, name, unacted) for name in (self._mapping.terminated, self._mapping.truncated)
        )
        begins = self._begins(chunk, rows, terminated | truncated)
        for name, bits in (
            ("begins", begins), ("terminated", terminated), ("truncated", truncated), ("unacted", unacted)
        ):  # fmt: skip
            self._bits[name].append(bits)
        self._count += rows

    def finished(self) -> Rows:
        """What has been gathered.

        Raises:
            DatasetError: there were no rows.
        """
        if self._count == 0:
            raise DatasetError(f"{self._path}: there are no rows")
        return Rows(
            **{name: np.concatenate(bits) for name, bits in self._bits.items()},
            labels=np.concatenate(self._labels) if self._labels else None,
            has_timesteps=self._mapping.timestep is not None,
            whole_timesteps=self._whole_times,
            choices=self._choices,
        )

    def _add_actions(self, chunk: Chunk) -> npt.NDArray[np.bool_]:
        names = self._mapping.action
        if self._choices is not None:
            values = chunk[names[0]].reshape(-1)
            unacted = self._choices.missing(values)
            if values.dtype.kind == "f":
                self._require(values[:, None], names, unacted)
            self._grown.append("actions", self._choices.add(values, unacted))
            return unacted
        actions = _side_by_side(chunk, names)
        kind_has_nan = actions.dtype.kind == "f"
        unacted = np.isnan(actions).all(axis=1) if kind_has_nan else np.zeros(len(actions), dtype=bool)
        self._require(actions, names, unacted)
        self._grown.append("actions", typed(str(self._path), "actions", actions))
        return unacted

    def _require(self, values: Shaped[np.ndarray, "n ..."], names: Sequence[str], but: Bool[np.ndarray, "n"]) -> None:
        """Refuse what is missing or infinite, but in the rows where it may be."""
        if values.dtype.kind != "f":
            return
        wrong = ~np.isfinite(values).reshape(len(values), -1)
        if not wrong.any():
            return
        wrong &= ~but[:, None]
        if wrong.any():
            row, column = (int(place) for place in np.argwhere(wrong)[0])
            value = float(values.reshape(len(values), -1)[row, column])
            name = names[column] if len(names) == wrong.shape[1] else " or ".join(names)
            raise DatasetError(f"{self._place(row)}, column {shown(name)}: {_said(value)}")

    def _marks(self, chunk: Chunk, name: str | None, unacted: Bool[np.ndarray, "n"]) -> npt.NDArray[np.bool_]:
        if name is None:
            return np.zeros(len(unacted), dtype=bool)
        values = chunk[name].reshape(-1)
        if values.dtype.kind == "U":
            lower = np.char.lower(np.char.strip(values))
            marks, other = np.isin(lower, _TRUE), np.isin(lower, _FALSE)
            empty = lower == ""
        else:
            marks, other = values == 1, values == 0
            empty = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
        wrong = ~marks & ~other & ~(empty & unacted)
        if wrong.any():
            row = int(np.argmax(wrong))
            found = "it is empty" if empty[row] else f"found {shown(values[row])!r}"
            raise DatasetError(f"{self._place(row)}, column {shown(name)}: expected true or false, {found}")
        return np.asarray(marks, dtype=bool)

    def _begins(self, chunk: Chunk, rows: int, ended: Bool[np.ndarray, "n"]) -> npt.NDArray[np.bool_]:
        """Where another episode begins: by its column, else after a mark or where the timestep starts again."""
        begins = np.concatenate([[self._last_ended], ended[:-1]])
        if self._mapping.timestep is not None:
            times = chunk[self._mapping.timestep].reshape(-1).astype(np.float64)
            self._require(times[:, None], (self._mapping.timestep,), np.zeros(rows, dtype=bool))
            self._first_time = times[0] if self._count == 0 else self._first_time
            before = np.concatenate([[self._last_time], times[:-1]])
            begins |= (times == self._first_time) & (times <= before)
            self._whole_times &= bool((times == np.floor(times)).all())
            self._last_time = times[-1]
            self._grown.append("timesteps", times)
        self._last_ended = bool(ended[-1])
        if self._mapping.episode is None:
            return begins
        labels = chunk[self._mapping.episode].reshape(-1)
        missing = labels == "" if labels.dtype.kind == "U" else labels != labels
        if missing.any():
            row = int(np.argmax(missing))
            raise DatasetError(f"{self._place(row)}, column {shown(self._mapping.episode)}: it is empty")
        begins = np.concatenate([[self._count == 0 or labels[0] != self._last_label], labels[1:] != labels[:-1]])
        self._last_label = labels[-1]
        self._labels.append(_as_integers(labels[begins]))
        return begins

    def _place(self, row: int) -> str:
        return f"{self._path}: data row {self._count + row + 1}"


def _choices(path: Path, mapping: ColumnMapping, columns: Any) -> Choices | None:
    if len(mapping.action) > 1:
        return None
    column: Column = columns[mapping.action[0]]
    if column.kind == "text":
        return LabelledChoices(path, mapping.action[0])
    return NumberedChoices(path, mapping.action[0]) if column.shape in ((), (1,)) else None


def _side_by_side(chunk: Chunk, names: Iterable[str]) -> npt.NDArray[Any]:
    """One array of all columns; a single one of more than one axis stays as it is, images for example."""
    values = [chunk[name] for name in names]
    return values[0] if len(values) == 1 and values[0].ndim > 1 else np.column_stack(values)


def _as_integers(labels: Shaped[np.ndarray, "R"]) -> npt.NDArray[np.int64]:
    """A number for each label, the same for the same; texts are hashed to 64 bits."""
    if labels.dtype.kind in "biu":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        return (labels.astype(np.float64) + 0.0).view(np.int64)
    digests = (hashlib.blake2b(label.encode(), digest_size=8).digest() for label in labels.tolist())
    return np.fromiter((int.from_bytes(digest, "little", signed=True) for digest in digests), np.int64, len(labels))


def _said(value: float) -> str:
    return "it is empty, or not a number" if np.isnan(value) else f"it is {value}"
