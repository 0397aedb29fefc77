"""CSV and its kin as tables: NumPy's C parser where all is plain, Python's csv module where it is not.

Python's parser also finds the place of what is wrong. This file knows delimiters, quotes and missing cells. It
deliberately does not know what columns mean.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import listed, shown
from wikirl.trajectories.tables import Chunk, Column, Table
from wikirl.trajectories.text_lines import MAX_LINE_BYTES, text_blocks

KIND = "CSV file"
_DELIMITERS = (",", ";", "\t")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
_SAMPLE_ROWS = 200
_TEXT = 64  # characters of a cell in the fast path


def open_csv(path: Path) -> Table:
    """Look at the header and the first rows.

    Raises:
        DatasetError: there is no header, a name comes twice, there are no rows, or the file cannot be read.
    """
    first: list[str] = next(_blocks(path), [])
    lines = [line for line in first if line.strip()]
    if not lines:
        raise DatasetError(f"{path}: not a readable {KIND}: there is nothing in it")
    delimiter = max(_DELIMITERS, key=lambda mark: len(_cells(path, [lines[0]], mark)[0]))
    header, *sample = _cells(path, lines[: _SAMPLE_ROWS + 1], delimiter)
    names = [name.strip() for name in header]
    _check_header(path, names)
    if not sample:
        raise DatasetError(f"{path}: there are no rows below the header")
    for number, row in enumerate(sample, 1):
        _check_width(path, number, row, names)
    columns = {
        name: Column("number" if all(map(_is_number_or_missing, cells)) else "text")
        for name, cells in zip(names, zip(*sample, strict=True), strict=True)
        if name
    }
    return Table(path, columns, partial(_chunks, path, delimiter, names, columns))


def _check_header(path: Path, names: list[str]) -> None:
    if all(map(_is_number_or_missing, names)):
        raise DatasetError(
            f"{path}: the first line holds numbers ({listed(names[:5])}); expected the names of the columns there"
        )
    twice = sorted({name for name in names if name and names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DatasetError(f"{path}: more than one column is called {listed(twice)}; give each a name of its own")


def _chunks(
    path: Path, delimiter: str, names: list[str], columns: dict[str, Column], wanted: Sequence[str]
) -> Iterator[Chunk]:
    where = [names.index(name) for name in wanted]
    kinds = [(name, "f8" if columns[name].kind == "number" else f"U{_TEXT}") for name in wanted]
    dtype = np.dtype([(f"c{number}", kind) for number, (_, kind) in enumerate(kinds)])
    rows, header = 0, True
    for block in _blocks(path):
        lines = [line for line in block if line and not line.isspace()]
        if header:
            lines, header = lines[1:], False
        if not lines:
            continue
        parsed = _fast(lines, delimiter, len(names), where, dtype)
        if parsed is None:
            chunk = _slow(path, rows, _cells(path, lines, delimiter), names, [(name, columns[name]) for name in wanted])
        else:
            chunk = {name: parsed[field] for name, field in zip(wanted, dtype.names or (), strict=True)}
        rows += len(next(iter(chunk.values())))
        yield chunk


def _fast(
    lines: list[str], delimiter: str, width: int, where: list[int], dtype: np.dtype[Any]
) -> npt.NDArray[Any] | None:
    """Plain rows; None where something needs a closer look."""
    if set(map(methodcaller("count", delimiter), lines)) != {width - 1}:
        return None
    try:
        parsed: npt.NDArray[Any] = np.loadtxt(
            lines, dtype, delimiter=delimiter, comments=None, quotechar='"', usecols=where, ndmin=1
        )
    except (ValueError, OverflowError):
        return None
    if len(parsed) != len(lines):
        return None
    for field in dtype.names or ():
        if parsed[field].dtype.kind == "U":
            letters = np.ascontiguousarray(parsed[field]).view(np.uint32).reshape(len(parsed), -1)
            if letters[:, -1].any():  # a cell may have been cut
                return None
    return parsed


def _slow(
    path: Path, before: int, rows: list[list[str]], names: list[str], wanted: list[tuple[str, Column]]
) -> dict[str, npt.NDArray[Any]]:
    for number, row in enumerate(rows, before + 1):
        _check_width(path, number, row, names)
    cells = dict(zip(names, zip(*rows, strict=True), strict=True))
    return {
        name: _numbers(path, name, before, cells[name]) if column.kind == "number" else np.array(cells[name])
        for name, column in wanted
    }


def _numbers(path: Path, name: str, before: int, cells: Sequence[str]) -> npt.NDArray[np.float64]:
    try:
        if "_" not in "".join(cells):  # which Python takes for a thousands separator
            return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        pass  # there is a missing or a wrong one: look for it
    result = np.empty(len(cells))
    for number, cell in enumerate(cells):
        value = _number(cell)
        if value is None:
            raise DatasetError(
                f"{path}: data row {before + number + 1}, column {shown(name)}: expected a number as in the rows "
                f"before, found {shown(cell)!r}"
            )
        result[number] = value
    return result


def _number(cell: str) -> float | None:
    """A number; NaN where it is missing, None where it is something else."""
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return float("nan") if cell.strip().lower() in _MISSING else None


def _is_number_or_missing(cell: str) -> bool:
    return _number(cell) is not None


def _check_width(path: Path, number: int, row: list[str], names: list[str]) -> None:
    if len(row) != len(names):
        raise DatasetError(f"{path}: data row {number} has {len(row)} cells but the header has {len(names)}")


def _cells(path: Path, lines: list[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error as error:
        raise DatasetError(f"{path}: not a readable {KIND} ({error})") from error


def _blocks(path: Path) -> Iterator[list[str]]:
    """Blocks of lines in which every quote that opens also closes."""
    pending: list[str] = []
    size = quotes = 0
    for block in text_blocks(path, KIND):
        pending += block
        size += sum(map(len, block))
        quotes += sum(line.count('"') for line in block)
        if quotes % 2 == 0:
            yield pending
            pending, size, quotes = [], 0, 0
        elif size > MAX_LINE_BYTES:
            raise DatasetError(f"{path}: a quote opens and does not close within {size} characters")
    if pending:
        yield pending
