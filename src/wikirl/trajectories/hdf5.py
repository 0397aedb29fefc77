"""HDF5 files that nobody vouches for: plain datasets only, read in pieces.

This file knows h5py, links and storage. It deliberately does not know layouts (`d4rl`, `minari`, `tables`).
"""

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import MAX_PIECE_BYTES, StoredArray, check_claims, require_file, shown

_UNREADABLE = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, NotImplementedError, MemoryError, OverflowError,
    IndexError, AttributeError, SystemError,
)  # fmt: skip
_CACHE_BYTES = 8 << 20  # of unpacked blocks, per dataset


@contextlib.contextmanager
def open_hdf5(path: Path, kind: str = "HDF5 file") -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        DatasetError: it is missing, no plain file, or no HDF5 file.
    """
    require_file(path, kind)
    with readable(path, kind):
        file = h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES)
    with file:
        yield file


@contextlib.contextmanager
def readable(path: Path, kind: str = "HDF5 file") -> Iterator[None]:
    """Around every look into a file: what the library throws at damage becomes one line.

    Raises:
        DatasetError: naming the file.
    """
    try:
        yield
    except DatasetError:
        raise
    except _UNREADABLE as error:
        raise DatasetError(
            f"{path}: not a readable {kind} ({' '.join(str(error).split())}); is it complete?"
        ) from error


def dataset_at(path: Path, group: Any, key: str, *, byte_lists: bool = False) -> StoredArray | None:
    """A dataset of a file or group; None if there is none of that name, or a group.

    Args:
        path: The file, for messages.
        group: The open file, or a group in it.
        key: The dataset's name.
        byte_lists: Whether entries may be lists of bytes, each of its own length; then `dtype` is object.

    Raises:
        DatasetError: it is a link or virtual, holds objects, or announces what the file cannot hold.
    """
    where = f"{path}: {shown(key)}"
    with readable(path):
        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            target = getattr(link, "filename", link.path)
            raise DatasetError(
                f"{where} is a link to {shown(target)}; only datasets that lie where they are named are read"
            )
        dataset = group.get(key)
        if not isinstance(dataset, h5py.Dataset):
            return None
        if dataset.is_virtual or dataset.external:
            raise DatasetError(f"{where} takes its numbers from other files; that is refused")
        if dataset.shape is None:
            raise DatasetError(f"{where} is empty: it has no shape")
        lists = byte_lists and h5py.check_vlen_dtype(dataset.dtype) == np.uint8
        claimed = np.dtype(np.uint64) if lists else dataset.dtype  # of a list, the file claims only where it lies
        check_claims(where, dataset.shape, claimed, stored_bytes=dataset.id.get_storage_size())
        chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
        if chunk_bytes > MAX_PIECE_BYTES:
            raise DatasetError(
                f"{where} is stored in blocks of {chunk_bytes} bytes, which do not fit into memory; "
                "write it again with chunks of about a million numbers"
            )
        chunk_rows = min(dataset.chunks[0], max(dataset.shape[0], 1)) if dataset.chunks else 1
        return StoredArray(dataset.shape, dataset.dtype, chunk_rows, partial(_rows, path, dataset))


def _rows(path: Path, dataset: Any, rows: int) -> Iterator[npt.NDArray[Any]]:
    if not dataset.shape or 0 in dataset.shape:
        with readable(path):
            value = dataset[()]
        yield value
        return
    for first in range(0, dataset.shape[0], rows):
        with readable(path):
            piece = dataset[first : first + rows]
        yield piece
