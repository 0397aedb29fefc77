"""Windows of K consecutive steps: drawn at random for training, or one after the other for held-out error.

This file knows padding and indices. It deliberately does not normalise observations or scale returns: the
model owns that, so that a policy acts on raw observations.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64

from wikirl.errors import ConfigError, RunError
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.types import TrajectoryBatch


class ContextSampler:
    """Draws an episode with probability proportional to its length and a start within it, uniformly.

    Both at once by drawing one of the S steps: a window runs from there for K steps or to the end of the
    episode.

    Source: facts.md Q18; Decision Transformer (arXiv 2106.01345), `gym/experiment.py: get_batch`.
    """

    def __init__(self, dataset: TrajectoryDataset, context_length: int, generator: np.random.Generator):
        """Prepare to draw.

        Args:
            dataset: Where to draw from.
            context_length: K, in timesteps.
            generator: The only source of chance; owned by the sampler from now on.

        Raises:
            ConfigError: `context_length` is below 1.
        """
        self._gather = _Gather(dataset, context_length)
        self._generator = generator

    def sample(self, batch_size: int) -> TrajectoryBatch:
        """Draw `batch_size` windows, independently and with replacement.

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        _check_positive("batch_size", batch_size)
        return self._gather(self._generator.integers(self._gather.num_steps, size=batch_size))

    def state(self) -> dict[str, Any]:
        """What to keep, as JSON, so that `load_state` continues with the same batches."""
        return generator_state(self._generator)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            RunError: the state is of another kind of generator or incomplete.
        """
        restore_generator(self._generator, state)


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """What to keep, as JSON, so that `restore_generator` goes on with the same draws."""
    state: dict[str, Any] = _to_json(generator.bit_generator.state)
    return state


def restore_generator(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Go on where `state` was taken.

    Raises:
        RunError: the state is of another kind of generator or incomplete.
    """
    kind = type(generator.bit_generator).__name__
    if state.get("bit_generator") != kind:
        raise RunError(f"the sampler's state is of generator {state.get('bit_generator')!r}, expected {kind}")
    try:
        generator.bit_generator.state = dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"the sampler's state is damaged ({error!r})") from error


def consecutive_windows(dataset: TrajectoryDataset, context_length: int, batch_size: int) -> Iterator[TrajectoryBatch]:
    """Go through a dataset in windows that do not overlap: every step exactly once, in order.

    The last window of an episode may be shorter than K (left-padded), the last batch smaller than
    `batch_size`.

    Raises:
        ConfigError: `context_length` or `batch_size` is below 1.
    """
    _check_positive("batch_size", batch_size)
    gather = _Gather(dataset, context_length)
    windows = -(-dataset.lengths // context_length)  # of each episode, rounded up
    first_window = np.cumsum(windows) - windows
    within = np.arange(windows.sum()) - np.repeat(first_window, windows)
    steps = np.repeat(dataset.starts[:-1], windows) + within * context_length
    return (gather(steps[first : first + batch_size]) for first in range(0, len(steps), batch_size))


class _Gather:
    """From the first steps of windows to a padded batch; one indexing operation per field."""

    def __init__(self, dataset: TrajectoryDataset, context_length: int):
        _check_positive("context_length", context_length)
        self.num_steps = dataset.num_steps
        self._starts = dataset.starts
        self._offsets = np.arange(context_length)
        # Indexing an ndarray view of a memory map skips np.memmap's slow bookkeeping and copies nothing.
        self._observations = dataset.observations.view(np.ndarray)
        self._actions = dataset.actions.view(np.ndarray)
        self._returns_to_go = dataset.returns_to_go.view(np.ndarray)

    def __call__(self, steps: Int64[np.ndarray, "B"]) -> TrajectoryBatch:
        episodes = np.searchsorted(self._starts, steps, side="right") - 1
        num_real = np.minimum(len(self._offsets), self._starts[episodes + 1] - steps)
        position = self._offsets - (len(self._offsets) - num_real)[:, None]  # within the window; negative: padding
        mask = position >= 0
        index = steps[:, None] + np.maximum(position, 0)
        timesteps = np.where(mask, index - self._starts[episodes][:, None], 0)
        return TrajectoryBatch(
            observations=_padded(self._observations, index, mask),
            actions=_padded(self._actions, index, mask),
            returns_to_go=_padded(self._returns_to_go, index, mask)[..., None],
            timesteps=torch.from_numpy(timesteps),
            mask=torch.from_numpy(mask),
        )


def _padded(values: npt.NDArray[Any], index: Int64[np.ndarray, "B K"], mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    gathered = values[index]
    gathered[~mask] = 0
    return torch.from_numpy(gathered)


def _check_positive(what: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{what} must be at least 1, found {value}")


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
