"""From a dataset id to a dataset: `builtin:NAME`, `minari:ID`, `d4rl:NAME`, `file:PATH`.

This file knows the ids, what ships with the package and which reader takes which file. It deliberately knows
no format itself. Whatever it reads is converted once into the cache and opened as memory maps from then on.
"""

import difflib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wikirl.errors import DatasetError
from wikirl.runs import cache_folder
from wikirl.trajectories import d4rl, minari
from wikirl.trajectories.arrays import read_npz
from wikirl.trajectories.caching import converted_once
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.downloads import recorded_sha256, sha256_of
from wikirl.trajectories.importing import TABLES
from wikirl.trajectories.pickles import read_pickle
from wikirl.trajectories.storage import is_dataset_folder, open_dataset

PREFIXES = ("builtin", "minari", "d4rl", "file")
ASSETS = Path(__file__).parents[1] / "assets" / "trajectories"
_READERS: dict[str, Callable[..., TrajectoryDataset]] = {
    ".hdf5": d4rl.read_hdf5,
    ".h5": d4rl.read_hdf5,
    ".npz": read_npz,
    ".pkl": read_pickle,
    ".pickle": read_pickle,
}


@dataclass(frozen=True)
class DatasetEntry:
    """One line of a list of datasets.

    Attributes:
        id: What `load_trajectories` takes.
        num_steps: How many steps it has; None if only loading would tell.
        note: What it is, in a few words.
    """

    id: str
    num_steps: int | None
    note: str


def load_trajectories(dataset_id: str, *, cache: Path | None = None) -> TrajectoryDataset:
    """Find, convert once and open a dataset.

    Args:
        dataset_id: `builtin:NAME`, `minari:ID`, `d4rl:NAME` or `file:PATH`; a path that exists may go without
            `file:`. A file is read by its suffix (.hdf5, .h5, .npz, .pkl, .pickle); a folder is one of
            `save_dataset`'s.
        cache: Where converted copies and downloads are kept; default `$WIKIRL_CACHE`, else `~/.cache/wikirl`.

    Raises:
        DatasetError: nothing goes by this id, it cannot be fetched, or it cannot be read.
        MissingExtraError: a download needs a package that is not installed.
    """
    cache = cache or cache_folder()
    prefix, separator, rest = dataset_id.partition(":")
    if dataset_id and prefix not in PREFIXES and Path(dataset_id).exists():
        prefix, separator, rest = "file", ":", dataset_id
    match prefix if separator else "":
        case "builtin":
            return _load_builtin(rest, cache)
        case "minari":
            return _load_minari(rest, cache)
        case "d4rl":
            return _load_d4rl(rest, cache)
        case "file":
            return _load_file(Path(rest).expanduser(), cache)
        case _:
            raise DatasetError(_unknown(dataset_id, cache))


def download_dataset(dataset_id: str, *, mirror: str | None = None, cache: Path | None = None) -> dict[Path, str]:
    """Bring the files of `minari:ID` or `d4rl:NAME` to this machine, unless they are here, and compare their sums.

    Args:
        dataset_id: Such as "d4rl:hopper-medium-v2".
        mirror: Folder or server to take them from; see `d4rl.find_or_download` and `minari_hub.download`.
        cache: As for `load_trajectories`.

    Returns:
        SHA-256 of each file.

    Raises:
        DatasetError: it is another kind of dataset, cannot be fetched, or a file here is not what was downloaded.
        MissingExtraError: a download needs a package that is not installed.
    """
    prefix, _, rest = dataset_id.partition(":")
    files: tuple[Path, ...]
    match prefix:
        case "minari":
            files = minari.source_files(rest, mirror)
        case "d4rl":
            files = (d4rl.find_or_download(rest, cache=cache, mirror=mirror),)
        case _:
            raise DatasetError(f"only minari:ID and d4rl:NAME are downloaded; found {dataset_id!r}")
    sums = {path: sha256_of(path) for path in files}
    for path, found in sums.items():
        if recorded_sha256(path) not in (None, found):
            raise DatasetError(
                f"{path} has another SHA-256 than {path.name}.sha256 recorded when it came; delete it to fetch it anew"
            )
    return sums


def list_datasets(*, cache: Path | None = None) -> list[DatasetEntry]:
    """Datasets that can be loaded without a network: shipped ones, Minari's and D4RL's, and the cache."""
    cache = cache or cache_folder()
    entries = [DatasetEntry(f"builtin:{name}", *d4rl.describe(path)) for name, path in _builtins().items()]
    entries += [
        DatasetEntry(f"minari:{name}", _minari_steps(name), "in Minari's folder") for name in minari.local_ids()
    ]
    entries += [DatasetEntry(f"d4rl:{name}", None, "D4RL file on disk") for name in d4rl.names_on_disk(cache)]
    listed = {entry.id for entry in entries}
    for path in _newest_first((cache / "trajectories").glob("*/dataset.json")):
        header = _json(path)
        name = header.get("name")
        # A copy in the cache is only worth a line if its source is still there under that id.
        if isinstance(name, str) and name not in listed and Path(name.removeprefix("file:")).exists():
            listed.add(name)
            entries.append(DatasetEntry(name, _header_steps(header), "own file, converted"))
    return entries


def _load_builtin(name: str, cache: Path) -> TrajectoryDataset:
    builtins = _builtins()
    if name not in builtins:
        raise DatasetError(_unknown(f"builtin:{name}", cache))
    return _convert(builtins[name], f"builtin:{name}", d4rl.read_hdf5, cache)


def _load_d4rl(name: str, cache: Path) -> TrajectoryDataset:
    environment = d4rl.environment_of(name)
    path = d4rl.find_or_download(name, cache=cache)
    return _convert(path, f"d4rl:{name}", d4rl.read_hdf5, cache, environment=environment)


def _load_minari(dataset_id: str, cache: Path) -> TrajectoryDataset:
    files = minari.source_files(dataset_id)
    name = f"minari:{dataset_id}"

    def read(scratch: Path) -> TrajectoryDataset:
        return minari.read_minari(*files, name=name, scratch=scratch)

    return converted_once(files, {"name": name}, read, cache)


def _load_file(path: Path, cache: Path) -> TrajectoryDataset:
    if path.is_dir():
        if not is_dataset_folder(path):
            raise DatasetError(
                f"file:{path} is a folder without dataset.json; expected one that wikirl wrote, or a file"
            )
        return open_dataset(path)
    if not path.is_file():
        close = difflib.get_close_matches(path.name, _names_in(path.parent), n=3)
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise DatasetError(f"file:{path} does not exist{hint}")
    if path.name.lower().endswith(TABLES):
        raise DatasetError(
            f"file:{path} is a table, whose columns have to be mapped once: "
            f"wikirl data import {path} --to file:DIR, then use file:DIR"
        )
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"file:{path} has suffix {path.suffix!r}; read are {', '.join(_READERS)} and dataset folders"
        )
    return _convert(path, f"file:{path.resolve()}", reader, cache)


def _convert(
    path: Path, name: str, reader: Callable[..., TrajectoryDataset], cache: Path, **options: Any
) -> TrajectoryDataset:
    described = {"name": name, "suffix": path.suffix.lower(), **options}
    return converted_once([path], described, lambda scratch: reader(path, name=name, scratch=scratch, **options), cache)


def _builtins() -> dict[str, Path]:
    return {path.stem: path for path in sorted(ASSETS.glob("*.hdf5"), key=lambda path: path.stem)}


def _minari_steps(dataset_id: str) -> int | None:
    steps = _json(minari.minari_root() / dataset_id / "data" / "metadata.json").get("total_steps")
    return steps if isinstance(steps, int) else None


def _header_steps(header: dict[str, Any]) -> int | None:
    match header:
        case {"arrays": {"rewards": [_, [int(steps)]]}}:
            return steps
    return None


def _json(path: Path) -> dict[str, Any]:
    """A JSON object for a list; a damaged one is only reported when somebody loads it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    """By time, so that of several copies of a file that changed the present one is listed."""
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _unknown(dataset_id: str, cache: Path) -> str:
    known = [entry.id for entry in list_datasets(cache=cache)] + [f"d4rl:{name}" for name in d4rl.NAMES]
    # People forget the prefix, so compare without it first; what is on this machine comes before what is not.
    close = [name for name in known if difflib.get_close_matches(dataset_id, [_bare(name)], cutoff=0.8)]
    close += difflib.get_close_matches(dataset_id, known, n=2)
    hint = f"; did you mean {' or '.join(list(dict.fromkeys(close))[:3])}?" if close else ";"
    there = ", ".join(f"builtin:{name}" for name in _builtins())
    return f"there is no dataset {dataset_id!r}{hint} known are {there}, minari:ID, d4rl:NAME and file:PATH"


def _bare(dataset_id: str) -> str:
    return dataset_id.partition(":")[2]
