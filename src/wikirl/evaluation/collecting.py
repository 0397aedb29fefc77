"""Episodes kept whole: those that somebody else's training loop plays, and those of a policy of ours.

This file knows environments and policies. It deliberately knows no learning, no files and no dataset.
"""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float, Shaped

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import make_environment, spec_of
from wikirl.evaluation.rollout import episode_seed, step_limit, usable_actions
from wikirl.types import Policy, RecordedEpisode, Space

# Part of every seed drawn here: data share no random stream with training or evaluation under the same number.
_DATA_STREAM, _POLICY_STREAM = 0xDA_7A, 0xDA_7B


class EpisodeRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Passes everything through and remembers it, episode by episode."""

    def __init__(self, environment: gymnasium.Env[Any, Any], on_step: Callable[[], object] | None = None) -> None:
        """Wrap an environment.

        Args:
            environment: What is played.
            on_step: Called after every step.
        """
        super().__init__(environment)
        self._on_step = on_step
        self._finished: list[RecordedEpisode] = []
        self._current = _Growing()

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; one that was under way counts as cut."""
        self._close(terminated=False)
        observation, info = self.env.reset(**options)
        self._current.begin(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step of the environment."""
        result = observation, reward, terminated, truncated, _ = self.env.step(action)
        self._current.add(observation, action, float(reward))
        if terminated or truncated:
            self._close(terminated=bool(terminated))
        if self._on_step is not None:
            self._on_step()
        return result

    def take(self) -> list[RecordedEpisode]:
        """Everything since the last call, in order; the episode under way is cut there."""
        self._close(terminated=False)
        episodes, self._finished = self._finished, []
        return episodes

    def _close(self, *, terminated: bool) -> None:
        if len(self._current):
            self._finished.append(self._current.finish(terminated))
        self._current = _Growing()


class RandomPolicy:
    """Actions drawn uniformly, between the bounds or among the choices."""

    def __init__(self, action_space: Space) -> None:
        """Prepare to act.

        Raises:
            ConfigError: the actions have no bounds to draw between.
        """
        self._space = action_space
        self._low, self._high = (np.array(bound, dtype=np.float64) for bound in (action_space.low, action_space.high))
        if not action_space.is_discrete and not np.isfinite([self._low.sum(), self._high.sum()]).all():
            raise ConfigError(f"expected actions with bounds, to draw between them; found {action_space}")
        self.reset(0, 0)

    def reset(self, num_envs: int, seed: int) -> None:
        """Begin anew."""
        self._random = np.random.default_rng(seed)

    def act(
        self,
        observations: Shaped[np.ndarray, "E *O"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Shaped[np.ndarray, "E *A"]:
        """One draw for each row."""
        if self._space.n is not None:
            return self._random.integers(self._space.n, size=len(observations))
        shape = (len(observations), *self._space.shape)
        draws = self._random.uniform(
            self._low.reshape(-1), self._high.reshape(-1), (len(observations), self._space.size)
        )
        return draws.reshape(shape).astype(np.float32)


def play_episodes(
    policy: Policy, environment_id: str, *, num_steps: int, seed: int, num_envs: int = 10
) -> Iterator[RecordedEpisode]:
    """Play episodes until they hold `num_steps` steps together; the last one is cut to that number.

    `num_envs` episodes run side by side, for the policy's sake. Which episodes come out depends on all arguments.

    Raises:
        ConfigError: the environment has no time limit, or the policy's actions do not fit.
        EnvironmentNotFoundError: as `make_environment`.
        MissingExtraError: as `make_environment`.
    """
    environments = [make_environment(environment_id) for _ in range(num_envs)]
    try:
        limit = step_limit(spec_of(environments[0], environment_id), None)
        first, left = 0, num_steps
        while left > 0:
            for episode in _play_wave(policy, environments, first, seed, limit):
                if left > 0:
                    yield _cut(episode, left)
                left -= len(episode.rewards)
            first += num_envs
    finally:
        for environment in environments:
            environment.close()


def _play_wave(
    policy: Policy, environments: list[gymnasium.Env[Any, Any]], first: int, seed: int, limit: int
) -> list[RecordedEpisode]:
    policy.reset(len(environments), episode_seed(seed, first, _POLICY_STREAM))
    recorders = [EpisodeRecorder(environment) for environment in environments]
    observations = np.stack(
        [
            recorder.reset(seed=episode_seed(seed, first + row, _DATA_STREAM))[0]
            for row, recorder in enumerate(recorders)
        ]
    )
    rewards, active = np.zeros(len(recorders)), np.ones(len(recorders), dtype=bool)
    for step in range(1, limit + 1):
        chosen = policy.act(observations.copy(), rewards.copy(), active.copy())
        actions = usable_actions(chosen, environments[0].action_space, active, step)
        rewards[:] = 0.0
        for row in np.flatnonzero(active):
            observations[row], rewards[row], ended, cut_off, _ = recorders[row].step(actions[row])
            active[row] = not (ended or cut_off)
        if not active.any():
            break
    return [episode for recorder in recorders for episode in recorder.take()]


def _cut(episode: RecordedEpisode, num_steps: int) -> RecordedEpisode:
    if len(episode.rewards) <= num_steps:
        return episode
    return RecordedEpisode(
        episode.observations[: num_steps + 1], episode.actions[:num_steps], episode.rewards[:num_steps], False
    )


class _Growing:
    """An episode under way."""

    def __init__(self) -> None:
        self._observations: list[Any] = []
        self._actions: list[Any] = []
        self._rewards: list[float] = []

    def __len__(self) -> int:
        return len(self._rewards)

    def begin(self, observation: Any) -> None:
        self._observations = [_kept(observation)]

    def add(self, observation: Any, action: Any, reward: float) -> None:
        self._observations.append(_kept(observation))
        self._actions.append(np.array(action))
        self._rewards.append(reward)

    def finish(self, terminated: bool) -> RecordedEpisode:
        return RecordedEpisode(
            np.stack(self._observations), np.stack(self._actions), np.array(self._rewards), terminated
        )


def _kept(observation: Any) -> Any:
    """A copy; float64 becomes float32, which is what datasets hold and a Decision Transformer sees."""
    array = np.asarray(observation)
    return array.astype(np.float32) if array.dtype == np.float64 else array.copy()
