"""Minari's folders: one HDF5 group per episode, read with bare h5py.

This file knows Minari's layout (written and read back with minari 0.5.4) and how it writes spaces. It
deliberately does not know combined datasets, Arrow files or dict observations: they are refused with a reason.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.arrays import STEP_FIELDS
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.growing import GrowingArrays
from wikirl.trajectories.hdf5 import dataset_at, open_hdf5, readable
from wikirl.trajectories.minari_hub import download
from wikirl.trajectories.minari_images import ADVICE, is_image_space, stored_images
from wikirl.trajectories.stored import StoredArray, shown, whole
from wikirl.trajectories.validation import typed
from wikirl.types import Space

_ID = re.compile(r"(?:[-\w]+/)*[-\w]+-v\d+")  # so that an id never leaves Minari's folder
_STEP_FIELDS = ("actions", "rewards", "terminations", "truncations")
LOSSY = {"lossy_images": True, "warnings": [f"images were stored as JPEG, not as they were seen; {ADVICE}"]}
_MAX_METADATA_BYTES = 64 << 20
_ATTRIBUTION = ("dataset_id", "author", "algorithm_name", "code_permalink", "minari_version", "description")


def minari_root() -> Path:
    """`$MINARI_DATASETS_PATH`, else `~/.minari/datasets`."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def local_ids() -> list[str]:
    """Ids of the datasets in Minari's folder."""
    root = minari_root()
    names = [path.parents[1].relative_to(root) for path in root.glob("**/data/metadata.json")]
    return sorted(str(name) for name in names if not any(part.startswith(".") for part in name.parts))


def split_remote(dataset_id: str) -> tuple[str | None, str]:
    """`hf://ORG/NAME-v0` in its two parts; (None, the id) without the first."""
    match = re.fullmatch(r"(hf://[-.\w]+)/(.*)", dataset_id)
    return (match[1], match[2]) if match else (None, dataset_id)


def check_id(dataset_id: str) -> None:
    """Refuse what is no Minari id, such as a path that leaves Minari's folder.

    Raises:
        DatasetError: it is none.
    """
    if not _ID.fullmatch(dataset_id):
        raise DatasetError(f"minari:{dataset_id} is no Minari id; expected NAME-vN or NAMESPACE/NAME-vN")


def source_files(dataset_id: str, mirror: str | None = None) -> tuple[Path, Path]:
    """The two files of a dataset: metadata and episodes; downloads them if they are not there.

    Args:
        dataset_id: Such as "mujoco/hopper/medium-v0"; `hf://ORG/…` before it names the hub's organisation that has it.
        mirror: See `minari_hub.download`.

    Raises:
        DatasetError: the id is malformed, or the dataset is nowhere and cannot be downloaded.
        MissingExtraError: a download needs a package that is not installed.
    """
    remote, dataset_id = split_remote(dataset_id)
    check_id(dataset_id)
    data = minari_root() / dataset_id / "data"
    if not (data / "metadata.json").is_file() or not any(data.glob("main_data*")):
        download(dataset_id, minari_root(), mirror=mirror or remote, local_ids=local_ids())
    metadata = _read_metadata(data / "metadata.json")
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise DatasetError(
            f"minari:{dataset_id} is stored as {metadata['data_format']}, only hdf5 is read; "
            'write it again with data_format="hdf5"'
        )
    return data / "metadata.json", data / "main_data.hdf5"


def read_minari(
    metadata_path: Path, episodes_path: Path, *, name: str, scratch: Path | None = None
) -> TrajectoryDataset:
    """Read one dataset from its two files.

    An episode has one observation more than actions; that last one is dropped, since no action was taken
    there. An episode that ends neither terminated nor truncated counts as cut.

    Args:
        metadata_path: `metadata.json`: spaces, environment, attribution.
        episodes_path: `main_data.hdf5`: groups `episode_0` to `episode_{N-1}`.
        name: Begins every error message.
        scratch: A folder to grow large arrays in; None: in memory.

    Raises:
        DatasetError: a file is missing or damaged, observations or actions are not flat boxes (or discrete
            actions), an image is damaged, or see `build_dataset`.
    """
    metadata = _read_metadata(metadata_path)
    observation_space = _space(name, "observation", metadata)
    action_space = _space(name, "action", metadata)
    if observation_space.is_discrete:
        raise DatasetError(f"{name}: observations are discrete; only boxes are read")
    grown, lengths, ended = GrowingArrays(scratch), [], []
    types: dict[str, np.dtype[Any]] = {}
    first_choice = _first_choice(name, metadata)
    lossy = False
    with open_hdf5(episodes_path, "Minari file") as file:
        for key in _episode_keys(name, episodes_path, file):
            where = f"{name}, {key}"
            with readable(episodes_path, "Minari file"):
                episode = _episode(where, episodes_path, file[key], observation_space)
                lossy = lossy or not _is_plain(file[key], observation_space)
            steps = episode["rewards"].shape[0]
            for field in STEP_FIELDS:
                for values in _first_steps(episode[field], steps):
                    shifted = values - first_choice if field == "actions" and first_choice else values
                    final = typed(where, field, shifted)
                    if types.setdefault(field, final.dtype) != final.dtype:
                        raise DatasetError(f"{where}: {field} are {final.dtype}, in the first episode {types[field]}")
                    grown.append(field, final)
            lengths.append(steps)
            ended.append(bool(whole(episode["terminations"]).ravel()[-1]))
    if not lengths:
        raise DatasetError(f"{episodes_path}: there are no episodes")
    return build_dataset(
        name,
        grown.array("observations"),
        grown.array("actions"),
        grown.array("rewards"),
        np.concatenate([[0], np.cumsum(lengths)]),
        ended,
        observation_space=observation_space,
        action_space=action_space,
        environment=_environment(metadata),
        details=_details(name, metadata, episodes_path) | (LOSSY if lossy else {}),
    )


def _episode_keys(name: str, path: Path, file: h5py.File) -> list[str]:
    """The groups of episodes, in order."""
    with readable(path, "Minari file"):
        keys = sorted((key for key in file if re.fullmatch(r"episode_\d{1,18}", key)), key=_number)
        for key in keys:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink) or not isinstance(file[key], h5py.Group):
                raise DatasetError(f"{name}, {key}: expected a group in this file; links and datasets are not read")
    return keys


def _episode(where: str, path: Path, group: h5py.Group, space: Space) -> dict[str, StoredArray]:
    arrays: dict[str, StoredArray] = {}
    for field in ("observations", *_STEP_FIELDS):
        array = _observations(where, path, group, space) if field == "observations" else dataset_at(path, group, field)
        if array is None:
            kind = "is nested" if isinstance(group.get(field), h5py.Group) else "is missing"
            raise DatasetError(f"{where}: {field} {kind}; only flat boxes (and discrete actions) are read")
        arrays[field] = array
    steps = max(arrays["rewards"].shape[:1], default=0)
    if steps == 0:
        raise DatasetError(f"{where}: the episode is empty")
    for field in ("observations", *_STEP_FIELDS):
        found = max(arrays[field].shape[:1], default=0)
        if field == "observations" and found != steps + 1:
            raise DatasetError(f"{where}: observations has {found} rows, expected {steps + 1} for {steps} steps")
        if field != "observations" and found != steps:
            raise DatasetError(f"{where}: {field} has {found} steps but rewards has {steps}")
    return arrays


def _first_steps(array: StoredArray, steps: int) -> Iterator[npt.NDArray[Any]]:
    for piece in array.pieces(array.rows_per_piece()):
        yield piece[:steps]
        steps -= len(piece)


def _observations(where: str, path: Path, group: h5py.Group, space: Space) -> StoredArray | None:
    """Observations as they are, or decoded where they are images stored as JPEG."""
    if not isinstance(group.get("observations"), h5py.Dataset) or _is_plain(group, space):
        return dataset_at(path, group, "observations")
    frames = dataset_at(path, group, "observations", byte_lists=is_image_space(space))
    if frames is None or (is_image_space(space) and frames.shape and frames.dtype in (np.uint8, np.object_)):
        return frames and stored_images(where, frames, space)
    raise DatasetError(
        f"{where}: expected observations of shape {space.shape}, found {frames.dtype} of shape {frames.shape[1:]}"
    )


def _is_plain(group: Any, space: Space) -> bool:
    observations = group["observations"]
    return bool(observations.dtype.kind != "O" and (observations.shape or ())[1:] == space.shape)


def _number(key: str) -> int:
    return int(key.rpartition("_")[2])


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_METADATA_BYTES:
            raise DatasetError(f"{path} is damaged: it has {path.stat().st_size} bytes")
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is missing or damaged ({shown(error)})") from error
    if not isinstance(metadata, dict):
        raise DatasetError(f"{path} is damaged: expected an object")
    return metadata


def _space(name: str, which: str, metadata: dict[str, Any]) -> Space:
    value = _parsed(metadata.get(f"{which}_space"))
    kind = value.get("type")
    try:
        if kind == "Box":
            # float64 is read as float32, like every observation that is not a pixel
            dtype = "uint8" if value["dtype"] == "uint8" and which == "observation" else "float32"
            return Space.box(np.asarray(value["low"]), np.asarray(value["high"]), tuple(value["shape"]), dtype)
        if kind == "Discrete":
            return Space.discrete(int(value["n"]))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DatasetError(f"{name}: the {which} space is damaged ({error!r})") from error
    raise DatasetError(f"{name}: the {which} space is {kind}; only flat Box (and Discrete for actions) is read")


def _first_choice(name: str, metadata: dict[str, Any]) -> int:
    """Gymnasium's discrete spaces may start elsewhere than at 0; ours start there."""
    start = _parsed(metadata.get("action_space")).get("start", 0)
    if not isinstance(start, int) or abs(start) >= 1 << 31:
        raise DatasetError(f"{name}: the action space is damaged: it starts at {shown(start)}")
    return start


def _environment(metadata: dict[str, Any]) -> str | None:
    environment = _parsed(metadata.get("env_spec")).get("id")
    return environment if isinstance(environment, str) else None


def _details(name: str, metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    first_choice = _first_choice(name, metadata)
    shifted = {"first_choice": first_choice} if first_choice else {}
    attribution = {key: metadata[key] for key in _ATTRIBUTION if key in metadata}
    return {"source": str(path), "attribution": attribution, **shifted, **_reference(metadata)}


def _reference(metadata: dict[str, Any]) -> dict[str, Any]:
    """The dataset's own reference scores: those wikirl wrote, else the two numbers minari keeps."""
    own = _parsed(metadata.get("wikirl")).get("reference")
    if isinstance(own, dict):
        return {"reference": own}
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return {}
    name = f"Minari {metadata.get('dataset_id', 'dataset')}"
    return {"reference": {"name": name, "minimum": low, "maximum": high, "source": "the dataset's metadata"}}


def _parsed(value: Any) -> dict[str, Any]:
    """Minari keeps spaces and the environment's spec as JSON within JSON."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
