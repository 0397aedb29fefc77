import numpy as np
import pytest

from tests.helpers import tiny_policy
from wikirl.errors import EnvironmentNotFoundError
from wikirl.evaluation.parallel import rollout_in_processes, sensible_num_processes
from wikirl.evaluation.rollout import rollout

from .toys import Constant


def test_shares_are_the_episodes_of_one_process() -> None:
    policy = Constant((0.3, -0.2, 0.1))
    together = rollout(policy, "Hopper-v5", num_episodes=5, seed=3)
    shared = rollout_in_processes(policy, "Hopper-v5", num_episodes=5, seed=3, num_processes=2)
    np.testing.assert_array_equal(shared.returns, together.returns)
    np.testing.assert_array_equal(shared.lengths, together.lengths)
    np.testing.assert_array_equal(shared.terminated, together.terminated)
    assert len(set(together.returns.tolist())) == 5


def test_an_error_in_a_process_is_told_here() -> None:
    with pytest.raises(EnvironmentNotFoundError, match="NoSuchTask"):
        rollout_in_processes(tiny_policy(), "NoSuchTask-v0", num_episodes=2, seed=0, num_processes=2)


def test_few_episodes_are_not_worth_a_process() -> None:
    assert sensible_num_processes(20) == 1
    assert sensible_num_processes(0) == 1
    assert sensible_num_processes(10_000) >= sensible_num_processes(50) >= 1
