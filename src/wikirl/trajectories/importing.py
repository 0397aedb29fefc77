"""`wikirl data import`: anybody's logs to a dataset folder, in bounded memory, with the mapping used written down.

This file knows which reader takes which file and what is recorded. It deliberately knows no format itself.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories import d4rl, minari
from wikirl.trajectories.archives import open_archive
from wikirl.trajectories.arranging import Arrangement, arrange
from wikirl.trajectories.arrays import read_npz
from wikirl.trajectories.columns import DONE_NAMES, REWARD_NAMES, ColumnMapping, is_common, resolve_columns
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.delimited import open_csv
from wikirl.trajectories.growing import GrowingArrays
from wikirl.trajectories.hdf5 import dataset_at, open_hdf5, readable
from wikirl.trajectories.json_lines import open_json_lines
from wikirl.trajectories.parquet import open_parquet
from wikirl.trajectories.pickles import read_pickle
from wikirl.trajectories.steps import read_rows
from wikirl.trajectories.storage import is_dataset_folder, open_dataset, require_free, write_folder
from wikirl.trajectories.stored import StoredArray, shown
from wikirl.trajectories.tables import Table, table_of_arrays
from wikirl.trajectories.validation import typed

CSV, JSON_LINES, PARQUET = (".csv", ".tsv", ".csv.gz", ".tsv.gz"), (".jsonl", ".jsonl.gz"), (".parquet",)
TABLES = (*CSV, *JSON_LINES, *PARQUET)
ARRAYS = (".npz", ".hdf5", ".h5")
PICKLES = (".pkl", ".pickle")


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about logs, beside the columns.

    Attributes:
        name: What to call the dataset; None: by its folder.
        environment: Gymnasium id the data was made with; None: unknown, or as the file says.
        discrete: Whether the actions of a table are choices; None: the data decide.
    """

    name: str | None = None
    environment: str | None = None
    discrete: bool | None = None


def import_trajectories(
    source: str,
    mapping: ColumnMapping,
    folder: Path,
    options: ImportOptions = ImportOptions(),
) -> TrajectoryDataset:
    """Convert logs to a dataset folder, which appears complete or not at all.

    Args:
        source: A file (.csv, .tsv, .jsonl, each also .gz, .parquet, .npz, .hdf5, .h5, .pkl), a folder in Minari's
            layout, or `minari:ID`.
        mapping: Columns of a table, or names of arrays; what is left empty is guessed. An `.npz` or HDF5 file in
            D4RL's layout needs none, and is read as `file:PATH` would be.
        folder: Where to; must be empty or not exist.
        options: Name, environment, kind of actions.

    Returns:
        The new dataset, memory-mapped. `details["import"]` holds the mapping, what became of the actions and warnings.

    Raises:
        DatasetError: the source cannot be read, the mapping cannot be guessed or does not fit, values are missing or
            make no sense, or the folder is in use.
        MissingExtraError: Parquet needs a package that is not installed.
    """
    require_free(folder)
    name = options.name or f"file:{folder}"

    if not write_folder(lambda scratch: _read(source, mapping, options, name, scratch), folder):
        raise DatasetError(f"{folder} was filled by somebody else in the meantime; choose another folder")
    return open_dataset(folder)


def _read(source: str, mapping: ColumnMapping, options: ImportOptions, name: str, scratch: Path) -> TrajectoryDataset:
    path = Path(source.removeprefix("file:")).expanduser()
    if source.startswith("minari:"):
        files = minari.source_files(source.removeprefix("minari:"))
    elif path.is_dir():
        files = _files_of(path)
    else:
        return _read_file(path, mapping, options, name, scratch)
    _refuse_columns(source, mapping, options)
    dataset = minari.read_minari(*files, name=source, scratch=scratch)
    return _recorded(dataset, files, name, options, {})


def _read_file(
    path: Path, mapping: ColumnMapping, options: ImportOptions, name: str, scratch: Path
) -> TrajectoryDataset:
    kind = _kind(path)
    plain = mapping.is_empty and options.discrete is None
    if kind in PICKLES:
        _refuse_columns(str(path), mapping, options)
        return _recorded(read_pickle(path, name=str(path), scratch=scratch), (path,), name, options, {})
    with _opened(path, kind, mapping, scratch) as table:
        if kind in ARRAYS and plain and _has_own_layout(table):
            reader = read_npz if kind == ".npz" else d4rl.read_hdf5
            return _recorded(reader(path, name=str(path), scratch=scratch), (path,), name, options, {})
        return _read_table(table, mapping, options, name, scratch)


def _kind(path: Path) -> str:
    name = path.name.lower()
    kinds = [kind for kind in (*TABLES, *ARRAYS, *PICKLES) if name.endswith(kind)]
    if not path.exists():
        raise DatasetError(f"{path} does not exist; expected a file, a folder in Minari's layout or minari:ID")
    if not kinds:
        known = ", ".join((*TABLES, *ARRAYS, *PICKLES))
        raise DatasetError(f"{path} has suffix {path.suffix!r}; read are {known} and Minari's folders")
    return kinds[0]


@contextlib.contextmanager
def _opened(path: Path, kind: str, mapping: ColumnMapping, scratch: Path) -> Iterator[Table]:
    if kind == ".npz":
        with open_archive(path, scratch=scratch) as arrays:
            yield table_of_arrays(path, arrays)
    elif kind in ARRAYS:
        with open_hdf5(path) as file:
            with readable(path):
                names = list(file)
            yield table_of_arrays(path, _usable(path, file, names, mapping))
    elif kind in CSV:
        yield open_csv(path)
    elif kind in JSON_LINES:
        yield open_json_lines(path, (mapping.reward,) if mapping.reward else REWARD_NAMES)
    else:
        yield open_parquet(path)


def _usable(path: Path, file: Any, names: list[str], mapping: ColumnMapping) -> dict[str, StoredArray]:
    """The arrays of an HDF5 file; one that is refused only matters if somebody could want it."""
    arrays = {}
    for name in names:
        try:
            array = dataset_at(path, file, name)
        except DatasetError:
            if is_common(name) or name in mapping.names():
                raise
            continue
        if array is not None:
            arrays[name] = array
    return arrays


def _has_own_layout(table: Table) -> bool:
    names = table.columns.keys()
    own = names >= {"observations", "actions", "rewards"}
    return own and ("terminals" in names or bool({"terminated"} <= names and names & {"starts", "episode_ends"}))


def _read_table(
    table: Table, asked: ColumnMapping, options: ImportOptions, name: str, scratch: Path
) -> TrajectoryDataset:
    mapping = resolve_columns(table.path, table.columns, asked)
    grown = GrowingArrays(scratch)
    rows = read_rows(table, mapping, grown)
    if options.discrete and rows.choices is None:
        raise DatasetError(f"{table.path}: --discrete needs actions in one column of single values")
    choices = rows.choices.decide(options.discrete) if rows.choices else None
    arrangement = arrange(table.path, rows, grown)

    def final(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if rows.choices is None:
            return values
        return (
            typed(str(table.path), "actions", values[:, None])
            if choices is None
            else rows.choices.decided(values, choices)
        )

    if arrangement.order is not None:
        for field in ("observations", "rewards"):
            grown.rewrite(field, arrangement.order, lambda values: values)
    if arrangement.order is not None or rows.choices is not None:
        grown.rewrite("actions", arrangement.order, final)
    dataset = build_dataset(
        str(table.path),
        grown.array("observations"),
        grown.array("actions"),
        grown.array("rewards"),
        arrangement.starts,
        arrangement.terminated,
        details={"source": str(table.path)},
    )
    notes = {
        "mapping": mapping.to_json(),
        **({"choices": choices} if choices is not None else {}),
        "warnings": _warnings(mapping, arrangement, choices),
    }
    return _recorded(dataset, (table.path,), name, options, notes)


def _recorded(
    dataset: TrajectoryDataset, files: Sequence[Path], name: str, options: ImportOptions, notes: Mapping[str, Any]
) -> TrajectoryDataset:
    """With its name, its environment and what is to be known of the import."""
    hashes = [_sha256(file) for file in files]
    dropped = dataset.details.get("dropped_steps")
    warnings = list(dataset.details.get("warnings", ()))
    warnings += [f"{dropped} steps after the last end were dropped; mark their end in timeouts"] if dropped else []
    return replace(
        dataset,
        name=name,
        environment=options.environment or dataset.environment,
        details={
            **dataset.details,
            "sha256": hashes[0] if len(hashes) == 1 else hashes,
            "import": {"mapping": None, "warnings": warnings, **notes},
        },
    )


def _warnings(mapping: ColumnMapping, arrangement: Arrangement, choices: list[Any] | None) -> list[str]:
    warnings = []
    if mapping.terminated is None:
        warnings.append(
            "no column says which episodes reached a terminal state, so all count as cut; name one with --terminated"
        )
    elif mapping.terminated.lower() in DONE_NAMES and mapping.truncated is None:
        warnings.append(
            f"{shown(mapping.terminated)} is taken for a terminal state; where it also marks time limits, name those "
            "with --truncated"
        )
    if mapping.timestep is None and mapping.episode is None:
        warnings.append("neither an episode nor a timestep column: lost rows would go unnoticed")
    if arrangement.was_scattered:
        warnings.append("rows of an episode were not next to each other; they were put together in the file's order")
    if arrangement.dropped_rows:
        warnings.append(f"{arrangement.dropped_rows} last rows without an action were dropped")
    if arrangement.dropped_episodes:
        warnings.append(f"{arrangement.dropped_episodes} of them were all of their episode")
    if choices and choices[0] != 0 and isinstance(choices[0], int):
        warnings.append(f"actions from {choices[0]} on became choices from 0 on; details.import.choices keeps them")
    return warnings


def _refuse_columns(source: str, mapping: ColumnMapping, options: ImportOptions) -> None:
    if not mapping.is_empty or options.discrete is not None:
        raise DatasetError(
            f"{source} says itself what is what; columns, --discrete and --continuous are for tables and arrays"
        )


def _files_of(folder: Path) -> tuple[Path, Path]:
    if is_dataset_folder(folder):
        raise DatasetError(f"{folder} is a dataset folder already; use it as file:{folder}")
    for data in (folder, folder / "data"):
        if (data / "metadata.json").is_file() and (data / "main_data.hdf5").is_file():
            return data / "metadata.json", data / "main_data.hdf5"
    raise DatasetError(f"{folder} is a folder, but not in Minari's layout (data/metadata.json, data/main_data.hdf5)")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
