import numpy as np
import pytest

from wikirl.errors import ConfigError
from wikirl.evaluation.recording import record_episode
from wikirl.evaluation.rollout import rollout

from .toys import Constant, Remembering


def test_the_recording_is_the_episode_that_was_scored() -> None:
    scored = rollout(Remembering(3, 11), "Hopper-v5", num_episodes=3, seed=4)
    for episode in range(3):
        recording = record_episode(Remembering(3, 11), "Hopper-v5", seed=4, episode=episode)
        length = int(scored.lengths[episode])
        assert recording.total_return == pytest.approx(scored.returns[episode], rel=1e-12)
        assert recording.qpos.shape == recording.qvel.shape == (length + 1, 6)
        assert recording.rewards.shape == (length,)
        assert recording.dt == pytest.approx(0.008)
        assert recording.environment_id == "Hopper-v5"
        assert len(np.unique(recording.qpos, axis=0)) == length + 1  # rows are copies, not one live array


def test_recordings_can_be_cut_short() -> None:
    recording = record_episode(Constant(np.zeros(6)), "HalfCheetah-v4", seed=0, max_steps=3)
    assert recording.qpos.shape == (4, 9)


def test_only_mujoco_tasks_can_be_recorded() -> None:
    with pytest.raises(ConfigError, match="not a MuJoCo task"):
        record_episode(Constant(1), "CartPole-v1", seed=0)
    with pytest.raises(ConfigError, match="negative"):
        record_episode(Constant(np.zeros(3)), "Hopper-v5", seed=-1)
