"""A dataset as a folder of flat `.npy` files and a `dataset.json`: written at once, opened as memory maps.

This file knows the layout of that folder (docs/formats.md). It deliberately does not know where data comes
from.
"""

import json
import shutil
import tempfile
import tokenize
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import ConfigError, DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.types import Space

FORMAT = 1
ARRAYS = ("observations", "actions", "rewards", "returns_to_go", "starts", "terminated")
_TAKEN = "{folder} exists already: choose another folder or delete it first"
_SMALL = ("starts", "terminated")  # one entry per episode: read whole instead of mapped


def save_dataset(dataset: TrajectoryDataset, folder: Path) -> None:
    """Write a dataset so that `open_dataset` gives it back; the folder appears complete or not at all.

    Raises:
        DatasetError: the folder exists and is not empty, or cannot be written.
    """
    if not write_folder(lambda _: dataset, folder):
        raise DatasetError(_TAKEN.format(folder=folder))


def require_free(folder: Path) -> None:
    """Refuse a folder that `save_dataset` would refuse, before the work is done.

    Raises:
        DatasetError: it exists and is not empty.
    """
    if has_content(folder):
        raise DatasetError(_TAKEN.format(folder=folder))


def write_folder(make: Callable[[Path], TrajectoryDataset], folder: Path) -> bool:
    """Make a dataset and write it, unless the folder exists with content; says whether it did.

    Safe with several writers: each fills a folder of its own, one of them wins the rename, nobody sees a
    half.

    Args:
        make: Gets a folder to grow arrays in, under the names of `ARRAYS`; arrays it has put there stay as they are,
            everything else there is removed.
        folder: Where the dataset appears.

    Raises:
        DatasetError: the disk does not let us, or `make` says so.
    """
    if has_content(folder):
        return False
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out others who share the cache
        dataset = make(temporary)
        for field in ARRAYS:
            if not _is_at(temporary / f"{field}.npy", getattr(dataset, field)):
                np.save(temporary / f"{field}.npy", getattr(dataset, field), allow_pickle=False)
        (temporary / "dataset.json").write_text(json.dumps(_header(dataset), indent=1) + "\n", encoding="utf-8")
        for path in temporary.iterdir():
            if path.name not in (*(f"{field}.npy" for field in ARRAYS), "dataset.json"):
                path.unlink()
        temporary.replace(folder)
    except OSError as error:
        if has_content(folder):  # another writer was faster
            return False
        raise DatasetError(f"{folder}: cannot write the dataset ({error})") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


def open_dataset(folder: Path) -> TrajectoryDataset:
    """Open a folder that `save_dataset` wrote. Large arrays become read-only memory maps.

    Raises:
        DatasetError: no such folder, or a file in it is missing, damaged or does not fit the others.
    """
    header = _read_header(folder)
    arrays = {field: _open_array(folder, field, header) for field in ARRAYS}
    _check_agreement(folder, arrays)
    try:
        dataset = TrajectoryDataset(
            name=str(header["name"]),
            observation_space=Space.from_json(header["observation_space"]),
            action_space=Space.from_json(header["action_space"]),
            environment=header["environment"],
            details=header["details"],
            **arrays,
        )
        fingerprint = str(header["fingerprint"])
    except (KeyError, TypeError, ConfigError) as error:
        raise DatasetError(f"{folder / 'dataset.json'} is damaged ({error!r})") from error
    # Fill the cached property, because computing it reads every array whole.
    vars(dataset)["fingerprint"] = fingerprint
    return dataset


def is_dataset_folder(folder: Path) -> bool:
    """Whether a path looks like the work of `save_dataset`."""
    return (folder / "dataset.json").is_file()


def _header(dataset: TrajectoryDataset) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": dataset.name,
        "environment": dataset.environment,
        "observation_space": dataset.observation_space.to_json(),
        "action_space": dataset.action_space.to_json(),
        "fingerprint": dataset.fingerprint,
        "details": dict(dataset.details),
        "arrays": {field: _signature(getattr(dataset, field)) for field in ARRAYS},
    }


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{folder} holds no dataset.json: not a dataset folder, or a damaged one") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is damaged ({error})") from error
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise DatasetError(f"{path} is damaged: it does not list its arrays")
    if header.get("format") != FORMAT:
        raise DatasetError(f"{path} has format {header.get('format')!r}, this version of wikirl reads {FORMAT}")
    return header


def _open_array(folder: Path, field: str, header: dict[str, Any]) -> npt.NDArray[Any]:
    path = folder / f"{field}.npy"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            array: npt.NDArray[Any] = np.load(path, mmap_mode=None if field in _SMALL else "r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError, OverflowError, MemoryError) as error:
        raise DatasetError(f"{path} is missing or damaged ({' '.join(str(error).split())})") from error
    if _signature(array) != header["arrays"].get(field):
        raise DatasetError(
            f"{path} is damaged: dataset.json says {header['arrays'].get(field)}, found {_signature(array)}"
        )
    return array


def _check_agreement(folder: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Cheap cross-checks; values were checked when the dataset was built."""
    starts, steps = arrays["starts"], len(arrays["rewards"])
    lengths = {len(arrays[field]) for field in ("observations", "actions", "returns_to_go")}
    borders = len(starts) > 1 and starts[0] == 0 and starts[-1] == steps and bool((np.diff(starts) > 0).all())
    if lengths != {steps} or not borders or len(arrays["terminated"]) != len(starts) - 1:
        raise DatasetError(f"{folder} is damaged: its arrays do not fit together; write it again")


def _is_at(path: Path, array: npt.NDArray[Any]) -> bool:
    """Whether an array is a map of this very file, whole."""
    memory: object = array
    while isinstance(memory, np.ndarray) and not isinstance(memory, np.memmap):
        memory = memory.base
    if not isinstance(memory, np.memmap) or memory.filename is None:
        return False
    same = Path(memory.filename).resolve() == path.resolve()
    return same and memory.shape == array.shape and memory.dtype == array.dtype


def _signature(array: npt.NDArray[Any]) -> list[Any]:
    return [array.dtype.str, list(array.shape)]


def has_content(folder: Path) -> bool:
    """Whether there is something that must not be overwritten: a file, or a folder that is not empty."""
    return folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None) is not None)
