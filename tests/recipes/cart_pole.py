"""Logs of CartPole for tests: a controller that balances the pole, with slips, and the return of chance beside it."""

from pathlib import Path

import gymnasium
import numpy as np
import numpy.typing as npt

# Enough of a linear controller to hold the pole for 500 steps: push to where it falls and back to the middle.
GAINS = np.array([0.1, 0.5, 3.0, 1.0])
SLIPS = (0.0, 0.3, 0.6, 1.0)  # shares of moves made at random; episode i has the share i mod 4


def write_cart_pole(path: Path, num_episodes: int = 40) -> Path:
    """An `.npz` of episodes of mixed quality."""
    environment = gymnasium.make("CartPole-v1")
    generator = np.random.default_rng(0)
    observations: list[npt.NDArray[np.float32]] = []
    actions: list[int] = []
    ends: list[int] = []
    terminated: list[bool] = []
    for episode in range(num_episodes):
        observation, _ = environment.reset(seed=episode)
        fell = cut = False
        while not (fell or cut):
            slips = generator.random() < SLIPS[episode % len(SLIPS)]
            action = int(generator.integers(2)) if slips else int(observation @ GAINS > 0)
            observations.append(observation)
            actions.append(action)
            observation, _, fell, cut, _ = environment.step(action)
        ends.append(len(actions))
        terminated.append(fell)
    environment.close()
    np.savez(
        path, observations=observations, actions=actions, rewards=np.ones(len(actions)), episode_ends=ends,
        terminated=terminated,
    )  # fmt: skip
    return path
