"""D4RL's files: one HDF5 of flat arrays per dataset, read without the d4rl package, downloaded if need be.

This file knows D4RL's layout, its file names and its server. It deliberately does not know reference scores
(`evaluation`), nor the tasks outside locomotion: those are read as `file:PATH`.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from wikirl.errors import ConfigError, DatasetError
from wikirl.runs import cache_folder
from wikirl.trajectories.arrays import from_marked_arrays
from wikirl.trajectories.connections import is_url
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.downloads import fetch
from wikirl.trajectories.hdf5 import dataset_at, open_hdf5, readable
from wikirl.types import Space

# Source: d4rl/infos.py, DATASET_URLS; plain http, because the server offers nothing else.
URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/{file}"
ENVIRONMENTS = {
    "hopper": "Hopper-v2",
    "halfcheetah": "HalfCheetah-v2",
    "walker2d": "Walker2d-v2",
    "ant": "Ant-v2",
}
KINDS = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")
NAMES = tuple(f"{task}-{kind}-v2" for task in ENVIRONMENTS for kind in KINDS)
MAX_EPISODE_STEPS = 1000  # the step limit of all four tasks
_ATTRIBUTES = ("environment", "reference", "observation_space", "action_space")


def read_hdf5(
    path: Path,
    *,
    name: str,
    environment: str | None = None,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    scratch: Path | None = None,
) -> TrajectoryDataset:
    """Read a file in D4RL's layout: observations, actions, rewards, terminals and usually timeouts.

    Episodes end at terminals and timeouts; in a file without timeouts also every `max_episode_steps` steps.
    Steps after the last end are dropped, as D4RL's own reader does, and counted in
    `details["dropped_steps"]`. Spaces and reference scores come from the attributes that `write_d4rl` adds.

    Args:
        path: The file.
        name: Begins every error message.
        environment: Gymnasium id the data was made with; default: what the file's attribute `environment`
            says.
        max_episode_steps: Step limit of the environment, for files without timeouts.
        scratch: A folder to grow large arrays in; None: in memory.

    Raises:
        DatasetError: the file is missing, damaged or lacks a key, nothing is left, or see `build_dataset`.
    """
    with open_hdf5(path) as file:
        arrays = {
            key: array
            for key in ("observations", "actions", "rewards", "terminals", "timeouts")
            if (array := dataset_at(path, file, key))
        }
        with readable(path):
            attributes = {key: file.attrs.get(key) for key in _ATTRIBUTES}
        recorded = attributes["environment"]
        reference = _json_attribute(path, attributes, "reference")
        return from_marked_arrays(
            name,
            arrays,
            environment=environment or (recorded if isinstance(recorded, str) else None),
            details={"source": str(path), **({"reference": reference} if reference else {})},
            max_episode_steps=max_episode_steps,
            scratch=scratch,
            **_spaces(path, attributes),
        )


def _spaces(path: Path, attributes: Mapping[str, Any]) -> dict[str, Space]:
    """The spaces that `write_d4rl` left in the attributes."""
    values = {key: _json_attribute(path, attributes, key) for key in ("observation_space", "action_space")}
    try:
        return {key: Space.from_json(value) for key, value in values.items() if value}
    except ConfigError as error:
        raise DatasetError(f"{path}: a space among the attributes is damaged ({error})") from error


def _json_attribute(path: Path, attributes: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object that `write_d4rl` left in an attribute; nothing in D4RL's own files."""
    text = attributes.get(key)
    if not isinstance(text, str):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: the attribute {key} is not JSON ({error})") from error
    return value if isinstance(value, dict) else {}


def describe(path: Path) -> tuple[int, str]:
    """Steps of a file and what its attributes say about it, without reading its arrays.

    Raises:
        DatasetError: the file is missing or damaged, or has no rewards.
    """
    with open_hdf5(path) as file, readable(path):
        environment, note = (str(file.attrs.get(key, "")) for key in ("environment", "note"))
        return len(file["rewards"]), f"{environment}: {note}"


def environment_of(name: str) -> str:
    """Gymnasium id in which a D4RL locomotion dataset was made: version 2, with mujoco-py.

    Raises:
        DatasetError: not a locomotion dataset's name.
    """
    return ENVIRONMENTS[_file_name(name).split("_")[0]]


def find_or_download(name: str, *, cache: Path | None = None, mirror: str | None = None) -> Path:
    """Find the file of a D4RL locomotion dataset, or fetch it into the cache.

    Looks in `<cache>/d4rl`, then where D4RL itself keeps its files, then asks the mirror or D4RL's server.

    Args:
        name: Such as "hopper-medium-replay-v2".
        cache: Default: `$WIKIRL_CACHE`, else `~/.cache/wikirl`.
        mirror: Folder or `http(s)://…` under which D4RL's files lie; default `$WIKIRL_D4RL_MIRROR`, else D4RL's
            server.

    Raises:
        DatasetError: the name is unknown, or the file is nowhere and cannot be fetched or is not what it should be.
    """
    file = _file_name(name)
    ours = (cache or cache_folder()) / "d4rl" / file
    for path in (ours, d4rl_folder() / file):
        if path.is_file():
            return path
    source = _source(file, mirror or os.environ.get("WIKIRL_D4RL_MIRROR"))
    try:
        fetch(source, ours, is_right=h5py.is_hdf5, kind="HDF5 file")
    except DatasetError as error:
        raise DatasetError(
            f"d4rl:{name} is not on this machine: {error}; name a mirror in WIKIRL_D4RL_MIRROR, "
            f"or put the file at {ours}"
        ) from error
    return ours


def _source(file: str, mirror: str | None) -> str:
    if not mirror:
        return URL.format(file=file)
    if is_url(mirror):
        return f"{mirror.rstrip('/')}/{file}"
    if "://" in mirror:
        raise DatasetError(f"a mirror of D4RL is a folder, http://… or https://…; found {mirror}")
    return str(Path(mirror).expanduser() / file)


def d4rl_folder() -> Path:
    """Where the d4rl package keeps its files: `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def names_on_disk(cache: Path | None = None) -> list[str]:
    """Locomotion datasets whose files need no download."""
    folders = ((cache or cache_folder()) / "d4rl", d4rl_folder())
    return [name for name in NAMES if any((folder / _file_name(name)).is_file() for folder in folders)]


def _file_name(name: str) -> str:
    match = re.fullmatch(r"([a-z0-9]+)-([a-z-]+)-v2", name)
    if name not in NAMES or match is None:
        raise DatasetError(
            f"d4rl:{name} is unknown; there are {', '.join(ENVIRONMENTS)} with {', '.join(KINDS)}, as in "
            "d4rl:hopper-medium-v2; read any other D4RL file as file:PATH"
        )
    return f"{match[1]}_{match[2].replace('-', '_')}-v2.hdf5"
