"""Recording one episode of a MuJoCo task so that it can be drawn later, elsewhere or never.

This file knows which numbers determine a picture. It deliberately knows no drawing: see `rendering`.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco import MujocoEnv
from jaxtyping import Float

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import Environment, make_environment, spec_of
from wikirl.evaluation.rollout import play, step_limit
from wikirl.types import Policy


@dataclass(frozen=True)
class Recording:
    """One episode of T steps.

    Attributes:
        rewards: Reward of each step.
        qpos: Joint positions, the start first; row t + 1 is what the action of step t led to.
        qvel: Joint velocities, likewise.
        dt: Seconds from one row to the next.
        environment_id: Where it was played.
        total_return: Sum of the rewards.
    """

    rewards: Float[np.ndarray, "T"]
    qpos: Float[np.ndarray, "T+1 Q"]
    qvel: Float[np.ndarray, "T+1 V"]
    dt: float
    environment_id: str
    total_return: float


def record_episode(
    policy: Policy,
    environment_id: str,
    *,
    seed: int,
    episode: int = 0,
    delayed_reward: bool = False,
    max_steps: int | None = None,
) -> Recording:
    """Play and record the episode that `rollout` plays as number `episode` under the same seed.

    Raises:
        ConfigError: not a MuJoCo task, a negative seed or episode, or as `rollout`.
        EnvironmentNotFoundError: as `make_environment`.
        MissingExtraError: as `make_environment`.
    """
    if min(seed, episode) < 0:
        raise ConfigError(f"seed and episode must not be negative, found {seed} and {episode}")
    environment = make_environment(environment_id)
    try:
        limit = step_limit(spec_of(environment, environment_id), max_steps)
        recorder = _Recorder(environment, mujoco_task(environment, environment_id))
        play(policy, [recorder], [episode], seed, limit, delayed_reward=delayed_reward)
    finally:
        environment.close()
    rewards = np.array(recorder.rewards, dtype=np.float64)
    return Recording(
        rewards=rewards,
        qpos=np.stack(recorder.qpos),
        qvel=np.stack(recorder.qvel),
        dt=float(recorder.task.dt),
        environment_id=environment_id,
        total_return=float(rewards.sum()),
    )


def mujoco_task(environment: Environment, environment_id: str) -> MujocoEnv:
    """The simulator inside an environment.

    Raises:
        ConfigError: there is none.
    """
    task = environment.unwrapped
    if not isinstance(task, MujocoEnv):
        raise ConfigError(f"{environment_id} is not a MuJoCo task; only those can be recorded and drawn")
    return task


class _Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Notes joint positions, velocities and rewards of the episode that passes through."""

    def __init__(self, environment: Environment, task: MujocoEnv) -> None:
        super().__init__(environment)
        self.task = task
        self.qpos: list[npt.NDArray[np.float64]] = []
        self.qvel: list[npt.NDArray[np.float64]] = []
        self.rewards: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        result = self.env.reset(seed=seed, options=options)
        self._note()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        self._note()
        self.rewards.append(float(result[1]))
        return result

    def _note(self) -> None:
        self.qpos.append(np.array(self.task.data.qpos, dtype=np.float64))
        self.qvel.append(np.array(self.task.data.qvel, dtype=np.float64))
