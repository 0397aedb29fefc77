from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError, EnvironmentNotFoundError
from wikirl.evaluation.rollout import Rollout, episode_seed, rollout, rollout_together

from . import toys
from .toys import Constant, Remembering

HOPPER = "Hopper-v5"


def play_slowly(
    policy: Remembering, environment_id: str, num_episodes: int, seed: int, limit: int
) -> list[tuple[float, int, bool]]:
    """The plainest loop: one episode after the other, one environment each, our own time limit."""
    results = []
    for episode in range(num_episodes):
        environment = gymnasium.make(environment_id).unwrapped
        observation, _ = environment.reset(seed=episode_seed(seed, episode))
        policy.reset(1, 0)
        reward, total, length, terminated = 0.0, 0.0, 0, False
        while not terminated and length < limit:
            action = policy.act(np.asarray(observation)[None], np.array([reward]))[0]
            observation, reward, terminated, _, _ = environment.step(action)  # type: ignore[assignment]
            total, length = total + reward, length + 1
        environment.close()
        results.append((total, length, terminated))
    return results


def assert_same(a: Rollout, b: Rollout) -> None:
    np.testing.assert_array_equal(a.returns, b.returns)
    np.testing.assert_array_equal(a.lengths, b.lengths)
    np.testing.assert_array_equal(a.terminated, b.terminated)


def test_lockstep_equals_a_slow_loop_step_by_step() -> None:
    fast, slow = Remembering(3, 11), Remembering(3, 11)
    result = rollout(fast, HOPPER, num_episodes=6, seed=5)
    expected = play_slowly(slow, HOPPER, 6, 5, 1000)
    np.testing.assert_array_equal(result.lengths, [length for _, length, _ in expected])
    np.testing.assert_array_equal(result.terminated, [ended for _, _, ended in expected])
    np.testing.assert_array_equal(result.returns, [total for total, _, _ in expected])
    assert len(set(result.lengths.tolist())) > 1  # rows ended at different steps, or this proves little
    calls = iter(slow.calls)
    for row, length in enumerate(result.lengths):
        for step in range(length):
            alone = next(calls)
            for key in ("observations", "rewards", "actions"):
                np.testing.assert_array_equal(fast.calls[step][key][row], alone[key][0])


@given(num_episodes=st.integers(1, 9), num_envs=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_results_do_not_depend_on_how_many_rows_run_at_once(num_episodes: int, num_envs: int, seed: int) -> None:
    def play(at_once: int) -> Rollout:
        policy = Remembering(2, 2)
        result = rollout(policy, "WikirlCountdown-v0", num_episodes=num_episodes, seed=seed, num_envs=at_once)
        assert len(policy.seeds) == -(-num_episodes // at_once)  # one reset per wave
        return result

    assert_same(play(num_envs), play(1))
    assert toys.Countdown.open_instances == 0


def test_waves_of_a_mujoco_task_reuse_environments_without_trace() -> None:
    all_at_once = rollout(Remembering(3, 11), HOPPER, num_episodes=5, seed=1)
    in_waves = rollout(Remembering(3, 11), HOPPER, num_episodes=5, seed=1, num_envs=2)
    assert_same(all_at_once, in_waves)


def test_same_seed_same_episodes_and_another_seed_others() -> None:
    first, again, other = (rollout(Remembering(3, 11), HOPPER, num_episodes=3, seed=seed) for seed in (0, 0, 1))
    assert_same(first, again)
    assert not np.array_equal(first.returns, other.returns)
    assert len(set(first.returns.tolist())) == 3


class Drawing:
    """Draws its choices, in every row from the row's own seed, and keeps them."""

    def reset_rows(self, seeds: Sequence[int]) -> None:
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.seeds = list(seeds)

    def reset(self, num_envs: int, seed: int) -> None:
        raise AssertionError("rows with seeds of their own were asked for")

    def act(
        self,
        observations: npt.NDArray[Any],
        rewards: npt.NDArray[np.float64],
        active: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[Any]:
        return np.array([generator.integers(2) for generator in self.generators])


@given(num_episodes=st.integers(1, 7), num_envs=st.integers(1, 8), seed=st.integers(0, 2**40))
def test_a_row_with_a_seed_of_its_own_draws_the_same_in_any_wave(num_episodes: int, num_envs: int, seed: int) -> None:
    at_once = rollout(Drawing(), "CartPole-v1", num_episodes=num_episodes, seed=seed)
    assert_same(rollout(Drawing(), "CartPole-v1", num_episodes=num_episodes, seed=seed, num_envs=num_envs), at_once)
    both = rollout_together(Drawing(), "CartPole-v1", num_runs=2, num_episodes=num_episodes, seed=seed)
    for run in both:
        assert_same(run, at_once)


def test_seeds_of_episodes_are_apart() -> None:
    assert len({episode_seed(seed, episode) for seed in range(30) for episode in range(100)}) == 3000


def test_finished_rows_are_never_stepped_and_stay_inactive() -> None:
    policy = Remembering(2, 2)
    result = rollout(policy, "WikirlCountdown-v0", num_episodes=8, seed=3)  # the toy raises if stepped again
    np.testing.assert_array_equal(result.returns, result.lengths * (result.lengths + 1) / 2)
    assert result.terminated.all()
    for step, call in enumerate(policy.calls):
        np.testing.assert_array_equal(call["active"], result.lengths > step)
        np.testing.assert_array_equal(call["rewards"], np.where(result.lengths >= step, step, 0))
    assert len(policy.calls) == result.lengths.max()


def test_the_time_limit_is_no_termination() -> None:
    result = rollout(Constant(np.zeros(6)), "HalfCheetah-v5", num_episodes=1, seed=0)
    assert result.lengths.tolist() == [1000]
    assert result.terminated.tolist() == [False]
    assert result.wall_seconds > 0


def test_whichever_limit_comes_first_cuts_off() -> None:
    policy = Constant(np.zeros(2))
    unlimited = rollout(policy, "WikirlCountdown-v0", num_episodes=20, seed=0)
    own = rollout(policy, "WikirlShortCountdown-v0", num_episodes=20, seed=0, max_steps=50)
    given_ = rollout(policy, "WikirlCountdown-v0", num_episodes=20, seed=0, max_steps=4)
    endless = rollout(policy, "WikirlUnlimited-v0", num_episodes=2, seed=0, max_steps=7)
    np.testing.assert_array_equal(own.lengths, np.minimum(unlimited.lengths, 4))
    np.testing.assert_array_equal(own.terminated, unlimited.lengths <= 4)
    assert_same(own, given_)
    assert endless.lengths.tolist() == [7, 7]
    assert not endless.terminated.any()


def test_delayed_rewards_are_hidden_from_the_policy_but_counted() -> None:
    dense, delayed = Constant(np.zeros(2)), Constant(np.zeros(2))
    told = rollout(dense, "WikirlCountdown-v0", num_episodes=5, seed=2)
    hidden = rollout(delayed, "WikirlCountdown-v0", num_episodes=5, seed=2, delayed_reward=True)
    assert_same(told, hidden)
    assert np.any(dense.told[1:])
    assert not np.any(delayed.told)


def test_progress_is_reported() -> None:
    seen: list[tuple[int, int]] = []
    result = rollout(
        Constant(np.zeros(2)),
        "WikirlCountdown-v0",
        num_episodes=6,
        seed=0,
        on_step=lambda step, live: seen.append((step, live)),
    )
    longest = int(result.lengths.max())
    assert seen == [(step, int((result.lengths > step).sum())) for step in range(1, longest + 1)]


def test_discrete_actions() -> None:
    result = rollout(Constant(2), "WikirlDiscreteCountdown-v0", num_episodes=3, seed=0)
    assert (result.lengths > 0).all()
    assert rollout(Constant(1), "CartPole-v1", num_episodes=2, seed=0).terminated.all()


def test_actions_are_clipped_to_the_bounds() -> None:
    rollout(Constant(np.array([7.0, -7.0])), "WikirlCountdown-v0", num_episodes=2, seed=0)
    wild = rollout(Constant(np.full(6, 5.0)), "HalfCheetah-v5", num_episodes=1, seed=0, max_steps=50)
    bound = rollout(Constant(np.full(6, 1.0)), "HalfCheetah-v5", num_episodes=1, seed=0, max_steps=50)
    assert_same(wild, bound)


class Faulty(Constant):
    """Returns a chosen mistake at its third call."""

    def act(
        self,
        observations: npt.NDArray[Any],
        rewards: npt.NDArray[np.float64],
        active: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[Any]:
        self.told.append(rewards)
        return self.action if len(self.told) == 3 else np.zeros((self.num_envs, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (np.array([[0, 0], [0, 0], [0, np.nan]]), "step 3 .* row 2, expected finite"),
        (np.array([[0, 0], [-np.inf, 0], [0, 0]]), "step 3 .* row 1, expected finite"),
        (np.zeros((3, 5)), r"step 3 .* shape \(3, 5\), expected \(3, 2\)"),
        (np.zeros((2, 2)), r"step 3 .* shape \(2, 2\), .*row 2"),
        (np.array(0.0), r"step 3 .* shape \(\)"),
    ],
)
def test_unusable_actions_name_step_and_row(mistake: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rollout(Faulty(mistake), "WikirlUnlimited-v0", num_episodes=3, seed=0, max_steps=9)
    assert toys.Countdown.open_instances == 0


@pytest.mark.parametrize("choice", [3, -1, 1.0])
def test_a_choice_that_does_not_exist_is_refused(choice: float) -> None:
    with pytest.raises(ConfigError, match=r"step 1 .* row 0, expected an integer from 0 to 2"):
        rollout(Constant(choice), "WikirlDiscreteCountdown-v0", num_episodes=1, seed=0)


class NoneForTheDone(Constant):
    """Says NaN for rows that have ended: nobody may look."""

    def act(
        self,
        observations: npt.NDArray[Any],
        rewards: npt.NDArray[np.float64],
        active: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[Any]:
        assert active is not None
        return np.where(active[:, None], np.zeros((self.num_envs, 2)), np.nan)


def test_actions_of_finished_rows_are_not_looked_at() -> None:
    assert rollout(NoneForTheDone(0.0), "WikirlCountdown-v0", num_episodes=6, seed=0).terminated.all()


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"num_episodes": 0}, "num_episodes"),
        ({"num_envs": 0}, "num_envs"),
        ({"max_steps": 0}, "max_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_senseless_settings_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rollout(Constant(np.zeros(2)), "WikirlCountdown-v0", **({"num_episodes": 1, "seed": 0} | settings_))


def test_environments_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ConfigError, match="give max_steps"):
        rollout(Constant(np.zeros(2)), "WikirlUnlimited-v0", num_episodes=1, seed=0)
    with pytest.raises(EnvironmentNotFoundError, match="does not fit"):
        rollout(Constant(0), "Blackjack-v1", num_episodes=1, seed=0, max_steps=5)
    assert toys.Countdown.open_instances == 0
