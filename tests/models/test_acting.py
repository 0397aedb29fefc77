from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers import ACTION_SIZE, HIGH, LOW, MAX_TIMESTEPS, OBSERVATION_SIZE, tiny_policy
from wikirl.errors import ConfigError
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import draw_choices
from wikirl.types import ActionSelection, RowSeededPolicy, Space, TrajectoryBatch

Selection = ActionSelection | None

Array = npt.NDArray[Any]
STEPS, ROWS = 7, 4
all_kinds = pytest.mark.parametrize(
    "selection", [None, *get_args(ActionSelection)], ids=["vectors", "greedy", "sampled"]
)


def episodes(seed: int = 0) -> tuple[Array, Array]:
    """Observations [T,E,O] and rewards [T,E], the first of which are zero."""
    generator = np.random.default_rng(seed)
    rewards = generator.normal(size=(STEPS, ROWS)).astype(np.float32)
    rewards[0] = 0
    return generator.normal(size=(STEPS, ROWS, OBSERVATION_SIZE)), rewards


def play(
    policy: DecisionTransformerPolicy,
    observations: Array,
    rewards: Array,
    active: Array | None = None,
    seeds: Sequence[int] = range(ROWS),
) -> Array:
    """Actions [T,E,A], or choices [T,E]."""
    policy.reset_rows(seeds[: observations.shape[1]])
    return np.stack(
        [
            policy.act(observations[t], rewards[t], None if active is None else active[t])
            for t in range(len(observations))
        ]
    )


@all_kinds
def test_each_row_acts_as_if_alone(selection: Selection) -> None:
    observations, rewards = episodes()
    policy = tiny_policy(action_selection=selection)
    together = play(policy, observations, rewards)
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = play(policy, observations[:, one], rewards[:, one], seeds=[row])
        np.testing.assert_allclose(alone[:, 0], together[:, row], rtol=1e-5, atol=1e-5)


@all_kinds
def test_rows_that_are_over_change_nothing_for_the_others(selection: Selection) -> None:
    observations, rewards = episodes()
    lengths = np.array([7, 2, 5, 1])
    active = np.arange(STEPS)[:, None] < lengths
    rubbish = np.where(active[..., None], observations, np.nan)
    policy = tiny_policy(action_selection=selection)
    found = play(policy, rubbish, np.where(active, rewards, np.nan).astype(np.float32), active)
    assert (found[~active] == 0).all()
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = play(policy, observations[:length, one], rewards[:length, one], seeds=[row])
        np.testing.assert_allclose(found[:length, row], alone[:, 0], rtol=1e-5, atol=1e-5)


@all_kinds
def test_nothing_to_do_when_all_rows_are_over(selection: Selection) -> None:
    observations, rewards = episodes()
    active = np.array([[True] * ROWS, [False] * ROWS])
    found = play(tiny_policy(action_selection=selection), observations[:2], rewards[:2], active)
    assert found.shape == ((2, ROWS, ACTION_SIZE) if selection is None else (2, ROWS))
    assert (found[1] == 0).all()


@all_kinds
def test_every_action_comes_from_the_last_k_steps_alone(selection: Selection) -> None:
    """Each action against one forward pass over a window put together by hand, some other action in the last place."""
    context_length, target_return = 3, 5.0
    policy = tiny_policy(context_length, target_return, selection)
    observations, rewards = episodes()
    found = play(policy, observations, rewards)
    returns_to_go = target_return - np.cumsum(rewards, axis=0)
    for t in range(STEPS):
        steps = range(max(0, t + 1 - context_length), t + 1)
        actions = np.stack([found[k] if k < t else np.full_like(found[k], 3) for k in steps], axis=1)
        window = TrajectoryBatch(
            torch.from_numpy(np.stack([observations[k] for k in steps], axis=1)).float(),
            torch.from_numpy(actions),
            torch.from_numpy(np.stack([returns_to_go[k] for k in steps], axis=1)).float()[..., None],
            torch.tensor([list(steps)] * ROWS),
            torch.ones(ROWS, len(steps), dtype=torch.bool),
        )
        with torch.no_grad():
            expected = policy.model(window).actions[:, -1]
        if selection == "greedy":
            expected = expected.argmax(-1)
        if selection == "sampled":
            uniform = [np.random.default_rng(row).random(t + 1)[t] for row in range(ROWS)]
            expected = draw_choices(expected, torch.tensor(uniform, dtype=torch.float64))
        np.testing.assert_allclose(found[t], expected.numpy(), rtol=1e-4, atol=1e-5)
    assert len(np.unique(found)) > 2


def test_what_left_the_window_is_forgotten() -> None:
    observations, rewards = episodes()
    other = observations.copy()
    other[0] += 10
    with_memory, without = tiny_policy(context_length=STEPS), tiny_policy(context_length=1)
    assert (play(with_memory, observations, rewards)[-1] != play(with_memory, other, rewards)[-1]).all()
    np.testing.assert_array_equal(play(without, observations, rewards)[1:], play(without, other, rewards)[1:])


def test_a_reward_counts_against_the_return_to_go() -> None:
    """Earning 2 of 5 is wanting 3, if the past itself is out of sight."""
    observations, rewards = episodes()
    earned = rewards[:2].copy()
    earned[1] = 2.0
    found = play(tiny_policy(1, target_return=5.0), observations[:2], earned)
    earned[1] = 0.0
    np.testing.assert_array_equal(found[1], play(tiny_policy(1, target_return=3.0), observations[:2], earned)[1])
    assert (found[1] != play(tiny_policy(1, target_return=5.0), observations[:2], earned)[1]).all()


def cached(policy: DecisionTransformerPolicy) -> DecisionTransformerPolicy:
    policy.cached = True
    return policy


@pytest.mark.parametrize("context_length", [1, 2, 3, STEPS])
def test_cached_acting_is_exact_until_the_window_is_full(context_length: int) -> None:
    observations, rewards = episodes()
    exact = play(tiny_policy(context_length), observations, rewards)
    found = play(cached(tiny_policy(context_length)), observations, rewards)
    for selection in get_args(ActionSelection):
        policies = [tiny_policy(context_length, action_selection=selection) for _ in range(2)]
        pair = play(policies[0], observations, rewards), play(cached(policies[1]), observations, rewards)
        np.testing.assert_array_equal(pair[0][:context_length], pair[1][:context_length])
    same = STEPS if context_length == 1 else context_length
    np.testing.assert_allclose(found[:same], exact[:same], rtol=1e-4, atol=1e-5)
    if same < STEPS:
        assert (np.abs(found[same:] - exact[same:]).max(axis=(1, 2)) > 1e-4).all()


def test_cached_acting_knows_what_left_the_window_only_through_what_is_in_it() -> None:
    """With one block a key depends on its own token alone, so cached and exact acting are the same throughout."""
    observations, rewards = episodes()
    policies = [tiny_policy(2), cached(tiny_policy(2))]
    for policy in policies:
        del policy.model.backbone.blocks[1:]
    exact, found = (play(policy, observations, rewards) for policy in policies)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@all_kinds
def test_cached_rows_that_are_over_change_nothing_for_the_others(selection: Selection) -> None:
    observations, rewards = episodes()
    lengths = np.array([7, 2, 5, 1])
    active = np.arange(STEPS)[:, None] < lengths
    rubbish = np.where(active[..., None], observations, np.nan)
    policy = cached(tiny_policy(action_selection=selection))
    found = play(policy, rubbish, np.where(active, rewards, np.nan).astype(np.float32), active)
    assert (found[~active] == 0).all()
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = play(policy, observations[:length, one], rewards[:length, one], seeds=[row])
        np.testing.assert_allclose(found[:length, row], alone[:, 0], rtol=1e-5, atol=1e-5)


@all_kinds
def test_reset_forgets_everything(selection: Selection) -> None:
    policy = tiny_policy(action_selection=selection)
    observations, rewards = episodes()
    first = play(policy, observations, rewards)
    play(policy, *episodes(seed=1))
    np.testing.assert_array_equal(play(policy, observations, rewards), first)
    assert play(policy, observations[:, :2], rewards[:, :2]).shape == (first[:, :2]).shape


def test_acting_needs_no_training_mode_and_leaves_no_gradient() -> None:
    policy = tiny_policy()
    observations, rewards = episodes()
    expected = play(policy, observations, rewards)
    policy.model.train()
    np.testing.assert_array_equal(play(policy, observations, rewards), expected)
    assert all(parameter.grad is None for parameter in policy.model.parameters())
    assert expected.dtype == np.float32
    assert (expected >= np.array(LOW)).all()
    assert (expected <= np.array(HIGH)).all()


def test_an_episode_longer_than_the_timestep_table_is_refused() -> None:
    policy = tiny_policy()
    observations, rewards = episodes()
    policy.reset(ROWS, seed=0)
    for _ in range(MAX_TIMESTEPS):
        policy.act(observations[0], rewards[0])
    with pytest.raises(ConfigError, match=rf"at most {MAX_TIMESTEPS} steps.*--max-timesteps"):
        policy.act(observations[0], rewards[0])


def drawn(policy: DecisionTransformerPolicy, num_envs: int, seed: int) -> Array:
    """Choices [T,E] on the same observations in every row."""
    observations = np.repeat(
        np.random.default_rng(0).normal(size=(MAX_TIMESTEPS, 1, OBSERVATION_SIZE)), num_envs, axis=1
    )
    policy.reset(num_envs, seed)
    return np.stack([policy.act(seen, np.zeros(num_envs)) for seen in observations])


def test_what_a_row_draws_depends_on_the_seed_and_its_number_alone() -> None:
    policy = tiny_policy(action_selection="sampled")
    found = drawn(policy, 6, seed=1)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(drawn(policy, 6, seed=1), found)
    np.testing.assert_array_equal(drawn(policy, 2, seed=1), found[:, :2])
    assert (drawn(policy, 6, seed=2) != found).any()
    assert len({column.tobytes() for column in found.T}) == 6
    greedy = drawn(tiny_policy(action_selection="greedy"), 6, seed=1)
    assert len({column.tobytes() for column in greedy.T}) == 1
    assert isinstance(policy, RowSeededPolicy)


def test_the_way_to_choose_can_change_at_any_step() -> None:
    policy = tiny_policy(action_selection="greedy")
    observations, rewards = episodes()
    greedy = play(policy, observations, rewards)
    policy.reset_rows(range(ROWS))
    policy.act(observations[0], rewards[0])
    policy.action_selection = "sampled"
    rest = np.stack([policy.act(observations[t], rewards[t]) for t in range(1, STEPS)])
    assert (rest != greedy[1:]).any()


def test_a_way_to_choose_belongs_to_choices() -> None:
    vectors, choices = tiny_policy(), tiny_policy(action_selection="greedy")
    with pytest.raises(ConfigError, match="discrete actions for sampled ones"):
        vectors.action_selection = "sampled"
    with pytest.raises(ConfigError, match=r"greedy or sampled .* found None"):
        choices.action_selection = None
    with pytest.raises(ConfigError, match="greedy or sampled"):
        DecisionTransformerPolicy(
            choices.model, choices.observation_space, Space.discrete(4), context_length=2, target_return=0.0
        )
    assert (vectors.action_selection, choices.action_selection) == (None, "greedy")
