"""Reacher2d, the paper's own environment: a two-link arm has to bring its tip to a target and keep it there.

This file knows the arm. It deliberately knows no policy and no data.

Source: facts.md 1.4; `gym/decision_transformer/envs/reacher_2d.py` of the Decision Transformer code, whose `-v2` under
mujoco-py was never registered anywhere. That page counts 11 observed numbers; the code's own list has 12, as here.
Under random torques the arm moves as that code's model does to 5e-11 rad over 1,500 simulator steps (docs/log.md).
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

_MODEL = Path(__file__).parents[1] / "assets" / "environments" / "reacher2d.xml"
_FRAME_SKIP = 15  # simulator steps of 0.01 s a decision
_NEAR = 0.1  # city-block distance of tip and target, in metres, that earns the reward

HORIZON = 100

Observation = npt.NDArray[np.float64]


class Reacher2d(MujocoEnv):
    """Reward 1 on every step on which the tip is within 0.1 m (city-block distance) of the target, else 0.

    Observation `[12]`: sine of both joint angles, their cosine, angular velocities times 0.15 s, tip (x, y), target
    (x, y), tip − target. Action `[2]`: torques from −1 to 1. An episode is cut after 100 steps and never terminates.
    """

    metadata = {  # noqa: RUF012 - Gymnasium's own declaration
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 7,
    }

    def __init__(self, **rendering: Any) -> None:
        """Make the arm; `rendering` is passed to Gymnasium's `MujocoEnv`, as in `render_mode="rgb_array"`."""
        space = Box(-np.inf, np.inf, shape=(12,), dtype=np.float64)
        super().__init__(str(_MODEL), _FRAME_SKIP, observation_space=space, **({"camera_name": "above"} | rendering))
        self._target = self.model.body("target").id

    def step(  # type: ignore[override]  # MujocoEnv narrows what Env promises
        self, action: npt.NDArray[np.floating[Any]]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply the torques, clipped to −1 … 1, for 0.15 seconds."""
        self.do_simulation(np.clip(action, -1.0, 1.0), self.frame_skip)
        near = np.abs(self._tip - self._goal).sum() < _NEAR
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._observe(), float(near), False, False, {}

    def reset_model(self) -> Observation:
        """Joint angles uniform in ±2 rad, at rest; the target uniform in the ring from 0.5 to 1 m."""
        angles = self.np_random.uniform(-2.0, 2.0, size=2)
        goal = self.np_random.uniform(-1.5, 1.5, size=2)
        while not 0.5 <= np.linalg.norm(goal) <= 1.0:
            goal = self.np_random.uniform(-1.5, 1.5, size=2)
        self.model.body_pos[self._target, :2] = goal
        self.set_state(angles, np.zeros(2))  # type: ignore[no-untyped-call]
        return self._observe()

    @property
    def _tip(self) -> Observation:
        return self.data.site("fingertip").xpos[:2]  # type: ignore[no-any-return]

    @property
    def _goal(self) -> Observation:
        return self.data.xpos[self._target, :2]  # type: ignore[no-any-return]

    def _observe(self) -> Observation:
        angles, tip, goal = self.data.qpos, self._tip, self._goal
        parts = (np.sin(angles), np.cos(angles), self.dt * self.data.qvel, tip, goal, tip - goal)
        return np.concatenate(parts)
