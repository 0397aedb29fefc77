"""Recorded episodes as a Minari dataset, written by minari itself, images without loss.

This file knows minari's storage and how our spaces become Gymnasium's. It deliberately does not know how to read
(`minari`, which needs neither package) nor who recorded the episodes.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import minari as minari_package
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from wikirl.errors import DatasetError
from wikirl.trajectories.minari import check_id, minari_root
from wikirl.trajectories.minari_hub import name_namespaces
from wikirl.trajectories.writing import checked, require_room, writing_hdf5
from wikirl.types import Bounds, RecordedEpisode, Space


@dataclass(frozen=True)
class Attribution:
    """What a Minari dataset says about itself; what is None is left out.

    Attributes:
        author: Who made it.
        author_email: How to reach them.
        algorithm_name: What chose the actions.
        code_permalink: The code that made it.
        description: What it is.
        requirements: Packages the environment needs, in pip's notation.
        reference: The family's own reference scores: `name`, `minimum`, `maximum`, `source`; minari's own
            `get_normalized_score` takes the two numbers.
        extra: More JSON values, such as seeds or a command, kept under `wikirl`.
    """

    author: str | None = None
    author_email: str | None = None
    algorithm_name: str | None = None
    code_permalink: str | None = None
    description: str | None = None
    requirements: tuple[str, ...] = ()
    reference: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def write_minari(
    episodes: Iterable[RecordedEpisode],
    dataset_id: str,
    *,
    observation_space: Space,
    action_space: Space,
    environment: str | None = None,
    attribution: Attribution | None = None,
    root: Path | None = None,
) -> Path:
    """Write episodes as a Minari dataset that minari and `minari:ID` read; it appears complete or not at all.

    Args:
        episodes: At least one; read once, one in memory at a time.
        dataset_id: NAME-vN or NAMESPACE/NAME-vN.
        observation_space: Shape, type and bounds of one observation.
        action_space: Shape, type and bounds of one action.
        environment: Gymnasium id the data was made with. If Gymnasium knows it, minari can make it again
            (`recover_environment`); if not, only the id is kept.
        attribution: Who, how and how good.
        root: Where Minari's datasets are; default `$MINARI_DATASETS_PATH`, else `~/.minari/datasets`.

    Returns:
        The folder of the dataset.

    Raises:
        DatasetError: the id is malformed, the dataset exists, there is no episode, one does not fit the spaces, or the
            environment's id is malformed.
    """
    check_id(dataset_id)
    name = f"minari:{dataset_id}"
    root = minari_root() if root is None else root
    folder = root / dataset_id
    spec = None if environment is None else _spec(name, environment)
    if folder.exists():
        raise DatasetError(f"{name}: {folder} exists already: choose another id or delete it first")
    with writing_hdf5(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)  # mkdtemp's 0700 would lock out others who share the folder
            storage = MinariStorage.new(
                temporary / "data",
                observation_space=_to_gymnasium(observation_space),
                action_space=_to_gymnasium(action_space),
                env_spec=spec,
                jpeg_encoding=False,
            )
            storage.update_metadata(_metadata(dataset_id, attribution or Attribution()))
            found = checked(episodes, name, observation_space, action_space)
            storage.update_episodes(_buffers(found, observation_space.dtype, action_space.dtype, temporary))
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        name_namespaces(folder.parent, root)
    return folder


def _spec(name: str, environment: str) -> EnvSpec:
    bare = environment.rpartition(":")[2]
    known = gymnasium.registry.get(bare)
    if known is not None and _can_be_stored(known):
        return known
    try:
        return EnvSpec(bare)
    except gymnasium.error.Error as error:
        line = " ".join(str(error).split())
        raise DatasetError(
            f"{name}: expected an environment id like Hopper-v5, found {environment!r} ({line})"
        ) from error


def _can_be_stored(spec: EnvSpec) -> bool:
    try:
        spec.to_json()
    except (TypeError, ValueError):  # made by a function, or with arguments that are no JSON
        return False
    return True


def _to_gymnasium(space: Space) -> gymnasium.Space[Any]:
    if space.n is not None:
        return gymnasium.spaces.Discrete(space.n)
    dtype = np.dtype(space.dtype)

    def bound(value: Bounds | None, otherwise: float) -> npt.NDArray[Any]:
        flat = np.asarray(otherwise if value is None else value, dtype=np.float64)
        return np.broadcast_to(flat.reshape(space.shape if flat.ndim else ()), space.shape).astype(dtype)

    low, high = bound(space.low, -np.inf), bound(space.high, np.inf)
    return gymnasium.spaces.Box(low, high, space.shape, dtype.type)


def _metadata(dataset_id: str, attribution: Attribution) -> dict[str, Any]:
    reference = attribution.reference
    values = {
        "author": {attribution.author} if attribution.author else None,
        "author_email": {attribution.author_email} if attribution.author_email else None,
        "algorithm_name": attribution.algorithm_name,
        "code_permalink": attribution.code_permalink,
        "description": attribution.description,
        "requirements": list(attribution.requirements) or None,
        "wikirl": {**attribution.extra, **({"reference": dict(reference)} if reference else {})} or None,
        "ref_min_score": None if reference is None else float(reference["minimum"]),
        "ref_max_score": None if reference is None else float(reference["maximum"]),
    }
    given = {key: value for key, value in values.items() if value is not None}
    return {**given, "dataset_id": dataset_id, "minari_version": minari_package.__version__}


def _buffers(
    episodes: Iterable[RecordedEpisode], observation_dtype: str, action_dtype: str, folder: Path
) -> Iterator[EpisodeBuffer]:
    for number, episode in enumerate(episodes):
        last = np.zeros(len(episode.rewards), dtype=np.bool_)
        ends = last.copy()
        ends[-1] = True
        observations = episode.observations.astype(observation_dtype, copy=False)
        require_room(folder, observations.nbytes + episode.actions.nbytes + episode.rewards.nbytes)
        yield EpisodeBuffer(
            id=number,
            observations=observations,
            actions=episode.actions.astype(action_dtype, copy=False),
            rewards=episode.rewards,
            terminations=ends if episode.terminated else last,
            truncations=last if episode.terminated else ends,
        )
