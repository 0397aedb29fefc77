"""Small environments and policies whose right answers can be worked out by hand."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt


class Countdown(gymnasium.Env[npt.NDArray[np.float32], Any]):
    """Ends after a number of steps drawn at reset; step t earns t. Raises if stepped after that."""

    open_instances = 0

    def __init__(self, discrete: bool = False, endless: bool = False) -> None:
        Countdown.open_instances += 1
        self.endless = endless
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3) if discrete else gymnasium.spaces.Box(-1.0, 1.0, (2,))
        self.left = 0
        self.time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.left, self.time = int(self.np_random.integers(1, 12)), 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.left <= 0:
            raise RuntimeError("stepped after the end")
        if not self.action_space.contains(action):
            raise RuntimeError(f"{action} is out of bounds")
        self.time += 1
        self.left -= not self.endless
        return self._observation(), float(self.time), self.left == 0, False, {}

    def close(self) -> None:
        Countdown.open_instances -= 1

    def _observation(self) -> npt.NDArray[np.float32]:
        return np.array([self.left, self.time], dtype=np.float32)


def make_countdown(**settings: Any) -> Countdown:
    """What Gymnasium calls."""
    return Countdown(**settings)


def register_toys() -> None:
    """Make the toys known to Gymnasium, once."""
    settings: dict[str, dict[str, Any]] = {
        "WikirlCountdown-v0": {"max_episode_steps": 100},
        "WikirlShortCountdown-v0": {"max_episode_steps": 4},
        "WikirlDiscreteCountdown-v0": {"max_episode_steps": 100, "kwargs": {"discrete": True}},
        "WikirlUnlimited-v0": {"kwargs": {"endless": True}},
    }
    for environment_id, given in settings.items():
        if environment_id not in gymnasium.registry:
            gymnasium.register(environment_id, entry_point=make_countdown, disable_env_checker=True, **given)


class Remembering:
    """Deterministic; the action depends on the whole history of its own row, and every call is noted."""

    def __init__(self, num_actions: int, observation_size: int) -> None:
        self.weights = np.random.default_rng(7).normal(size=(num_actions, observation_size))
        self.calls: list[dict[str, npt.NDArray[Any]]] = []
        self.seeds: list[int] = []

    def reset(self, num_envs: int, seed: int) -> None:
        self.memory = np.zeros((num_envs, len(self.weights)))
        self.seeds.append(seed)

    def act(
        self,
        observations: npt.NDArray[Any],
        rewards: npt.NDArray[np.float64],
        active: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[Any]:
        # Not a matrix product: BLAS may round differently for another number of rows.
        drive = (observations[:, None, :] * self.weights).sum(axis=-1)
        self.memory = 0.8 * self.memory + drive + 0.3 * rewards[:, None]
        actions = np.sin(self.memory).astype(np.float32)
        live = np.ones(len(actions), dtype=bool) if active is None else active
        self.calls.append({"observations": observations, "rewards": rewards, "active": live.copy(), "actions": actions})
        return np.where(live[:, None], actions, 0.0).astype(np.float32)


class Constant:
    """Always the same action, whatever it sees."""

    def __init__(self, action: Any) -> None:
        self.action = np.asarray(action)
        self.told: list[npt.NDArray[np.float64]] = []

    def reset(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs

    def act(
        self,
        observations: npt.NDArray[Any],
        rewards: npt.NDArray[np.float64],
        active: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[Any]:
        self.told.append(rewards)
        return np.stack([self.action] * self.num_envs)


register_toys()
