"""NumPy archives (`.npz`) member by member and piece by piece, without trusting what they announce.

This file knows zip and `.npy` headers. It deliberately does not know what the arrays mean (`arrays`, `tables`).
"""

import contextlib
import io
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.growing import give_back_pages
from wikirl.trajectories.stored import PIECE_BYTES, StoredArray, check_claims, require_file, shown

Stream = IO[bytes] | io.BufferedIOBase  # as typed, and as it is
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what np.savez and np.savez_compressed write
_UNREADABLE = (
    OSError, ValueError, EOFError, RuntimeError, NotImplementedError, MemoryError, OverflowError, SyntaxError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


@contextlib.contextmanager
def open_archive(path: Path, *, scratch: Path | None = None) -> Iterator[Mapping[str, StoredArray]]:
    """Open the arrays of an archive, by name, for as long as the context lasts.

    Args:
        path: The archive.
        scratch: Where to inflate arrays that are stored column by column; None: where the system keeps such files.

    Raises:
        DatasetError: it is missing or damaged, or a member announces what it cannot hold. So do the arrays when they
            are read.
    """
    require_file(path, ".npz archive")
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path}: not a complete .npz archive")
    with path.open("rb") as file:  # ours to close, even if somebody stops reading in the middle of an array
        with _readable(path):
            archive = zipfile.ZipFile(file)
        arrays = {}
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                name = info.filename.removesuffix(".npy")
                arrays[name] = _member(path, archive, info, scratch)
        yield arrays


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, scratch: Path | None) -> StoredArray:
    where = f"{path}: {shown(info.filename)}"
    if info.compress_type not in _METHODS:
        raise DatasetError(f"{where} is compressed by an unusual method; write it with np.savez or np.savez_compressed")
    if info.compress_size > path.stat().st_size:
        raise DatasetError(f"{where} announces {info.compress_size} bytes, more than the file has")
    with _readable(path), archive.open(info) as member:
        shape, fortran, dtype = _header(member)
        header_bytes = member.tell()
    if dtype.hasobject:
        raise DatasetError(
            f"{path}: not a readable .npz archive (Object arrays cannot be loaded: {shown(info.filename)})"
        )
    check_claims(where, shape, dtype, stored_bytes=info.compress_size)
    announced = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if announced != info.file_size - header_bytes:
        raise DatasetError(
            f"{where} announces {announced} bytes of numbers but holds {info.file_size - header_bytes}; write it again"
        )
    by_columns = fortran and sum(size > 1 for size in shape) > 1
    read = _rows_of_columns if by_columns else _rows
    return StoredArray(shape, dtype, 1, partial(read, path, archive, info, (shape, dtype), scratch))


def _header(member: Stream) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format is only used for structures")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that Python 2 wrote
        shape, fortran, dtype = read(member)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"shape {shown(shape)}")
    return shape, bool(fortran), dtype


def _rows(
    path: Path,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    kind: tuple[tuple[int, ...], np.dtype[Any]],
    scratch: Path | None,
    rows: int,
) -> Iterator[npt.NDArray[Any]]:
    shape, dtype = kind
    if 0 in shape or not shape:
        rows, shape_of_all = 1, shape
        with _readable(path), archive.open(info) as member:
            _header(member)
            yield np.frombuffer(member.read(), dtype).reshape(shape_of_all)
        return
    row_bytes = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
    with contextlib.ExitStack() as stack:
        with _readable(path):
            member = stack.enter_context(archive.open(info))
            _header(member)
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            with _readable(path):
                raw = _exactly(member, count * row_bytes)
                piece = np.frombuffer(raw, dtype).reshape(count, *shape[1:])
            yield piece


def _rows_of_columns(
    path: Path,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    kind: tuple[tuple[int, ...], np.dtype[Any]],
    scratch: Path | None,
    rows: int,
) -> Iterator[npt.NDArray[Any]]:
    """Fortran order keeps columns together, so it is inflated to disk first and read across from there."""
    shape, dtype = kind
    with tempfile.TemporaryFile(dir=scratch) as spool:
        with contextlib.ExitStack() as stack:
            with _readable(path):
                member = stack.enter_context(archive.open(info))
                _header(member)
            while True:
                with _readable(path):
                    raw = member.read(PIECE_BYTES)
                if not raw:
                    break
                spool.write(raw)
        spool.flush()
        with _readable(path):
            columns: npt.NDArray[Any] = np.memmap(spool, dtype, "r", shape=shape, order="F")
        for first in range(0, shape[0], rows):
            yield np.ascontiguousarray(columns[first : first + rows])
            give_back_pages(columns)


def _exactly(member: Stream, count: int) -> bytes:
    raw = member.read(count)
    if len(raw) != count:
        raise EOFError(f"it ends after {len(raw)} of {count} bytes")
    return raw


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: not a readable .npz archive ({shown(error) or type(error).__name__})") from error
