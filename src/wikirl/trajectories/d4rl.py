"""D4RL's files: one HDF5 of flat arrays per dataset, read without the d4rl package, downloaded if need be.

This file knows D4RL's layout, its file names and its server. It deliberately does not know reference scores
(`evaluation`), nor the tasks outside locomotion: those are read as `file:PATH`.
"""

import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import h5py
from tqdm import tqdm

from wikirl.errors import DatasetError
from wikirl.runs import cache_folder
from wikirl.trajectories.arrays import from_marked_arrays
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.hdf5 import dataset_at, open_hdf5, readable

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
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


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
    `details["dropped_steps"]`.

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
            recorded = file.attrs.get("environment")
        return from_marked_arrays(
            name,
            arrays,
            environment=environment or (recorded if isinstance(recorded, str) else None),
            details={"source": str(path)},
            max_episode_steps=max_episode_steps,
            scratch=scratch,
        )


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


def find_or_download(name: str, *, cache: Path | None = None) -> Path:
    """Find the file of a D4RL locomotion dataset, or fetch it into the cache.

    Looks in `<cache>/d4rl`, then where D4RL itself keeps its files.

    Args:
        name: Such as "hopper-medium-replay-v2".
        cache: Default: `$WIKIRL_CACHE`, else `~/.cache/wikirl`.

    Raises:
        DatasetError: the name is unknown, or the file is nowhere and cannot be downloaded.
    """
    file = _file_name(name)
    ours = (cache or cache_folder()) / "d4rl" / file
    for path in (ours, d4rl_folder() / file):
        if path.is_file():
            return path
    url = URL.format(file=file)
    try:
        _download(url, ours)
    except (OSError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise DatasetError(
            f"d4rl:{name} is not on this machine and {url} does not answer ({error}); put the file at {ours}"
        ) from error
    return ours


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


def _download(url: str, target: Path) -> None:
    """Fetch into a temporary file beside the target and rename: a broken download leaves nothing behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as sink, urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            length = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=length or None, unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
                while chunk := response.read(_CHUNK):
                    sink.write(chunk)
                    bar.update(len(chunk))
                received = sink.tell()
        if length and received != length:
            raise OSError(f"the connection broke after {received} of {length} bytes")
        if not h5py.is_hdf5(partial):
            raise OSError("what came is no HDF5 file")
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    finally:
        Path(partial).unlink(missing_ok=True)
