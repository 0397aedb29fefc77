"""Arrays inside files that nobody vouches for: what their headers claim, checked before anything is allocated.

This file knows limits and how to read in pieces. It deliberately knows neither zip (`archives`) nor HDF5 (`hdf5`).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.growing import GrowingArrays
from wikirl.trajectories.validation import typed

PIECE_BYTES = 4 << 20  # read together
MAX_PIECE_BYTES = 256 << 20  # of one step, or of one compressed block: it has to be in memory whole
# Deflate reaches 1,032 on constants. Logs of constants are small; large ones that shrink so far are no logs.
MAX_GROWTH = 200
FREE_GROWTH_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file, read in order.

    Attributes:
        shape: As the file claims; checked against what the file holds.
        dtype: As stored.
        chunk_rows: Rows that the file keeps together; reading fewer at a time costs more.
        pieces: Reads so many rows after so many, from the first on: `pieces(rows)`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    pieces: Callable[[int], Iterator[npt.NDArray[Any]]]

    def rows_per_piece(self) -> int:
        """Rows of about `PIECE_BYTES`, and whole blocks of the file."""
        row_bytes = max(math.prod(self.shape[1:]) * self.dtype.itemsize, 1)
        return self.chunk_rows * max(PIECE_BYTES // row_bytes // self.chunk_rows, 1)


def require_file(path: Path, kind: str) -> None:
    """Check that a path is a file with something in it: not a folder, a pipe or a device.

    Raises:
        DatasetError: it is not.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no plain file" if path.exists() else "missing"
        raise DatasetError(f"{path}: not a readable {kind}: it is {found}")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path}: not a readable {kind}: it is empty")


def check_claims(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, stored_bytes: int) -> None:
    """Refuse shapes and types that no file of this size can mean.

    Args:
        where: Begins the message.
        shape: As claimed.
        dtype: As claimed.
        stored_bytes: What the array takes in the file, compressed or not.

    Raises:
        DatasetError: it holds objects, its steps are larger than memory should be, or it would inflate to far more
            than the file holds.
    """
    if dtype.kind == "O":
        raise DatasetError(f"{where} holds objects; only numbers are read")
    size = math.prod(shape) * dtype.itemsize
    if dtype.itemsize == 0 or len(shape) > 32 or max(shape, default=0) >= 1 << 48:
        raise DatasetError(f"{where} announces an absurd shape: {dtype} {_brief(shape)}")
    if math.prod(shape[1:]) * dtype.itemsize > MAX_PIECE_BYTES:
        raise DatasetError(f"{where} announces {math.prod(shape[1:])} numbers a step, {_brief(shape)}: far too many")
    if size > MAX_GROWTH * stored_bytes + FREE_GROWTH_BYTES:
        raise DatasetError(
            f"{where} would inflate from {stored_bytes} to {size} bytes ({dtype} {_brief(shape)}), "
            f"more than {MAX_GROWTH} times; that is refused"
        )


def whole(array: StoredArray) -> npt.NDArray[Any]:
    """All of a small array, such as one number or mark a step."""
    pieces = list(array.pieces(array.rows_per_piece()))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def copy_steps(name: str, field: str, array: StoredArray, steps: int, arrays: GrowingArrays) -> None:
    """Append the first `steps` rows to `arrays` in their final type.

    Raises:
        DatasetError: they are no numbers, or cannot be read.
    """
    if not array.shape:
        raise DatasetError(f"{name}: {field} is one value; expected one a step")
    left = steps
    for piece in array.pieces(array.rows_per_piece()):
        arrays.append(field, typed(name, field, as_column(piece[:left]) if field == "rewards" else piece[:left]))
        left -= len(piece)
        if left <= 0:
            return


def as_column(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take one column more than needed (`[S, 1]`) off rewards and marks, as D4RL's own reader does."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def shown(name: object) -> str:
    """A name from a file as it may go into a message or a terminal: one line, printable, not long."""
    text = str(name)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:57]}…"


def listed(names: Iterable[object]) -> str:
    """Names from a file for a message; after thirty of them, how many more there are."""
    every = list(names)
    more = f" and {len(every) - 30} more" if len(every) > 30 else ""
    return (", ".join(shown(name) for name in every[:30]) or "nothing") + more


def _brief(shape: tuple[int, ...]) -> str:
    return shown(list(shape))
