"""Flat arrays with marks at the ends of episodes, as D4RL's files and users' `.npz` files hold them.

This file knows how marks become episodes. It deliberately does not know HDF5 (`d4rl`) or ids (`sources`).
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.validation import as_flags
from wikirl.types import Space

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Borders:
    """Where episodes begin and how they end; steps after the last end belong to none.

    Attributes:
        starts: `[N+1]`.
        terminated: `[N]`.
        dropped_steps: Steps after the last end.
    """

    starts: npt.NDArray[np.int64]
    terminated: npt.NDArray[np.bool_]
    dropped_steps: int


def read_npz(path: Path, *, name: str, environment: str | None = None) -> TrajectoryDataset:
    """Read `observations`, `actions`, `rewards` and the episodes' ends from a NumPy archive.

    Ends are given in one of three ways: `terminals` and optionally `timeouts` (`[S]`, true at the last step
    of an episode; steps after the last mark are dropped and counted in `details["dropped_steps"]`), or
    `starts` (`[N]` or `[N+1]`) or `episode_ends` (`[N]`, one past the last step) together with `terminated`
    (`[N]`).

    Raises:
        DatasetError: the file is missing, damaged, holds pickled objects or lacks a key, or see
            `build_dataset`.
    """
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path}: missing, or not a complete .npz archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path}: not a readable .npz archive ({error})") from error
    details = {"source": str(path)}
    if "terminals" in arrays:
        return from_marked_arrays(name, arrays, environment=environment, details=details)
    require_keys(name, arrays, ("observations", "actions", "rewards", "terminated"))
    return build_dataset(
        name,
        arrays["observations"],
        arrays["actions"],
        arrays["rewards"],
        _starts_from(name, arrays),
        arrays["terminated"],
        environment=environment,
        details=details,
    )


def from_marked_arrays(
    name: str,
    arrays: Arrays,
    *,
    environment: str | None,
    details: Mapping[str, Any],
    max_episode_steps: int | None = None,
    observation_space: Space | None = None,
    action_space: Space | None = None,
) -> TrajectoryDataset:
    """Make a dataset of flat arrays whose `terminals` and `timeouts` mark the last steps of episodes.

    Args:
        name: Begins every error message.
        arrays: `observations`, `actions`, `rewards`, `terminals` and optionally `timeouts`; one column more
            than needed (`[S, 1]`) is taken off rewards and marks, as D4RL's own reader does.
        environment: Gymnasium id the data was made with.
        details: What to record besides the dropped steps.
        max_episode_steps: Without `timeouts`, an episode also ends after this many steps; None: it does not.
        observation_space: Default, here and of the next: what `build_dataset` sees in the data.
        action_space: Shape and bounds of one action.

    Raises:
        DatasetError: a key is missing, nothing is left, or see `build_dataset`.
    """
    require_keys(name, arrays, ("observations", "actions", "rewards", "terminals"))
    terminals = as_flags(name, "terminals", _column(arrays["terminals"]))
    timeouts = as_flags(name, "timeouts", _column(arrays["timeouts"])) if "timeouts" in arrays else None
    rewards = _column(arrays["rewards"])
    for field, marks in (("terminals", terminals), ("timeouts", timeouts)):
        if marks is not None and marks.shape != rewards.shape:
            raise DatasetError(f"{name}: {field} has shape {marks.shape} but rewards has {rewards.shape}")
    borders = episode_borders(terminals, timeouts, max_episode_steps)
    kept = int(borders.starts[-1])
    if kept == 0:
        raise DatasetError(
            f"{name}: no episode ends within the {len(rewards)} steps; mark ends in terminals or timeouts"
        )
    return build_dataset(
        name,
        arrays["observations"][:kept] if len(arrays["observations"]) == len(rewards) else arrays["observations"],
        arrays["actions"][:kept] if len(arrays["actions"]) == len(rewards) else arrays["actions"],
        rewards[:kept],
        borders.starts,
        borders.terminated,
        observation_space=observation_space,
        action_space=action_space,
        environment=environment,
        details={**details, "dropped_steps": borders.dropped_steps},
    )


def episode_borders(
    terminals: npt.NDArray[np.bool_], timeouts: npt.NDArray[np.bool_] | None, max_episode_steps: int | None
) -> Borders:
    """Turn marks on last steps into episodes. A step marked both ways has terminated.

    Source: D4RL, `d4rl/__init__.py: sequence_dataset` (the unfinished last episode is dropped; without
        timeouts,
    the environment's step limit ends episodes).
    """
    ends = np.flatnonzero(terminals if timeouts is None else terminals | timeouts) + 1
    if timeouts is None and max_episode_steps is not None:
        limits = np.concatenate([[0], ends, [len(terminals)]])
        cuts = [
            np.arange(start + max_episode_steps, stop + 1, max_episode_steps)
            for start, stop in pairwise(limits.tolist())
        ]
        ends = np.union1d(ends, np.concatenate(cuts))
    starts = np.concatenate([[0], ends]).astype(np.int64)
    return Borders(starts, terminals[starts[1:] - 1], len(terminals) - int(starts[-1]))


def require_keys(name: str, arrays: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Check that every key is there.

    Raises:
        DatasetError: naming what is missing and what was found.
    """
    missing = [key for key in keys if key not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DatasetError(f"{name}: {', '.join(missing)} missing; found {found}")


def _starts_from(name: str, arrays: Arrays) -> npt.NDArray[np.int64]:
    key = "starts" if "starts" in arrays else "episode_ends"
    require_keys(name, arrays, (key,))
    values = arrays[key]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DatasetError(f"{name}: {key} must be [episodes] integers, found {values.dtype} of shape {values.shape}")
    borders = values.astype(np.int64)
    if key == "episode_ends":
        return np.concatenate([[0], borders])
    closed = len(borders) == np.size(arrays["terminated"]) + 1
    return borders if closed else np.concatenate([borders, [len(arrays["rewards"])]])


def _column(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
