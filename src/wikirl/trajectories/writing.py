"""Episodes as they were recorded, with the observation after the last action, written in D4RL's layout.

This file knows what a recorded episode must look like and D4RL's HDF5. It deliberately does not know who recorded
(`recipes`) nor Minari's folders (`minari_writing`). Episodes come one by one and leave in blocks, so that memory does
not grow with their number.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.runs import noting
from wikirl.types import RecordedEpisode, Space

Arrays = dict[str, npt.NDArray[Any]]
_BLOCK = 1 << 23  # bytes of observations that are written together
_SPARE = 1 << 25  # bytes to be left on the disk, for what HDF5 still holds back
_CHUNK = 1 << 18  # bytes that HDF5 compresses together


def write_d4rl(  # noqa: PLR0913 - one argument for each thing the file records
    episodes: Iterable[RecordedEpisode],
    path: Path,
    *,
    observation_space: Space,
    action_space: Space,
    environment: str | None = None,
    note: str = "",
    reference: Mapping[str, Any] | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    next_observations: bool = False,
) -> None:
    """Write episodes as one compressed HDF5 in the layout of D4RL's v2 files; it appears complete or not at all.

    Numbers are stored as float32 (images as uint8, choices as int64), as `read_hdf5` gives them back.

    Args:
        episodes: At least one; read once.
        path: The file, which must not exist; its folder is made.
        observation_space: Shape and bounds of one observation; kept as an attribute, as is the next.
        action_space: Shape and bounds of one action.
        environment: Gymnasium id the data was made with.
        note: What the data are, in a few words.
        reference: The family's own reference scores: `name`, `minimum`, `maximum`, `source`.
        attributes: More to record about the file.
        next_observations: Also store what followed each step, which D4RL's files have and nothing here reads.

    Raises:
        DatasetError: the file exists, there is no episode, or one does not fit the spaces.
    """
    kept = {**(attributes or {}), **_attributes(observation_space, action_space, environment, note, reference)}
    with writing_hdf5(path), appearing(path) as temporary, h5py.File(temporary, "w") as file:
        for block in _blocks(checked(episodes, str(path), observation_space, action_space), next_observations):
            require_room(path.parent, sum(values.nbytes for values in block.values()))
            for key, values in block.items():
                _append(file, key, values)
        file.attrs.update(kept)


def checked(
    episodes: Iterable[RecordedEpisode], name: str, observation_space: Space, action_space: Space
) -> Iterator[RecordedEpisode]:
    """The same episodes, each checked against the spaces.

    Raises:
        DatasetError: there is no episode, or one is empty, has the wrong shape or holds a number that is not finite
            or a choice that does not exist; the message begins with `name` and counts episodes from 0.
    """
    number = -1
    for number, episode in enumerate(episodes):
        where = f"{name}, episode {number}"
        steps = len(episode.rewards)
        if steps == 0:
            raise DatasetError(f"{where}: expected at least one step, found none")
        expected = {
            "observations": (steps + 1, *observation_space.shape),
            "actions": (steps, *action_space.shape),
            "rewards": (steps,),
        }
        for field, shape in expected.items():
            values: npt.NDArray[Any] = getattr(episode, field)
            if values.shape != shape:
                raise DatasetError(f"{where}: expected {field} of shape {shape}, found {values.shape}")
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise DatasetError(f"{where}: {field} holds a number that is not finite")
        choices = episode.actions
        if action_space.n is not None and (
            choices.dtype.kind not in "iu" or choices.min() < 0 or choices.max() >= action_space.n
        ):
            raise DatasetError(f"{where}: expected actions from 0 to {action_space.n - 1}")
        yield episode
    if number < 0:
        raise DatasetError(f"{name}: there are no episodes to write")


@contextmanager
def writing_hdf5(place: Path) -> Iterator[None]:
    """Let errors of the disk be the system's own: HDF5 gives their number in its text alone, whatever it raises."""
    with noting(place):
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            found = re.search(r"errno = (\d+)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def require_room(folder: Path, num_bytes: int) -> None:
    """Ask for room before HDF5 needs it, because it may crash on closing a file that it could not write.

    Raises:
        OSError: the disk is nearly full.
    """
    if shutil.disk_usage(folder).free < num_bytes + _SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well and vanishes when it does not.

    Raises:
        DatasetError: `path` exists already.
    """
    _refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _refuse_existing(path)
        temporary.chmod(0o644)  # mkstemp's 0600 would lock out others
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise DatasetError(f"{path} exists already: choose another place or delete it first")


def _attributes(
    observation_space: Space,
    action_space: Space,
    environment: str | None,
    note: str,
    reference: Mapping[str, Any] | None,
) -> dict[str, str]:
    spaces = {"observation_space": observation_space.to_json(), "action_space": action_space.to_json()}
    objects = {**spaces, **({"reference": dict(reference)} if reference else {})}
    return {
        **({"environment": environment} if environment else {}),
        "note": note,
        **{key: json.dumps(value) for key, value in objects.items()},
    }


def _blocks(episodes: Iterable[RecordedEpisode], next_observations: bool) -> Iterator[Arrays]:
    """D4RL's arrays for some episodes at a time."""
    waiting: list[Arrays] = []
    size = 0
    for episode in episodes:
        waiting.append(_flat(episode, next_observations))
        size += waiting[-1]["observations"].nbytes
        if size >= _BLOCK:
            yield _joined(waiting)
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting)


def _flat(episode: RecordedEpisode, next_observations: bool) -> Arrays:
    last = np.zeros(len(episode.rewards), dtype=np.bool_)
    last[-1] = True
    images = episode.observations.dtype == np.uint8
    observations = episode.observations.astype(np.uint8 if images else np.float32, copy=False)
    discrete = episode.actions.ndim == 1
    return {
        "observations": observations[:-1],
        "actions": episode.actions.astype(np.int64 if discrete else np.float32, copy=False),
        "rewards": episode.rewards.astype(np.float32, copy=False),
        "terminals": last if episode.terminated else ~last & last,
        "timeouts": ~last & last if episode.terminated else last,
        **({"next_observations": observations[1:]} if next_observations else {}),
    }


def _joined(waiting: list[Arrays]) -> Arrays:
    return {key: np.concatenate([arrays[key] for arrays in waiting]) for key in waiting[0]}


def _append(file: h5py.File, key: str, values: npt.NDArray[Any]) -> None:
    if key not in file:
        rows = max(_CHUNK // max(values[:1].nbytes, 1), 1)
        file.create_dataset(
            key,
            data=values,
            maxshape=(None, *values.shape[1:]),
            chunks=(min(rows, 1 << 14), *values.shape[1:]),
            compression="gzip",
        )
        return
    dataset = file[key]
    before = len(dataset)
    dataset.resize(before + len(values), axis=0)
    dataset[before:] = values
