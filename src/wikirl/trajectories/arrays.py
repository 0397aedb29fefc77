"""Flat arrays with marks at the ends of episodes, as D4RL's files and users' `.npz` files hold them.

This file knows how marks become episodes. It deliberately does not know HDF5 (`d4rl`) or ids (`sources`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.archives import open_archive
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.growing import GrowingArrays
from wikirl.trajectories.stored import StoredArray, as_column, copy_steps, listed, whole
from wikirl.trajectories.validation import as_flags
from wikirl.types import Space

STEP_FIELDS = ("observations", "actions", "rewards")


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


def read_npz(
    path: Path, *, name: str, environment: str | None = None, scratch: Path | None = None
) -> TrajectoryDataset:
    """Read `observations`, `actions`, `rewards` and the episodes' ends from a NumPy archive.

    Ends are given in one of three ways: `terminals` and optionally `timeouts` (`[S]`, true at the last step
    of an episode; steps after the last mark are dropped and counted in `details["dropped_steps"]`), or
    `starts` (`[N]` or `[N+1]`) or `episode_ends` (`[N]`, one past the last step) together with `terminated`
    (`[N]`).

    Args:
        path: The archive.
        name: Begins every error message about its content.
        environment: Gymnasium id the data was made with.
        scratch: A folder to grow large arrays in; None: in memory.

    Raises:
        DatasetError: the file is missing, damaged, holds pickled objects or lacks a key, or see
            `build_dataset`.
    """
    details = {"source": str(path)}
    with open_archive(path, scratch=scratch) as arrays:
        if "terminals" in arrays:
            return from_marked_arrays(name, arrays, environment=environment, details=details, scratch=scratch)
        require_keys(name, arrays, ("observations", "actions", "rewards", "terminated"))
        grown = GrowingArrays(scratch)
        for field in STEP_FIELDS:
            copy_steps(name, field, arrays[field], max(arrays[field].shape[:1], default=0), grown)
        terminated = whole(arrays["terminated"])
        return build_dataset(
            name,
            grown.array("observations"),
            grown.array("actions"),
            grown.array("rewards"),
            _starts_from(name, arrays, len(grown.array("rewards")), terminated),
            terminated,
            environment=environment,
            details=details,
        )


def from_marked_arrays(
    name: str,
    arrays: Mapping[str, StoredArray],
    *,
    environment: str | None,
    details: Mapping[str, Any],
    max_episode_steps: int | None = None,
    observation_space: Space | None = None,
    action_space: Space | None = None,
    scratch: Path | None = None,
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
        scratch: A folder to grow large arrays in; None: in memory.

    Raises:
        DatasetError: a key is missing, nothing is left, or see `build_dataset`.
    """
    require_keys(name, arrays, (*STEP_FIELDS, "terminals"))
    steps = arrays["rewards"].shape[:1]
    marks = {field: _marks(name, field, arrays[field], steps) for field in ("terminals", "timeouts") if field in arrays}
    borders = episode_borders(marks["terminals"], marks.get("timeouts"), max_episode_steps)
    kept = int(borders.starts[-1])
    if kept == 0:
        raise DatasetError(f"{name}: no episode ends within the {steps[0]} steps; mark ends in terminals or timeouts")
    grown = GrowingArrays(scratch)
    for field in STEP_FIELDS:  # those of another length are not cut, so that `build_dataset` names what they have
        same = arrays[field].shape[:1] == steps
        copy_steps(name, field, arrays[field], kept if same else max(arrays[field].shape[:1], default=0), grown)
    return build_dataset(
        name,
        grown.array("observations"),
        grown.array("actions"),
        grown.array("rewards"),
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
        raise DatasetError(f"{name}: {', '.join(missing)} missing; found {listed(sorted(arrays))}")


def _starts_from(
    name: str, arrays: Mapping[str, StoredArray], steps: int, terminated: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    key = "starts" if "starts" in arrays else "episode_ends"
    require_keys(name, arrays, (key,))
    values = arrays[key]
    if len(values.shape) != 1 or values.dtype.kind not in "iu":
        raise DatasetError(f"{name}: {key} must be [episodes] integers, found {values.dtype} of shape {values.shape}")
    borders = whole(values).astype(np.int64)
    if key == "episode_ends":
        return np.concatenate([[0], borders])
    closed = len(borders) == np.size(terminated) + 1
    return borders if closed else np.concatenate([borders, [steps]])


def _marks(name: str, field: str, array: StoredArray, steps: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    if array.shape not in (steps, (*steps, 1)) or not steps:
        raise DatasetError(f"{name}: {field} has shape {array.shape} but rewards has {steps}")
    pieces = [as_flags(name, field, as_column(piece)) for piece in array.pieces(array.rows_per_piece())]
    return np.concatenate(pieces)
