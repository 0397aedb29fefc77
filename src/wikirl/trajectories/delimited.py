"""CSV and its kin as tables: NumPy's C parser where all is plain, Python's csv module where it is not.

Python's parser also finds the place of what is wrong. This file knows delimiters, quotes and missing cells. It
deliberately does not know what columns mean.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
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
    first = next(_blocks(path), "").lstrip("\n")
    line = first.partition("\n")[0]
    if not line.strip():
        raise DatasetError(f"{path}: not a readable {KIND}: there is nothing in it")
    delimiter = max(_DELIMITERS, key=lambda mark: max(map(len, _cells(path, line, mark)), default=0))
    header, *sample = _cells(path, first, delimiter, _SAMPLE_ROWS + 1) or [[]]
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
    kinds = {name: "f8" if columns[name].kind == "number" else f"U{_TEXT}" for name in wanted}
    # Every column is parsed, those that nobody wants to one letter, so that rows of another width are noticed.
    dtype = np.dtype([(f"c{number}", kinds.get(name, "U1")) for number, name in enumerate(names)])
    fields = {name: f"c{names.index(name)}" for name in wanted}
    rows, header = 0, True
    for block in _blocks(path):
        text = block.lstrip("\n").partition("\n")[2] if header else block
        header = False
        words = [fields[name] for name in wanted if columns[name].kind == "text"]
        parsed = _fast(text, delimiter, dtype, words)
        if parsed is None and not words and delimiter * (len(names) - 1) not in text:
            parsed = _fast(_filled(text, delimiter), delimiter, dtype, words)
        if parsed is None:
            cells = _cells(path, text, delimiter)
            if not cells:
                continue
            chunk = _slow(path, rows, cells, names, [(name, columns[name]) for name in wanted])
        else:
            chunk = {name: parsed[field] for name, field in fields.items()}
        rows += len(next(iter(chunk.values())))
        yield chunk


def _fast(text: str, delimiter: str, dtype: np.dtype[Any], words: list[str]) -> npt.NDArray[Any] | None:
    """Plain rows; None where something needs a closer look, and where there are none."""
    if not text or text.isspace():
        return None
    try:
        parsed: npt.NDArray[Any] = np.loadtxt(
            io.StringIO(text), dtype, delimiter=delimiter, comments=None, quotechar='"', ndmin=1
        )
    except (ValueError, OverflowError):
        return None
    for field in words:
        letters = np.ascontiguousarray(parsed[field]).view(np.uint32).reshape(len(parsed), -1)
        if letters[:, -1].any():  # a cell may have been cut
            return None
    return parsed


def _filled(text: str, delimiter: str) -> str:
    """The same with `nan` in empty cells; what is in quotes may change too, so only for numbers."""
    for _ in range(2):  # the end of one empty cell may be the beginning of the next
        text = text.replace(delimiter * 2, f"{delimiter}nan{delimiter}")
    text = f"\n{text}".replace(f"\n{delimiter}", f"\nnan{delimiter}")[1:]
    return text.replace(f"{delimiter}\n", f"{delimiter}nan\n")


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
            return np.fromiter(map(float, [cell or "nan" for cell in cells]), np.float64, len(cells))
    except ValueError:
        pass  # a word for a missing number, or a wrong one: look for it
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


def _cells(path: Path, text: str, delimiter: str, most: int | None = None) -> list[list[str]]:
    """The first rows, or all; those with nothing in them are left out."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [row for row in islice(rows, most) if row and (row[0].strip() or any(map(str.strip, row)))]
    except csv.Error as error:
        raise DatasetError(f"{path}: not a readable {KIND} ({error})") from error


def _blocks(path: Path) -> Iterator[str]:
    """Blocks of lines in which every quote that opens also closes."""
    pending, quotes = "", 0
    for block in text_blocks(path, KIND):
        pending = pending + block if pending else block
        quotes += block.count('"')
        if quotes % 2 == 0:
            yield pending
            pending, quotes = "", 0
        elif len(pending) > MAX_LINE_BYTES:
            raise DatasetError(f"{path}: a quote opens and does not close within {len(pending)} characters")
    if pending:
        yield pending
