"""Parquet as a table, through pyarrow (extra `parquet`).

This file knows Arrow's types. It deliberately does not know what columns mean.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError, MissingExtraError
from wikirl.trajectories.stored import FREE_GROWTH_BYTES, MAX_GROWTH, require_file, shown
from wikirl.trajectories.tables import Chunk, Column, Table

KIND = "Parquet file"
_ROWS = 1 << 15


def open_parquet(path: Path) -> Table:
    """Look at the schema, and at the first row for the sizes of lists.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DatasetError: the file is damaged, empty, or announces what it cannot hold.
    """
    require_file(path, KIND)
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(f'{path}: to read Parquet, pip install "wikirl[parquet]" ({error})') from error
    unreadable = (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError, OverflowError)
    try:
        file = parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        if size > MAX_GROWTH * path.stat().st_size + FREE_GROWTH_BYTES:
            raise DatasetError(f"{path} would inflate to {size} bytes, more than {MAX_GROWTH} times its size")
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DatasetError(f"{path}: two columns have the same name; give each a name of its own")
        first = next(file.iter_batches(batch_size=1), None)
        if first is None:
            raise DatasetError(f"{path}: there are no rows")
        columns = {name: _column(first.column(name)) for name in names}
    except DatasetError:
        raise
    except unreadable as error:
        raise DatasetError(f"{path}: not a readable {KIND} ({shown(error)})") from error
    return Table(path, columns, partial(_chunks, path, columns, file, unreadable))


def _column(values: Any) -> Column:
    from pyarrow import types

    kind = values.type
    if types.is_dictionary(kind):
        kind = kind.value_type
    shape: tuple[int, ...] = ()
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
        values = values.flatten()
        shape = (*shape, len(values))
        if len(shape) > 1:
            return Column("other")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return Column("number", shape)
    text = types.is_string(kind) or types.is_large_string(kind)
    return Column("text" if text and not shape else "other")


def _chunks(
    path: Path,
    columns: dict[str, Column],
    file: Any,
    unreadable: tuple[type[Exception], ...],
    wanted: Sequence[str],
) -> Iterator[Chunk]:
    before = 0
    batches = file.iter_batches(batch_size=_ROWS, columns=list(wanted))
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            chunk = {name: _array(path, name, columns[name], batch.column(name), before) for name in wanted}
        except DatasetError:
            raise
        except unreadable as error:
            raise DatasetError(f"{path}: not a readable {KIND} ({shown(error)})") from error
        before += batch.num_rows
        yield chunk


def _array(path: Path, name: str, column: Column, values: Any, before: int) -> npt.NDArray[Any]:
    import pyarrow
    import pyarrow.compute

    if column.kind == "text":
        return np.array(["" if value is None else value for value in values.to_pylist()], dtype=np.str_)
    if column.shape:
        lengths = pyarrow.compute.list_value_length(values).fill_null(-1).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != column.shape[0])
        if len(wrong):
            raise DatasetError(
                f"{path}: data row {before + wrong[0] + 1}, column {shown(name)}: expected {column.shape[0]} numbers "
                f"as in the first row, found {max(int(lengths[wrong[0]]), 0)}"
            )
        values = values.flatten()
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count:
        values = values.cast(pyarrow.float64())
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, *column.shape)
