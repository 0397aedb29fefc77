import gymnasium
import numpy as np
import pytest

from wikirl.evaluation.environments import describe_environment, make_environment
from wikirl.evaluation.reacher2d import Reacher2d

REACHER = "wikirl/Reacher2d-v0"


def tip_of(sines: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Where links of 0.6 and 0.45 m put the tip, by trigonometry; the model's links rest at ±0.785 rad."""
    shoulder, elbow = np.arctan2(sines, cosines)
    first, second = shoulder + 0.785, shoulder + elbow
    return 0.6 * np.array([np.cos(first), np.sin(first)]) + 0.45 * np.array([np.cos(second), np.sin(second)])


def test_the_observation_is_what_it_says() -> None:
    environment = make_environment(REACHER)
    arm = environment.unwrapped
    assert isinstance(arm, Reacher2d)
    observation, _ = environment.reset(seed=3)
    for _ in range(30):
        sines, cosines, velocities, tip, goal, difference = observation.reshape(6, 2)
        np.testing.assert_allclose(sines**2 + cosines**2, 1)
        # MuJoCo leaves the tip of the integrator's last stage, a hair beside that of the joint angles.
        np.testing.assert_allclose(tip, tip_of(sines, cosines), atol=1e-5)
        np.testing.assert_allclose(velocities, 0.15 * arm.data.qvel)
        np.testing.assert_allclose(difference, tip - goal)
        observation, reward, terminated, _, _ = environment.step(environment.action_space.sample())
        assert reward == (np.abs(observation[10:]).sum() < 0.1)
        assert not terminated
    environment.close()


def test_an_arm_that_reaches_its_target_is_paid_for_every_step_there() -> None:
    """A controller of ours: joint angles by inverse kinematics, then proportional and derivative torques."""
    environment = gymnasium.make(REACHER, disable_env_checker=True)
    observation, _ = environment.reset(seed=0)
    total = 0.0
    for _ in range(100):
        angles, goal = np.arctan2(observation[:2], observation[2:4]), observation[8:10]
        distance = np.clip(goal @ goal, 0, 1.05**2)
        bend = np.arccos(np.clip((distance - 0.6**2 - 0.45**2) / (2 * 0.6 * 0.45), -1, 1))
        turn = np.arctan2(goal[1], goal[0]) - np.arctan2(0.45 * np.sin(bend), 0.6 + 0.45 * np.cos(bend))
        error = np.array([turn - 0.785, bend + 0.785]) - angles
        error[0] = (error[0] + np.pi) % (2 * np.pi) - np.pi
        observation, reward, _, truncated, _ = environment.step(8.0 * error - 2.0 * observation[4:6] / 0.15)
        total += float(reward)
    assert truncated
    assert total > 60


def test_starts_are_drawn_as_published() -> None:
    environment = make_environment(REACHER)
    starts = np.stack([environment.reset(seed=seed)[0] for seed in range(300)])
    angles, goals = np.arctan2(starts[:, :2], starts[:, 2:4]), np.linalg.norm(starts[:, 8:10], axis=1)
    assert np.abs(angles).max() < 2.0
    assert np.abs(angles).max() > 1.9
    assert (goals.min() >= 0.5, goals.max() <= 1.0) == (True, True)
    assert goals.max() - goals.min() > 0.45
    np.testing.assert_array_equal(starts[:, 4:6], 0)
    environment.close()


def test_it_is_known_by_its_id() -> None:
    spec = describe_environment(REACHER)
    assert (spec.max_episode_steps, spec.observation_space.shape, spec.action_space.shape) == (100, (12,), (2,))


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_episode(seed: int) -> None:
    def play() -> np.ndarray:
        environment = make_environment(REACHER)
        environment.reset(seed=seed)
        random = np.random.default_rng(seed)
        seen = [environment.step(random.uniform(-1, 1, 2).astype(np.float32))[0] for _ in range(40)]
        environment.close()
        return np.stack(seen)

    np.testing.assert_array_equal(play(), play())
