"""The cache of converted datasets: which folder belongs to which source, filled once, safe for several jobs.

This file knows hashes and folders. It deliberately knows neither formats nor ids.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wikirl.errors import DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.storage import is_dataset_folder, open_dataset, write_folder

READER_VERSION = 2  # raise it whenever a reader makes something else of the same file


def converted_once(
    sources: Sequence[Path],
    options: Mapping[str, Any],
    read: Callable[[Path], TrajectoryDataset],
    cache: Path,
) -> TrajectoryDataset:
    """Open the converted copy of some files; make it first if there is none.

    The copy is found by the content of the files, the version of the readers and the options. The content's
    hash is remembered together with size and times of a file, so that later loads only look at those.

    Args:
        sources: Every file that `read` reads.
        options: JSON values that change what `read` makes of them.
        read: Reads the sources; gets a folder to grow large arrays in.
        cache: Root of the cache.

    Raises:
        DatasetError: a file is missing, changed while it was read, or `read` or the disk said so.
    """
    hashes = [content_hash(path, cache) for path in sources]
    key = _digest({"sources": hashes, "reader": READER_VERSION, "options": dict(options)})
    folder = cache / "trajectories" / key[:32]
    if not is_dataset_folder(folder):
        stamps = [_stamp(path) for path in sources]

        def make(scratch: Path) -> TrajectoryDataset:
            dataset = read(scratch)
            unchanged = [_stamp(path) for path in sources] == stamps
            if not unchanged or [content_hash(path, cache) for path in sources] != hashes:
                raise DatasetError(f"{sources[0]} changed while it was read; load it again")
            details = {**dataset.details, "sha256": hashes[0] if len(hashes) == 1 else hashes}
            return replace(dataset, details=details)

        write_folder(make, folder)
    return open_dataset(folder)


def content_hash(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered in the cache for as long as its size, times and inode stay the same.

    Raises:
        DatasetError: the file cannot be read, or the cache cannot be written.
    """
    stamp = _stamp(path)
    memory = cache / "trajectories" / "hashes" / f"{_digest(str(path.resolve()))[:32]}.json"
    remembered = _recall(memory)
    if remembered.get("stamp") == stamp and isinstance(remembered.get("sha256"), str):
        return str(remembered["sha256"])
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error})") from error
    _write_atomically(memory, json.dumps({"path": str(path.resolve()), "stamp": stamp, "sha256": sha256}))
    return sha256


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error})") from error
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _recall(memory: Path) -> dict[str, Any]:
    """What a memory file holds; nothing if it is missing or damaged, because it can always be made again."""
    try:
        value = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write_atomically(path: Path, text: str) -> None:
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DatasetError(f"the cache at {path.parent} cannot be written ({error}); set WIKIRL_CACHE") from error
