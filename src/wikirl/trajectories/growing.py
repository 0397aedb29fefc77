"""Arrays that grow chunk by chunk, in memory or as `.npy` files, and are then looked at without staying in memory.

This file knows bytes and memory maps. It deliberately knows nothing about what the arrays mean.
"""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 20  # numbers handled together, so that a mapped file is never in memory whole


class GrowingArrays:
    """Named arrays that grow along their first axis.

    With a folder each is a file `NAME.npy` in it, and finished ones are read-only maps of these; without one they
    stay in memory. The caller owns the folder and removes it.
    """

    def __init__(self, folder: Path | None):
        """Prepare to grow arrays in `folder`; None: in memory."""
        self._folder = folder
        self._parts: dict[str, list[npt.NDArray[Any]]] = {}
        self._files: dict[str, _GrowingFile] = {}

    def append(self, name: str, values: npt.NDArray[Any]) -> None:
        """Put `values` behind what the array has; all pieces of one share type and shape but for the first axis."""
        if self._folder is None:
            self._parts.setdefault(name, []).append(values)
            return
        if name not in self._files:
            self._files[name] = _GrowingFile(self._folder / f"{name}.npy", values.dtype, values.shape[1:])
        self._files[name].append(values)

    def array(self, name: str) -> npt.NDArray[Any]:
        """The array as it is now."""
        if self._folder is None:
            parts = self._parts[name]
            self._parts[name] = [parts[0] if len(parts) == 1 else np.concatenate(parts)]
            return self._parts[name][0]
        return self._files[name].mapped()

    def rewrite(
        self,
        name: str,
        order: npt.NDArray[np.int64] | None,
        convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    ) -> None:
        """Replace an array by the rows at `order` (None: all), each chunk of them converted."""
        old = self.array(name)
        rows = rows_per_chunk(old)
        count = len(old) if order is None else len(order)
        fresh = GrowingArrays(self._folder)
        for first in range(0, max(count, 1), rows):
            chosen = slice(first, first + rows) if order is None else order[first : first + rows]
            fresh.append(f"{name}-rewritten", convert(old[chosen]))
            give_back_pages(old)
        if self._folder is None:
            self._parts[name] = [fresh.array(f"{name}-rewritten")]
        else:
            fresh._files[f"{name}-rewritten"].rename(self._folder / f"{name}.npy")
            self._files[name] = fresh._files[f"{name}-rewritten"]

    def drop(self, name: str) -> None:
        """Forget an array, and its file."""
        self._parts.pop(name, None)
        if file := self._files.pop(name, None):
            file.path.unlink()


class _GrowingFile:
    """A `.npy` file whose header is written again when it has grown; NumPy leaves room in it for the count.

    It is only open while something is written, so that nothing has to be closed when reading fails.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]):
        self.path = path
        self._dtype, self._shape, self._rows = dtype, shape, 0
        with path.open("wb") as file:
            self._write_header(file)

    def append(self, values: npt.NDArray[Any]) -> None:
        if values.dtype != self._dtype or values.shape[1:] != self._shape:
            raise ValueError(f"{values.dtype}{values.shape} does not continue {self._dtype}[…, {self._shape}]")
        if values.size:
            with self.path.open("ab") as file:
                file.write(np.ascontiguousarray(values).data)
        self._rows += len(values)

    def mapped(self) -> npt.NDArray[Any]:
        with self.path.open("r+b") as file:
            self._write_header(file)
        if self._rows == 0:  # nothing can be mapped
            return np.empty((0, *self._shape), self._dtype)
        array: npt.NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array

    def rename(self, path: Path) -> None:
        self.path = self.path.replace(path)

    def _write_header(self, file: IO[bytes]) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)


def in_chunks(values: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Cut an array along its first axis into pieces of about a million numbers: (first index, piece).

    A read-only memory map gives back the pages of one piece before the next.
    """
    rows = rows_per_chunk(values)
    for first in range(0, len(values), rows):
        yield first, values[first : first + rows]
        give_back_pages(values)


def rows_per_chunk(values: npt.NDArray[Any]) -> int:
    """Entries of the first axis that hold about a million numbers together."""
    return max(_CHUNK // max(values[:1].size, 1), 1)


def give_back_pages(values: npt.NDArray[Any]) -> None:
    """Let the resident pages of a read-only memory map go; they are read again when needed."""
    memory: object = values
    while isinstance(memory, np.ndarray):
        memory = memory.base
    if isinstance(memory, mmap.mmap) and not values.flags.writeable:
        memory.madvise(mmap.MADV_DONTNEED)
