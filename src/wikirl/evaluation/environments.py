"""Making and describing Gymnasium environments, and naming which simulator a number came from.

This file knows Gymnasium's ids, versions and errors. It deliberately knows no policy, no reference score and
no dataset format: a dataset's environment arrives here as a plain id.
"""

import difflib
import importlib
import re
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium
import numpy as np
from gymnasium import error as gymnasium_errors

from wikirl.errors import EnvironmentNotFoundError, MissingExtraError
from wikirl.evaluation import point_maze, reacher2d
from wikirl.types import Space

Environment = gymnasium.Env[Any, Any]

_VERSIONED = re.compile(r"(?P<name>.+)-v(?P<version>\d+)")
_ATARI = re.compile(r"ALE/.+|.+NoFrameskip-v\d+")

# Elsewhere than in wikirl: gymnasium.make("wikirl.evaluation.environments:wikirl/Reacher2d-v0").
for _id, _entry_point, _horizon in (
    ("wikirl/Reacher2d-v0", "wikirl.evaluation.reacher2d:Reacher2d", reacher2d.HORIZON),
    ("wikirl/PointMaze-v0", "wikirl.evaluation.point_maze:PointMaze", point_maze.HORIZON),
):
    gymnasium.register(_id, entry_point=_entry_point, max_episode_steps=_horizon)


@dataclass(frozen=True)
class EnvironmentSpec:
    """What a policy must fit to act in an environment.

    Attributes:
        id: Gymnasium id with its version, as in `Hopper-v5`.
        observation_space: Shape and bounds of one raw observation.
        action_space: Shape and bounds of one action, or the number of choices.
        max_episode_steps: Steps after which an episode is cut off; None when the environment has no such
            limit.
    """

    id: str
    observation_space: Space
    action_space: Space
    max_episode_steps: int | None


def make_environment(environment_id: str) -> Environment:
    """Make one environment, with Gymnasium's time limit and without its passive checker.

    An id of the form `module:Name-v0` imports that module first, as Gymnasium does: take such ids from the
    user, never from a downloaded file.

    Args:
        environment_id: Gymnasium id with its version.

    Raises:
        EnvironmentNotFoundError: no such id, an id without a version, or a version Gymnasium has dropped.
        MissingExtraError: the environment exists but a package that it needs is not installed.
    """
    _check_id(environment_id)
    with warnings.catch_warnings():
        # An old version is asked for on purpose: a policy is scored in the version its data were made with.
        message = rf".*The environment {re.escape(environment_id.split(':')[-1])} is out of date\."
        warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        try:
            return gymnasium.make(environment_id, disable_env_checker=True)
        except gymnasium_errors.DependencyNotInstalled as error:
            raise MissingExtraError(f"{environment_id} needs a package: {_one_line(error)}") from error
        except gymnasium_errors.Error as error:
            raise EnvironmentNotFoundError(f"{_one_line(error)}{_close_matches(environment_id)}") from error
        except ModuleNotFoundError as error:
            missing = error.name or environment_id.split(":")[0]
            raise MissingExtraError(
                f"{environment_id} needs the package {missing}, which is not installed; "
                f"pip install {_package_hint(environment_id, missing)}"
            ) from error
        except ImportError as error:
            raise MissingExtraError(f"{environment_id} needs a package: {_one_line(error)}") from error


def describe_environment(environment_id: str) -> EnvironmentSpec:
    """The spaces and the time limit of an environment.

    Raises:
        EnvironmentNotFoundError: as `make_environment`; or observations are not a Box, or actions are neither
            a Box nor a Discrete space that starts at 0.
        MissingExtraError: as `make_environment`.
    """
    environment = make_environment(environment_id)
    try:
        return spec_of(environment, environment_id)
    finally:
        environment.close()


def spec_of(environment: Environment, environment_id: str) -> EnvironmentSpec:
    """The same for an environment already made.

    Raises:
        EnvironmentNotFoundError: the spaces do not fit, as `describe_environment`.
    """
    limit = environment.spec.max_episode_steps if environment.spec is not None else None
    observations = _to_space(environment.observation_space)
    actions = _to_space(environment.action_space)
    if observations is None or observations.is_discrete or actions is None:
        raise EnvironmentNotFoundError(
            f"{environment_id} does not fit: expected Box observations and Box actions, or Discrete actions "
            f"from 0; found {environment.observation_space} and {environment.action_space}; "
            "register it with wrappers that make them so"
        )
    return EnvironmentSpec(environment_id, observations, actions, limit)


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide the physics; `absent` for one that is not installed."""
    return {package: _version_of(package) for package in ("gymnasium", "mujoco")}


def split_id(environment_id: str) -> tuple[str, int | None]:
    """Task name and version: `Hopper-v5` becomes `("Hopper", 5)`, an id without a version `(id, None)`."""
    match = _VERSIONED.fullmatch(environment_id)
    return (match["name"], int(match["version"])) if match else (environment_id, None)


def crosses_versions(dataset_environment: str, evaluation_environment: str) -> str | None:
    """One line of warning if a policy is scored elsewhere than where its data were made, else None.

    Source: Gymnasium's v5 tasks differ in friction and healthy reward from v2 to v4, and v2 and v3 ran on
        another MuJoCo than v4 (Gymnasium pull request 572).
    """
    data_name, data_version = split_id(dataset_environment)
    name, number = split_id(evaluation_environment)
    place = f"the data are from {dataset_environment}, the score is from {evaluation_environment}"
    if data_name != name:
        return f"other task: the data are from {dataset_environment}, the score is from {evaluation_environment}"
    if data_version == number:
        return None
    if None not in (data_version, number) and {data_version, number} <= {2, 3, 4}:
        why = "the same task on another MuJoCo"
    else:
        why = "physics or rewards may differ, so the scores are not comparable with others of that dataset"
    return f"other version: {place} ({why})"


def _check_id(environment_id: str) -> None:
    """Refuse ids that Gymnasium would guess at, and say what to do about those it has dropped."""
    if environment_id.count(":") > 1 or split_id(environment_id)[1] is None:
        raise EnvironmentNotFoundError(
            f"expected an environment id with a version, like Hopper-v5, found {environment_id!r}"
            f"{_close_matches(environment_id)}"
        )
    if _is_dropped(environment_id):
        name = split_id(environment_id)[0]
        raise EnvironmentNotFoundError(
            f"Gymnasium no longer has {environment_id} (it needed mujoco-py); use {name}-v4, the same task"
        )
    if _ATARI.fullmatch(environment_id):
        try:
            importlib.import_module("ale_py")  # registers the Atari environments on import
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"{environment_id} needs the Atari emulator; pip install ale-py") from error


def _is_dropped(environment_id: str) -> bool:
    """Whether Gymnasium still lists the id but refuses to make it: MuJoCo tasks that ran on mujoco-py."""
    name, number = split_id(environment_id)
    successor = gymnasium.registry.get(f"{name}-v4")
    return number in (2, 3) and successor is not None and "gymnasium.envs.mujoco" in str(successor.entry_point)


def _close_matches(environment_id: str) -> str:
    wanted = environment_id.split(":")[-1]
    known = [key for key in gymnasium.registry if not _is_dropped(key)]
    close = [key for key in known if split_id(key)[0] == split_id(wanted)[0]]
    close = close or difflib.get_close_matches(wanted, known, n=4, cutoff=0.6)
    return f"; close matches: {', '.join(close)}" if close else "; `gymnasium.pprint_registry()` lists all"


def _package_hint(environment_id: str, missing: str) -> str:
    spec = gymnasium.registry.get(environment_id)
    is_mujoco = spec is not None and "gymnasium.envs.mujoco" in str(spec.entry_point)
    return '"gymnasium[mujoco]"' if is_mujoco else missing


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _to_space(space: gymnasium.Space[Any]) -> Space | None:
    match space:
        case gymnasium.spaces.Box():
            return Space.box(space.low, space.high, space.shape, str(space.dtype))
        case gymnasium.spaces.Discrete() if int(space.start) == 0:
            return Space.discrete(int(np.int64(space.n)))
        case _:
            return None
