"""How a pack comes about, so that a kill costs seconds.

It grows in a hidden folder beside its place, where progress.json says how much of it is good, and is moved when it is
whole; one process at a time.
"""

import fcntl
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wikirl.errors import CorpusError
from wikirl.runs import noting, read_json, write_json
from wikirl.text.pack_files import PackedText, Piece, Progress, open_packed

# Seconds of work that a kill may cost.
RECORD_EVERY = 2.0


def write_pack(
    folder: Path, beginning: Progress, pieces: Callable[[int], Iterator[Piece]], bar: Callable[[], "tqdm[None]"]
) -> PackedText:
    """Write pieces into `folder` and open it, going on from where a killed process stopped.

    Of several processes one writes, while the others wait and then find the folder.

    Args:
        folder: Where the pack shall be.
        beginning: What it is made with.
        pieces: The pieces that come after a number of documents, always the same.
        bar: Makes the progress bar, of bytes of text or, if it never was text, of tokens.

    Raises:
        CorpusError: there are no documents, or a pack that is there is damaged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with _alone(folder):
        if folder.exists():
            return open_packed(folder, beginning.tokenizer)
        with _Growing(partial, beginning) as pack, bar() as progress:
            progress.update(pack.progress.num_bytes or pack.progress.num_tokens)
            for piece in pieces(pack.progress.num_documents):
                pack.append(piece)
                progress.set_postfix_str(
                    f"{pack.progress.num_documents:,} documents, {pack.progress.num_tokens:,} tokens", refresh=False
                )
                progress.update(piece.num_bytes or len(piece.ids))
            found = pack.progress.num_documents
            if found:
                pack.finish()
        if not found:
            shutil.rmtree(partial)
            raise CorpusError("expected text to pack; found none")
        partial.replace(folder)
    return open_packed(folder, beginning.tokenizer)


class _Growing:
    """The two arrays of a pack, open at their ends. Nothing is buffered here, so what is recorded is written."""

    def __init__(self, folder: Path, beginning: Progress) -> None:
        """Open what a killed process left, cut to what it had recorded; begin anew if that cannot be."""
        self.folder, self.progress = folder, beginning
        self._recorded = time.monotonic()
        if folder.exists():
            self.progress = self._left(beginning)
        if not self.progress.num_documents:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self._ids, self._starts = (
            io.FileIO(folder / name, "r+" if self.progress.num_documents else "w+") for name in self._sizes()
        )
        if self.progress.num_documents:
            for file, size in zip((self._ids, self._starts), self._sizes().values(), strict=True):
                file.truncate(size)
                file.seek(0, os.SEEK_END)
        else:
            self._write(self._ids, _header(np.dtype(beginning.dtype), 0))
            self._write(self._starts, _header(np.dtype(np.int64), 0) + bytes(8))

    def __enter__(self) -> "_Growing":
        return self

    def __exit__(self, *_: object) -> None:
        self._ids.close()
        self._starts.close()

    def append(self, piece: Piece) -> None:
        """Write a piece, and from time to time that it is written."""
        ends = self.progress.num_tokens + np.cumsum(piece.lengths, dtype=np.int64)
        self._write(self._ids, piece.ids.astype(self.progress.dtype).tobytes())
        self._write(self._starts, ends.tobytes())
        self.progress = self.progress.after(piece)
        if time.monotonic() - self._recorded >= RECORD_EVERY:
            self._record("progress.json")

    def finish(self) -> None:
        """Write the lengths of both arrays into their headers, and the sizes beside them."""
        for file, dtype, length in (
            (self._ids, self.progress.dtype, self.progress.num_tokens),
            (self._starts, "int64", self.progress.num_documents + 1),
        ):
            file.seek(0)
            self._write(file, _header(np.dtype(dtype), length))
        self._record("pack.json")
        (self.folder / "progress.json").unlink(missing_ok=True)

    def _record(self, name: str) -> None:
        for file in (self._ids, self._starts):
            os.fsync(file.fileno())
        write_json(self.folder / name, asdict(self.progress))
        self._recorded = time.monotonic()

    def _write(self, file: io.FileIO, data: bytes) -> None:
        rest = memoryview(data)
        with noting(self.folder):
            while rest:
                rest = rest[file.write(rest) :]

    def _left(self, beginning: Progress) -> Progress:
        """What was recorded, if it is of the same kind and all there."""
        names = [name for name in ("pack.json", "progress.json") if (self.folder / name).exists()]
        if not names:
            return beginning
        try:
            self.progress = Progress(**read_json(self.folder / names[0]))
            whole = all((self.folder / name).stat().st_size >= size for name, size in self._sizes().items())
        except (OSError, ValueError, TypeError):  # a damaged file; the text can always be packed again
            whole = False
        if whole and self.progress.beginning == beginning:
            return self.progress
        tqdm.write(f"{self.folder} is damaged and made anew", file=sys.stderr)
        return beginning

    def _sizes(self) -> dict[str, int]:
        """Bytes of each file at the present progress."""
        dtype, progress = np.dtype(self.progress.dtype), self.progress
        return {
            "ids.npy": len(_header(dtype, 0)) + progress.num_tokens * dtype.itemsize,
            "document_starts.npy": len(_header(np.dtype(np.int64), 0)) + (progress.num_documents + 1) * 8,
        }


def _header(dtype: np.dtype[np.generic], length: int) -> bytes:
    """The header of an .npy file with a row of numbers; NumPy leaves room in it for any length."""
    file = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": (length,)})
    return file.getvalue()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tqdm.write(f"waiting for another process that makes {folder}", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                continue  # the one before took its lock away; whoever comes next would not see ours
            try:
                yield
            finally:
                path.unlink()
            return
