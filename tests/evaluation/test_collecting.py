import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError
from wikirl.evaluation.collecting import EpisodeRecorder, RandomPolicy, play_episodes
from wikirl.evaluation.environments import make_environment
from wikirl.types import Space

from . import toys
from .toys import make_countdown

toys.register_toys()
COUNTDOWN = "WikirlCountdown-v0"
ACTIONS = Space.box(-1.0, 1.0, (2,))


@given(num_steps=st.integers(1, 60), num_envs=st.integers(1, 4), seed=st.integers(0, 1000))
def test_exactly_as_many_steps_as_asked_for(num_steps: int, num_envs: int, seed: int) -> None:
    episodes = list(play_episodes(RandomPolicy(ACTIONS), COUNTDOWN, num_steps=num_steps, seed=seed, num_envs=num_envs))
    assert sum(len(episode.rewards) for episode in episodes) == num_steps
    for number, episode in enumerate(episodes):
        steps = len(episode.rewards)
        np.testing.assert_array_equal(episode.rewards, np.arange(1, steps + 1))  # step t earns t
        np.testing.assert_array_equal(episode.observations[:, 1], np.arange(steps + 1))
        np.testing.assert_array_equal(np.diff(episode.observations[:, 0]), -1)
        assert len(episode.actions) == steps
        assert episode.terminated == (episode.observations[-1, 0] == 0)
        assert episode.terminated or number == len(episodes) - 1  # only the last is cut


def test_data_differ_with_the_seed() -> None:
    hopper = Space.box(-1.0, 1.0, (3,))

    def first(seed: int) -> np.ndarray:
        return next(iter(play_episodes(RandomPolicy(hopper), "Hopper-v5", num_steps=5, seed=seed))).observations

    np.testing.assert_array_equal(first(0), first(0))
    assert (first(0)[0] != first(1)[0]).any()
    assert first(0).dtype == np.float32


def test_a_recorder_changes_nothing_and_keeps_everything() -> None:
    plain, recorder = make_environment(COUNTDOWN), EpisodeRecorder(make_environment(COUNTDOWN))
    action = np.zeros(2, dtype=np.float32)
    for seed in (1, 2):
        np.testing.assert_array_equal(plain.reset(seed=seed)[0], recorder.reset(seed=seed)[0])
        for _ in range(2):
            expected, found = plain.step(action), recorder.step(action)
            np.testing.assert_array_equal(expected[0], found[0])
            assert expected[1:] == found[1:]
    cut, open_one = recorder.take()  # a reset and a look both end the episode under way
    assert (len(cut.rewards), cut.terminated) == (2, False)
    assert (len(open_one.rewards), open_one.terminated) == (2, False)
    assert recorder.take() == []
    plain.close()
    recorder.close()


def test_observations_are_copies() -> None:
    """Some environments write into the array that they gave away."""
    environment = make_countdown()
    recorder = EpisodeRecorder(environment)
    observation, _ = recorder.reset(seed=0)
    kept = observation.copy()
    recorder.step(np.zeros(2, dtype=np.float32))
    observation[:] = 99
    np.testing.assert_array_equal(recorder.take()[0].observations[0], kept)
    recorder.close()


def test_random_actions_lie_between_their_bounds() -> None:
    space = Space.box(np.array([-1.0, 0.0]), np.array([0.0, 5.0]), (2,))
    drawn = RandomPolicy(space).act(np.zeros((2000, 3)), np.zeros(2000))
    np.testing.assert_allclose(drawn.min(axis=0), [-1, 0], atol=0.02)
    np.testing.assert_allclose(drawn.max(axis=0), [0, 5], atol=0.02)
    choices = RandomPolicy(Space.discrete(3)).act(np.zeros((200, 1)), np.zeros(200))
    assert set(choices.tolist()) == {0, 1, 2}


def test_random_actions_need_bounds() -> None:
    with pytest.raises(ConfigError, match="expected actions with bounds"):
        RandomPolicy(Space.box(-np.inf, np.inf, (2,)))


def test_an_environment_without_a_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="no time limit"):
        next(play_episodes(RandomPolicy(ACTIONS), "WikirlUnlimited-v0", num_steps=5, seed=0))
