"""The checks at the border: arrays that anyone may have made, against what a dataset promises.

Every complaint is one line that names the dataset, the field and, where there is one, the episode and the
step within it. This file knows nothing about files or formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.growing import in_chunks
from wikirl.types import Space

ArrayInput = npt.NDArray[Any] | Sequence[Any]


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of a dataset in their final types, not yet checked for sense."""

    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    rewards: npt.NDArray[Any]
    starts: npt.NDArray[Any]
    terminated: npt.NDArray[Any]


def typed_fields(
    name: str,
    observations: ArrayInput,
    actions: ArrayInput,
    rewards: ArrayInput,
    starts: ArrayInput,
    terminated: ArrayInput,
) -> Fields:
    """Bring each field to its type, without a copy where it has that type already.

    Raises:
        DatasetError: a field is ragged or does not hold numbers of the kind it should.
    """
    raw_starts = _numbers(name, "starts", starts)
    if raw_starts.dtype.kind not in "iu":
        raise DatasetError(f"{name}: starts must be integers, found {raw_starts.dtype}")
    return Fields(
        observations=typed(name, "observations", observations),
        actions=typed(name, "actions", actions),
        rewards=typed(name, "rewards", rewards),
        starts=raw_starts.astype(np.int64, copy=False),
        terminated=as_flags(name, "terminated", terminated),
    )


def typed(name: str, field: str, values: ArrayInput) -> npt.NDArray[Any]:
    """Bring observations, actions or rewards, or a chunk of them, to their type.

    Raises:
        DatasetError: they are ragged or no numbers.
    """
    array = _numbers(name, field, values)
    if field == "observations" and array.dtype == np.uint8:
        return array
    # Integers in one column are choices; integers in vectors are coordinates that happen to be whole.
    if field == "actions" and array.ndim == 1 and array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    return _as_float32(array)


def check_fields(name: str, fields: Fields) -> None:
    """Check dimensions, lengths, episode borders and finiteness, in the order in which one mends them.

    Raises:
        DatasetError: see `build_dataset`.
    """
    _check_dimensions(name, fields)
    steps = len(fields.rewards)
    for field in ("observations", "actions"):
        if len(getattr(fields, field)) != steps:
            raise DatasetError(f"{name}: {field} has {len(getattr(fields, field))} steps but rewards has {steps}")
    _check_starts(name, fields.starts, steps)
    if len(fields.terminated) != len(fields.starts) - 1:
        raise DatasetError(
            f"{name}: terminated has {len(fields.terminated)} entries but starts has {len(fields.starts) - 1} episodes"
        )
    for field in ("observations", "actions", "rewards"):
        check_finite(name, field, getattr(fields, field), fields.starts)


def check_finite(name: str, field: str, values: npt.NDArray[Any], starts: npt.NDArray[np.int64]) -> None:
    """Look for NaN and infinity.

    Raises:
        DatasetError: naming the first step that holds one, and how many do.
    """
    if values.dtype.kind != "f":
        return
    affected, step = 0, -1
    for first, chunk in in_chunks(values):
        finite = np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if not finite.all():
            step = first + int(np.argmin(finite)) if step < 0 else step
            affected += int((~finite).sum())
    if affected:
        bad = values[step][~np.isfinite(values[step])].ravel()[0]
        raise DatasetError(
            f"{name}: {field} holds {bad} (as float32) {where(step, starts)}; "
            f"{affected:,} of {len(values):,} steps hold such values"
        )


def check_space(name: str, field: str, values: npt.NDArray[Any], space: Space, starts: npt.NDArray[np.int64]) -> None:
    """Check that data has the shape of its space and, for choices, lies in its range.

    Bounds of a box are not enforced: simulators clip, and logs hold what was asked for.

    Raises:
        DatasetError: it does not.
    """
    if values.shape[1:] != space.shape or (field == "actions" and space.is_discrete != (values.dtype.kind == "i")):
        kind = f"choices among {space.n}" if space.is_discrete else f"vectors of shape {space.shape}"
        raise DatasetError(
            f"{name}: {field} should be {kind} by the space, found {values.dtype} of shape {values.shape[1:]} per step"
        )
    if space.n is not None:
        for first, chunk in in_chunks(values):
            outside = (chunk < 0) | (chunk >= space.n)
            if outside.any():
                step = first + int(np.argmax(outside))
                raise DatasetError(
                    f"{name}: {field} holds choice {int(values[step])} {where(step, starts)}, "
                    f"expected 0 to {space.n - 1}"
                )


def where(step: int, starts: npt.NDArray[np.int64]) -> str:
    """Say in words which episode and which of its steps a flat index is, both counted from 0."""
    episode = int(np.searchsorted(starts, step, side="right")) - 1
    return f"in episode {episode}, step {step - int(starts[episode])}"


def _check_dimensions(name: str, fields: Fields) -> None:
    if fields.observations.ndim < 2:
        raise DatasetError(
            f"{name}: observations must be [steps, size] or have more axes, found shape {fields.observations.shape}"
        )
    if fields.actions.ndim != 2 and not (fields.actions.ndim == 1 and fields.actions.dtype == np.int64):
        raise DatasetError(
            f"{name}: actions must be [steps, size] floats or [steps] integers, "
            f"found {fields.actions.dtype} of shape {fields.actions.shape}"
        )
    for field in ("rewards", "starts", "terminated"):
        if getattr(fields, field).ndim != 1:
            raise DatasetError(f"{name}: {field} must have 1 axis, found shape {getattr(fields, field).shape}")
    for field in ("observations", "actions"):
        if 0 in getattr(fields, field).shape[1:]:
            raise DatasetError(f"{name}: {field} has no coordinates, found shape {getattr(fields, field).shape}")


def _check_starts(name: str, starts: npt.NDArray[np.int64], steps: int) -> None:
    if len(starts) < 2 or steps == 0:
        raise DatasetError(f"{name}: there are no episodes (rewards has {steps} steps, starts {len(starts)} entries)")
    if starts[0] != 0 or starts[-1] != steps:
        raise DatasetError(f"{name}: starts must run from 0 to the {steps} steps, found {starts[0]} to {starts[-1]}")
    lengths = np.diff(starts)
    if (lengths <= 0).any():
        episode = int(np.argmax(lengths <= 0))
        what = "is empty" if lengths[episode] == 0 else f"starts at {starts[episode]} and ends at {starts[episode + 1]}"
        raise DatasetError(f"{name}: starts must increase, but episode {episode} {what}")


def _numbers(name: str, field: str, values: ArrayInput) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # NumPy's answer to ragged nesting
        raise DatasetError(f"{name}: {field} cannot be an array ({error})") from error
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{name}: {field} must hold numbers, found {array.dtype}")
    return array


def as_flags(name: str, field: str, values: ArrayInput) -> npt.NDArray[np.bool_]:
    """Bring true and false, in whatever type they were logged, to bool.

    Raises:
        DatasetError: there is something else in it.
    """
    array = _numbers(name, field, values)
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise DatasetError(f"{name}: {field} must hold only true and false (or 1 and 0)")
    return array.astype(np.bool_, copy=False)


def _as_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which `check_finite` reports with its place
        return values.astype(np.float32, copy=False)
