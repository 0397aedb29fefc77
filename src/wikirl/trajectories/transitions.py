"""Single steps with what came of them, (s, a, r, s′), drawn at random: what Q-learners learn from.

This file knows where episodes end, and why that matters: after a terminal state there is nothing more to earn, but an
episode that was merely cut would have gone on. It deliberately does not know normalisers, discounts or Q-functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from wikirl.errors import DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sampling import generator_state, restore_generator


@dataclass(frozen=True, eq=False)
class TransitionBatch:
    """B independent steps in the environment's own units.

    Attributes:
        observations: Raw observations.
        actions: Actions taken; vectors, or choices.
        rewards: What they earned.
        next_observations: What was seen after them; zeros where the episode terminated.
        terminated: True where nothing more could be earned afterwards. A cut is no such end.
    """

    observations: Shaped[np.ndarray, "B *O"]
    actions: Float32[np.ndarray, "B A"] | Int64[np.ndarray, "B"]
    rewards: Float32[np.ndarray, "B"]
    next_observations: Shaped[np.ndarray, "B *O"]
    terminated: Bool[np.ndarray, "B"]


class TransitionSampler:
    """Draws steps uniformly, independently and with replacement.

    The last step of an episode that was cut is left out, because nobody wrote down what followed it. If rewards are
    delayed, what the episode earned stands on the step before, or it would be lost.

    Source: `qlearning_dataset` in D4RL, which leaves the same steps out.
    """

    def __init__(
        self, dataset: TrajectoryDataset, generator: np.random.Generator, *, delayed_reward: bool = False
    ) -> None:
        """Prepare to draw.

        Args:
            dataset: Where to draw from; with `delayed_reward`, already passed through the transform of that name.
            generator: The only source of chance; owned by the sampler from now on.
            delayed_reward: Whether all reward stands on last steps.

        Raises:
            DatasetError: no step has a known successor.
        """
        self._generator = generator
        self._observations = dataset.observations.view(np.ndarray)
        self._actions = dataset.actions.view(np.ndarray)
        self._rewards = dataset.rewards.view(np.ndarray)
        last = dataset.starts[1:] - 1
        self._terminated = np.zeros(dataset.num_steps, dtype=bool)
        self._terminated[last[dataset.terminated]] = True
        cut = last[~dataset.terminated]
        self.steps = np.delete(np.arange(dataset.num_steps), cut)
        if not len(self.steps):
            raise DatasetError(
                f"{dataset.name}: expected steps whose next observation is known; found none, because every episode is "
                "one step long and cut"
            )
        if delayed_reward:
            longer = cut[dataset.lengths[~dataset.terminated] > 1]
            self._rewards = self._rewards.copy()
            self._rewards[longer - 1] = self._rewards[longer]

    def sample(self, batch_size: int) -> TransitionBatch:
        """Draw `batch_size` steps."""
        return self.gather(self.steps[self._generator.integers(len(self.steps), size=batch_size)])

    def gather(self, steps: Int64[np.ndarray, "B"]) -> TransitionBatch:
        """The transitions that begin at these steps, which must be among `self.steps`."""
        terminated = self._terminated[steps]
        following = self._observations[np.where(terminated, steps, steps + 1)]
        following[terminated] = 0
        return TransitionBatch(
            self._observations[steps], self._actions[steps], self._rewards[steps], following, terminated
        )

    def state(self) -> dict[str, Any]:
        """What to keep, as JSON, so that `load_state` continues with the same batches."""
        return generator_state(self._generator)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            RunError: the state is of another kind of generator or incomplete.
        """
        restore_generator(self._generator, state)
