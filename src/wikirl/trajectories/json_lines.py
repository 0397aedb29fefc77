"""JSON Lines as a table: a step a line, or an episode a line with lists as long as the episode.

This file knows JSON. It deliberately does not know what columns mean, but for one thing: whether the reward is a list
tells an episode from a step.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import shown
from wikirl.trajectories.tables import Chunk, Column, Table
from wikirl.trajectories.text_lines import text_blocks

KIND = "JSON Lines file"
LINE = "line"  # the column that numbers episodes where each is a line
_SAMPLE_LINES = 100
_CHUNK_ROWS = 4096
Record = dict[str, Any]


def open_json_lines(path: Path, rewards: Sequence[str]) -> Table:
    """Look at the first lines.

    Args:
        path: The file.
        rewards: Names that the reward may have.

    Raises:
        DatasetError: a line is no JSON object, there are none, or the file cannot be read.
    """
    sample = list(islice(_records(path), _SAMPLE_LINES))
    if not sample:
        raise DatasetError(f"{path}: not a readable {KIND}: there is nothing in it")
    names = list(dict.fromkeys(name for _, record in sample for name in record))
    reward = next((record[name] for _, record in sample for name in rewards if name in record), None)
    by_episode = isinstance(reward, list)
    columns = {name: _column([record.get(name) for _, record in sample], by_episode) for name in names}
    if by_episode:
        columns.setdefault(LINE, Column("number"))
    return Table(path, columns, partial(_chunks, path, columns, by_episode))


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    """Every object with the number of its line, from 1."""
    number = 0
    for text in text_blocks(path, KIND):
        for line in text.removesuffix("\n").split("\n"):  # other line ends may be part of a JSON text
            number += 1
            if not line or line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{path}: line {number} is no JSON ({shown(error)})") from error
            if not isinstance(record, dict):
                raise DatasetError(f"{path}: line {number} is no JSON object but {type(record).__name__}")
            yield number, record


def _column(values: list[Any], by_episode: bool) -> Column:
    value = next((value for value in values if value not in (None, [])), None)
    if by_episode and isinstance(value, list):
        value = next((item for item in value if item is not None), None)
    shape: tuple[int, ...] = ()
    while isinstance(value, list):
        shape = (*shape, len(value))
        value = value[0] if value else None
    if isinstance(value, str):
        return Column("other" if shape else "text")
    return Column("number" if value is None or isinstance(value, int | float) else "other", shape)


def _chunks(path: Path, columns: dict[str, Column], by_episode: bool, wanted: Sequence[str]) -> Iterator[Chunk]:
    cells: dict[str, list[Any]] = {name: [] for name in wanted}
    lines: list[int] = []
    for number, record in _records(path):
        if by_episode:
            count = _spread(path, number, record, cells)
        else:
            count = 1
            for name, column in cells.items():
                column.append(record.get(name))
        lines += [number] * count
        if len(lines) >= _CHUNK_ROWS:
            yield {name: _array(path, name, columns[name], column, lines) for name, column in cells.items()}
            cells, lines = {name: [] for name in wanted}, []
    if lines:
        yield {name: _array(path, name, columns[name], column, lines) for name, column in cells.items()}


def _spread(path: Path, number: int, record: Record, cells: dict[str, list[Any]]) -> int:
    """Append the rows of an episode; what is one shorter than the longest has no value in the last row."""
    lists: dict[str, list[Any]] = {name: record[name] for name in cells if isinstance(record.get(name), list)}
    count = max(map(len, lists.values()), default=0)
    for name, column in cells.items():
        values, value = lists.get(name), record.get(name)
        if name == LINE and name not in record:
            column += [number] * count
        elif values is None:  # one value for the episode; true means its end
            column += [False] * (count - 1) + [True] if value is True and count else [value] * count
        elif len(values) < count - 1:
            raise DatasetError(f"{path}: line {number}: {shown(name)} has {len(values)} entries, another list {count}")
        else:
            column += values + [None] * (count - len(values))
    return count


def _array(path: Path, name: str, column: Column, cells: list[Any], lines: list[int]) -> npt.NDArray[Any]:
    if column.kind == "text":
        return np.array(["" if cell is None else str(cell) for cell in cells])
    if column.shape:
        missing = np.full(column.shape, np.nan).tolist()
        cells = [missing if cell is None else cell for cell in cells]
    try:
        values = np.array(cells, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        values = np.empty(0)
    if values.shape == (len(cells), *column.shape):
        return values
    for line, cell in zip(lines, cells, strict=True):
        if not _fits(cell, column.shape):
            wish = f"{list(column.shape)} numbers" if column.shape else "a number"
            raise DatasetError(
                f"{path}: line {line}, column {shown(name)}: expected {wish} as in the first line, "
                f"found {shown(json.dumps(cell))}"
            )
    raise DatasetError(f"{path}: column {shown(name)} holds something else than numbers before line {lines[-1]}")


def _fits(cell: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.array(cell, dtype=np.float64).shape == shape
    except (ValueError, TypeError, OverflowError):
        return False
