"""The values that cross between folders: spaces, batches of windows, the policy protocol.

Axis letters, here and everywhere: B batch · K context length in timesteps · L = 3K tokens (or text length) · D hidden
size · O observation · A action · V vocabulary · C clusters · E parallel environments · N episodes · S all steps.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from wikirl.errors import ConfigError

Bounds = float | tuple[float, ...]
# How a policy of discrete actions chooses: the likeliest, or one drawn with the model's probabilities.
ActionSelection = Literal["greedy", "sampled"]


@dataclass(frozen=True)
class Space:
    """What an observation or an action looks like, independent of any simulator.

    Attributes:
        shape: Shape of one element; `()` for a discrete choice.
        dtype: NumPy name of the element type.
        low: Lower bound, one number for all coordinates or one each (flattened); None for a discrete space.
        high: Upper bound, likewise.
        n: Number of choices of a discrete space, else None.
    """

    shape: tuple[int, ...]
    dtype: str
    low: Bounds | None = None
    high: Bounds | None = None
    n: int | None = None

    @classmethod
    def box(
        cls,
        low: float | npt.NDArray[Any],
        high: float | npt.NDArray[Any],
        shape: tuple[int, ...],
        dtype: str = "float32",
    ) -> "Space":
        """A continuous space; bounds that are the same everywhere are kept as one number."""
        return cls(shape, dtype, _collapse(low), _collapse(high))

    @classmethod
    def discrete(cls, n: int) -> "Space":
        """A choice among `n` actions, numbered from 0."""
        return cls((), "int64", n=n)

    @property
    def is_discrete(self) -> bool:
        """Whether elements are choices rather than vectors."""
        return self.n is not None

    @property
    def size(self) -> int:
        """Number of coordinates of one element."""
        return math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes; infinities become the strings "inf" and "-inf"."""
        return {key: _bounds_to_json(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Space":
        """The inverse of `to_json`.

        Raises:
            ConfigError: a field is missing or of the wrong kind.
        """
        try:
            low, high = (_bounds_from_json(value[key]) for key in ("low", "high"))
            n = None if value["n"] is None else int(value["n"])
            return cls(tuple(int(k) for k in value["shape"]), str(value["dtype"]), low, high, n)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"a space needs shape, dtype, low, high and n; found {value!r} ({error})") from error


def _collapse(bound: float | npt.NDArray[Any]) -> Bounds:
    flat = np.asarray(bound, dtype=np.float64).ravel()
    return float(flat[0]) if (flat == flat[0]).all() else tuple(flat.tolist())


def _bounds_to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_bounds_to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _bounds_from_json(value: Any) -> Bounds | None:
    if value is None:
        return None
    return tuple(float(item) for item in value) if isinstance(value, list) else float(value)


@dataclass(frozen=True)
class TrajectoryBatch:
    """Windows of K consecutive steps from B episodes, left-padded with zeros.

    Everything is in the environment's own units: observations are not normalised and returns are not scaled, because
    the model owns its normaliser and its return scale.

    Attributes:
        observations: Raw observations.
        actions: Actions taken; vectors, or choices for a discrete space.
        returns_to_go: Sum of rewards from this step to the end of the episode, undiscounted.
        timesteps: Steps since the start of the episode; 0 where padded.
        mask: True where the step is real, False where it is padding.
    """

    observations: Shaped[Tensor, "B K *O"]
    actions: Float[Tensor, "B K A"] | Int[Tensor, "B K"]
    returns_to_go: Float[Tensor, "B K 1"]
    timesteps: Int[Tensor, "B K"]
    mask: Bool[Tensor, "B K"]

    def tensors(self) -> list[Tensor]:
        """All fields, in the order of the constructor."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def to(self, device: str) -> "TrajectoryBatch":
        """The same batch on another device."""
        return TrajectoryBatch(*(value.to(device) for value in self.tensors()))


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """One episode as it was played, with the observation after its last step.

    Attributes:
        observations: Raw observations, one more than actions.
        actions: Actions as the environment was given them; vectors, or choices for a discrete space.
        rewards: Reward of each action, environment units.
        terminated: Whether the environment ended it; else it was cut, by a time limit or by the recording.
    """

    observations: Shaped[np.ndarray, "T1 *O"]
    actions: Shaped[np.ndarray, "T *A"]
    rewards: Float[np.ndarray, "T"]
    terminated: bool


@runtime_checkable
class Policy(Protocol):
    """Anything that can act in E environments at once; rows never influence each other."""

    def reset(self, num_envs: int, seed: int) -> None:
        """Forget everything and begin `num_envs` new episodes."""

    def act(
        self,
        observations: Shaped[np.ndarray, "E *O"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Shaped[np.ndarray, "E *A"]:
        """Choose the next actions.

        Args:
            observations: Raw observations, one row per environment.
            rewards: What the previous actions earned; zeros on the first call after `reset`.
            active: True for rows whose episode still runs (default: all). A row that has been False once stays
                False; its action is zero and its observation is not looked at.
        """
        ...


@runtime_checkable
class RowSeededPolicy(Policy, Protocol):
    """A policy that may draw random numbers, in every row from a seed of the row's own.

    So an episode goes the same way in whatever row, wave or process it is played; with one seed for all rows it could
    not.
    """

    def reset_rows(self, seeds: Sequence[int]) -> None:
        """Forget everything and begin as many new episodes as there are seeds, each with its own."""
