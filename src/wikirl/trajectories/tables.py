"""What a table is to an import: named columns of rows, read in chunks; arrays in `.npz` and HDF5 files as such.

A row is one step. This file knows columns. It deliberately does not know what they mean (`columns`) or how text
becomes numbers (`delimited`, `json_lines`, `parquet`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import StoredArray, listed

Chunk = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """A column as far as one knows it without reading it whole.

    Attributes:
        kind: Numbers (true and false among them), text, or something that cannot be used.
        shape: Shape of one row's value; `()` for one number.
    """

    kind: Literal["number", "text", "other"]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Table:
    """A file as columns.

    Attributes:
        path: The file, for messages.
        columns: Every column by name, in the order of the file.
        chunks: Reads the named columns together, from the first row on. Numbers come as `[n, *shape]` of any number
            type, NaN where missing; text as `[n]` strings, "" where missing.
    """

    path: Path
    columns: Mapping[str, Column]
    chunks: Callable[[Sequence[str]], Iterator[Chunk]]


def table_of_arrays(path: Path, arrays: Mapping[str, StoredArray]) -> Table:
    """The arrays of a file as columns; all that are used must have the same first axis."""
    columns = {name: _column(array) for name, array in arrays.items()}

    def chunks(names: Sequence[str]) -> Iterator[Chunk]:
        lengths = {name: arrays[name].shape[:1] for name in names}
        if len(set(lengths.values())) > 1:
            found = listed(f"{name} {list(arrays[name].shape)}" for name in names)
            raise DatasetError(f"{path}: columns must have as many rows as each other; found {found}")
        rows = min(max(max(arrays[name].chunk_rows for name in names), 1 << 14), 1 << 17)
        rows = min(rows, *(arrays[name].rows_per_piece() for name in names if len(arrays[name].shape) > 2), 1 << 17)
        pieces = (arrays[name].pieces(rows) for name in names)
        for values in zip(*pieces, strict=True):
            yield {name: _readable_text(value) for name, value in zip(names, values, strict=True)}

    return Table(path, columns, chunks)


def _column(array: StoredArray) -> Column:
    if not array.shape:
        return Column("other")
    if array.dtype.kind in "biuf":
        return Column("number", array.shape[1:])
    return Column("text") if array.dtype.kind in "US" and len(array.shape) == 1 else Column("other")


def _readable_text(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
