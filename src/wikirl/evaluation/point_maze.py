"""PointMaze, a long-horizon task that needs no simulator: a ball must find its way to a goal and stay there.

This file knows the maze, how the ball moves, and the controller that follows waypoints. It deliberately knows no data.
The maze is our own; task and reward are those of D4RL's maze2d (sparse, no termination), so that what is said of
pre-trained attention on long horizons (facts.md 4.4) can be looked at.
"""

from collections import deque
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Shaped

HORIZON = 300
_MAZE = (
    "#########",
    "#...#...#",
    "#.#.#.#.#",
    "#.#...#.#",
    "#.#####.#",
    "#...#...#",
    "###.#.###",
    "#.......#",
    "#########",
)
_FREE = np.array([[cell == "." for cell in row] for row in _MAZE])
_CELLS = np.argwhere(_FREE)  # [32, 2]: row and column
_MIDDLE = (np.array(_FREE.shape) - 1) / 2
_RADIUS = 0.2  # of the ball, in cells
_NEAR = 0.5  # distance to the goal that earns the reward
_SECONDS = 0.1  # a step; with damping 1 and thrust 1 the ball ends up at 1 cell a second
_FARTHEST_START = 6  # cells to walk, at least, from start to goal

Cell = tuple[int, int]
Array = npt.NDArray[np.float64]


class PointMaze(gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]):
    """Reward 1 on every step on which the ball is within half a cell of the goal, else 0.

    Observation `[6]`: position (x, y), velocity (x, y), goal (x, y), in cells from the middle of the maze and cells per
    second. Action `[2]`: thrust from −1 to 1. An episode is cut after 300 steps and never terminates; the way to the
    goal is at least 6 cells, which takes about 60 steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        reach = float(_MIDDLE.max())
        bound = np.array([reach, reach, 1, 1, reach, reach], dtype=np.float32)
        self.observation_space = Box(-bound, bound)
        self.action_space = Box(-1.0, 1.0, shape=(2,))
        self._position = self._velocity = self._goal = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Put ball and goal into two cells that are at least 6 cells of way apart, the ball at rest."""
        super().reset(seed=seed)
        start = _CELLS[self.np_random.integers(len(_CELLS))]
        ways = _ways_to(_cell_key(start))
        far = np.array([cell for cell in _CELLS if ways[_cell_key(cell)][0] >= _FARTHEST_START])
        self._goal = _place(far[self.np_random.integers(len(far))])
        self._position = _place(start) + self.np_random.uniform(-0.1, 0.1, size=2)
        self._velocity = np.zeros(2)
        return self._observe(), {}

    def step(
        self, action: npt.NDArray[np.floating[Any]]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push for a tenth of a second; walls stop the ball in the direction in which it hits them."""
        thrust = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        self._velocity = self._velocity + _SECONDS * (thrust - self._velocity)
        for axis in (0, 1):
            moved = self._position.copy()
            moved[axis] += _SECONDS * self._velocity[axis]
            if _is_free(moved):
                self._position = moved
            else:
                self._velocity = self._velocity.copy()
                self._velocity[axis] = 0.0
        near = np.linalg.norm(self._position - self._goal) <= _NEAR
        return self._observe(), float(near), False, False, {}

    def render(self) -> npt.NDArray[np.uint8]:
        """The maze from above, 24 pixels a cell: walls grey, the goal green, the ball orange."""
        scale = 24
        picture = np.where(np.kron(_FREE, np.ones((scale, scale)))[..., None] > 0, 245, 140).repeat(3, axis=2)
        rows, columns = np.indices(picture.shape[:2]) / scale - 0.5
        for (x, y), radius, colour in (
            (self._goal, _NEAR, (80, 165, 115)),
            (self._position, _RADIUS, (215, 115, 50)),
        ):
            inside = (columns - x - _MIDDLE[1]) ** 2 + (rows + y - _MIDDLE[0]) ** 2 <= radius**2
            picture[inside] = colour
        return picture.astype(np.uint8)

    def _observe(self) -> npt.NDArray[np.float32]:
        return np.concatenate([self._position, self._velocity, self._goal]).astype(np.float32)


class WaypointController:
    """A policy that walks from cell to cell along the shortest way, perhaps by way of other cells first.

    It sees only what any policy sees. `detours` is how many randomly chosen cells of the maze it visits before the
    goal, so that the same controller gives good and bad logs.
    """

    def __init__(self, detours: int = 0, noise: float = 0.2) -> None:
        """Prepare to act.

        Args:
            detours: Cells to visit before the goal.
            noise: Standard deviation of what is added to each thrust.
        """
        self._detours, self._noise = detours, noise
        self.reset(0, 0)

    def reset(self, num_envs: int, seed: int) -> None:
        """Begin `num_envs` episodes; detours and noise are drawn from the seed."""
        self._random = np.random.default_rng(seed)
        chosen = self._random.integers(len(_CELLS), size=(num_envs, self._detours))
        self._via: list[list[Cell]] = [[_cell_key(_CELLS[i]) for i in row] for row in chosen]

    def act(
        self,
        observations: Shaped[np.ndarray, "E 6"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Float[np.ndarray, "E 2"]:
        """Thrust towards the middle of the next cell, braking by what the ball already does."""
        noise = self._random.normal(0.0, self._noise, size=(len(observations), 2))
        targets = np.stack([self._next_place(row, via) for row, via in zip(observations, self._via, strict=True)])
        wanted = 3.0 * (targets - observations[:, :2]) - observations[:, 2:4]
        thrust: npt.NDArray[np.float32] = np.clip(wanted + noise, -1.0, 1.0).astype(np.float32)
        return thrust

    def _next_place(self, observation: Shaped[np.ndarray, "6"], via: list[Cell]) -> Array:
        here = _cell_at(observation[:2])
        while via and via[0] == here:
            via.pop(0)
        target = via[0] if via else _cell_at(observation[4:6])
        return _place(np.array(_ways_to(target)[here][1]))


def _place(cell: npt.NDArray[np.int64]) -> Array:
    """The middle of a cell as (x, y), x to the right and y up."""
    row, column = cell - _MIDDLE
    return np.array([column, -row])


def _cell_at(place: npt.NDArray[Any]) -> Cell:
    return int(np.rint(_MIDDLE[0] - place[1])), int(np.rint(_MIDDLE[1] + place[0]))


def _cell_key(cell: npt.NDArray[np.int64]) -> Cell:
    return int(cell[0]), int(cell[1])


def _is_free(place: Array) -> bool:
    """Whether a ball there touches no wall; it is as wide as it is high, so that corners need no thought."""
    corners = ((x, y) for x in (-_RADIUS, _RADIUS) for y in (-_RADIUS, _RADIUS))
    return all(bool(_FREE[_cell_at(place + np.array(corner))]) for corner in corners)


@cache
def _ways_to(target: Cell) -> dict[Cell, tuple[int, Cell]]:
    """For each free cell the length of its shortest way to `target` and the next cell on it (breadth first)."""
    ways = {target: (0, target)}
    queue = deque([target])
    while queue:
        row, column = here = queue.popleft()
        for there in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if _FREE[there] and there not in ways:
                ways[there] = (ways[here][0] + 1, here)
                queue.append(there)
    return ways
