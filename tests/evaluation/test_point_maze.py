import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wikirl.evaluation.environments import describe_environment, make_environment
from wikirl.evaluation.point_maze import PointMaze, WaypointController
from wikirl.evaluation.rollout import rollout

MAZE = "wikirl/PointMaze-v0"
# Our own drawing of the same maze, upside up: what the module says, read by other code.
WALLS = [
    "#########",
    "#...#...#",
    "#.#.#.#.#",
    "#.#...#.#",
    "#.#####.#",
    "#...#...#",
    "###.#.###",
    "#.......#",
    "#########",
]


def touches_a_wall(x: float, y: float) -> bool:
    """Whether a square of 0.4 cells around (x, y) overlaps a wall, by intervals instead of corners."""
    for row, line in enumerate(WALLS):
        for column, cell in enumerate(line):
            if cell == "#" and abs(x - (column - 4)) < 0.7 - 1e-9 and abs(y - (4 - row)) < 0.7 - 1e-9:
                return True
    return False


@given(seed=st.integers(0, 2**32 - 1), persistence=st.integers(1, 40))
def test_the_ball_never_enters_a_wall(seed: int, persistence: int) -> None:
    maze, random = PointMaze(), np.random.default_rng(seed)
    observation, _ = maze.reset(seed=seed)
    assert not touches_a_wall(*observation[:2])
    thrust = np.zeros(2)
    for step in range(120):
        if step % persistence == 0:
            thrust = random.uniform(-1.5, 1.5, size=2)
        before = observation
        observation, reward, terminated, truncated, _ = maze.step(thrust.astype(np.float32))
        assert not touches_a_wall(*observation[:2])
        assert np.abs(observation[:2] - before[:2]).max() <= 0.1 + 1e-6
        assert np.abs(observation[2:4]).max() <= 1
        assert reward == (np.linalg.norm(observation[:2] - observation[4:6]) <= 0.5)
        assert not terminated
        assert not truncated


def test_the_goal_is_far_enough_for_a_long_horizon() -> None:
    maze = PointMaze()
    starts = np.stack([maze.reset(seed=seed)[0] for seed in range(300)])
    assert np.abs(starts[:, :2] - starts[:, 4:6]).sum(axis=1).min() >= 0
    assert len(np.unique(starts[:, 4:6], axis=0)) > 25  # goals are all over the maze
    assert describe_environment(MAZE).max_episode_steps == 300


def test_the_controller_reaches_every_goal_and_detours_cost_it() -> None:
    straight, detour = (rollout(WaypointController(n), MAZE, num_episodes=30, seed=0).returns for n in (0, 2))
    assert straight.min() > 80
    assert detour.mean() < 0.5 * straight.mean()
    assert detour.max() > 100  # some detours lie on the way


def test_the_controller_draws_from_its_seed_alone() -> None:
    controller = WaypointController(2)
    observations = np.stack([PointMaze().reset(seed=seed)[0] for seed in range(4)])

    def acts(seed: int) -> np.ndarray:
        controller.reset(4, seed)
        return np.stack([controller.act(observations, np.zeros(4)) for _ in range(3)])

    np.testing.assert_array_equal(acts(5), acts(5))
    assert (acts(5) != acts(6)).any()


def test_it_can_be_looked_at() -> None:
    environment = make_environment(MAZE)
    environment.reset(seed=0)
    picture = environment.unwrapped.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (216, 216, 3)
    assert picture.dtype == np.uint8
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert len(colours) == 4  # floor, wall, goal, ball
