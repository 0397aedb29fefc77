import numpy as np
import pytest
import torch

from tests.helpers import tiny_gpt, tiny_policy
from wikirl.errors import EnvironmentNotFoundError
from wikirl.evaluation.parallel import rollout_in_processes, sensible_num_processes
from wikirl.evaluation.rollout import play_numbered, rollout
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import ActionChoices
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.types import Space

from .toys import Constant


def test_shares_are_the_episodes_of_one_process() -> None:
    policy = Constant((0.3, -0.2, 0.1))
    together = rollout(policy, "Hopper-v5", num_episodes=5, seed=3)
    shared = rollout_in_processes(policy, "Hopper-v5", num_episodes=5, seed=3, num_processes=2)
    np.testing.assert_array_equal(shared.returns, together.returns)
    np.testing.assert_array_equal(shared.lengths, together.lengths)
    np.testing.assert_array_equal(shared.terminated, together.terminated)
    assert len(set(together.returns.tolist())) == 5


def test_shares_of_a_policy_that_draws_are_the_episodes_of_one_process() -> None:
    """What the processes play, here without them, as they take seconds to start."""
    together = rollout(cart_pole_policy(), "CartPole-v1", num_episodes=6, seed=3)
    shares = [play_numbered(cart_pole_policy(), "CartPole-v1", share, seed=3) for share in (range(2), range(2, 6))]
    np.testing.assert_array_equal(np.concatenate([share.returns for share in shares]), together.returns)
    other = rollout(cart_pole_policy(), "CartPole-v1", num_episodes=6, seed=4)
    assert not np.array_equal(other.returns, together.returns)


def cart_pole_policy() -> DecisionTransformerPolicy:
    """Four coordinates, two choices, random weights, choices drawn."""
    torch.manual_seed(0)
    config = DecisionTransformerConfig(4, 2, max_timesteps=500)
    model = DecisionTransformer(config, tiny_gpt(), Normalizer(torch.zeros(4), torch.ones(4)), ActionChoices(2))
    spaces = Space.box(-np.inf, np.inf, (4,)), Space.discrete(2)
    return DecisionTransformerPolicy(
        model.eval(), *spaces, context_length=3, target_return=100.0, action_selection="sampled"
    )


def test_an_error_in_a_process_is_told_here() -> None:
    with pytest.raises(EnvironmentNotFoundError, match="NoSuchTask"):
        rollout_in_processes(tiny_policy(), "NoSuchTask-v0", num_episodes=2, seed=0, num_processes=2)


def test_few_episodes_are_not_worth_a_process() -> None:
    assert sensible_num_processes(20) == 1
    assert sensible_num_processes(0) == 1
    assert sensible_num_processes(10_000) >= sensible_num_processes(50) >= 1
