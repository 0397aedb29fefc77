import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError
from wikirl.evaluation.references import ReferenceScore, normalized_score
from wikirl.evaluation.scores import (
    Evaluation,
    summarize,
    task_constants,
)

FINITE = st.floats(-1e6, 1e6)


def test_task_constants() -> None:
    hopper = task_constants("Hopper-v5")
    assert hopper is not None
    assert (hopper.target_returns, hopper.return_scale, hopper.horizon) == ((3600.0, 1800.0), 1000.0, 1000)
    reacher = task_constants("reacher2d")
    assert reacher is not None
    assert (reacher.target_returns, reacher.return_scale, reacher.horizon) == ((76.0, 40.0), 10.0, 100)
    assert task_constants("wikirl/Reacher2d-v0") == reacher
    assert task_constants("wikirl/PointMaze-v0") is None
    assert task_constants("somebody/Hopper-v5") is None, "another task under the same name"
    assert task_constants("Ant-v5") is None


def test_a_reference_of_ones_own() -> None:
    returns, lengths = np.array([10.0, 30.0]), np.array([1, 2])
    assert Evaluation.of("CartPole-v1", 0, None, returns, lengths).normalized is None
    own = ReferenceScore("own", 10.0, 20.0, "us")
    for environment in ("CartPole-v1", "Hopper-v5"):
        assert Evaluation.of(environment, 0, None, returns, lengths, own).normalized == (0.0, 200.0)


def evaluation(step: int, mean: float, target: float | None = 3600.0, env: str = "Hopper-v5") -> Evaluation:
    return Evaluation.of(env, step, target, np.array([mean - 10.0, mean + 10.0]), np.array([5, 6]))


def test_summary_keeps_the_three_rules_apart() -> None:
    returns = [100.0, 900.0, 200.0, 300.0, 400.0, 500.0]
    evaluations = [evaluation(step, mean) for step, mean in enumerate(returns)]
    (summary,) = summarize(reversed(evaluations))  # order of arrival does not matter
    assert (summary.last_step, summary.last_return) == (5, 500.0)
    assert (summary.num_in_last_four, summary.mean_last_four_return) == (4, 350.0)
    assert (summary.best_step, summary.best_return) == (1, 900.0)
    for name in ("last", "mean_last_four", "best"):
        raw = np.array([getattr(summary, f"{name}_return")])
        assert getattr(summary, f"{name}_normalized") == pytest.approx(normalized_score("Hopper-v5", raw)[0])
    json.dumps(summary.to_json())


def test_summary_of_a_short_run_says_how_many_it_averaged() -> None:
    (summary,) = summarize([evaluation(10, 100.0), evaluation(20, 200.0)])
    assert (summary.num_evaluations, summary.num_in_last_four, summary.mean_last_four_return) == (2, 2, 150.0)


def test_one_summary_per_target_highest_first() -> None:
    evaluations = [evaluation(0, mean, target) for mean, target in [(1.0, None), (2.0, 1800.0), (3.0, 3600.0)]]
    assert [(s.target_return, s.last_return) for s in summarize(evaluations)] == [
        (3600.0, 3.0),
        (1800.0, 2.0),
        (None, 1.0),
    ]


def test_raw_returns_only_where_no_reference_is_known() -> None:
    (summary,) = summarize([evaluation(0, 50.0, None, "CartPole-v1")])
    assert (summary.last_return, summary.last_normalized, summary.best_normalized) == (50.0, None, None)


def test_summary_refuses_nonsense() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        summarize([])
    with pytest.raises(ConfigError, match="step 3 was evaluated more than once"):
        summarize([evaluation(3, 1.0), evaluation(3, 2.0)])
    with pytest.raises(ConfigError, match="normalised"):
        summarize([evaluation(3, 1.0), evaluation(4, 2.0, env="CartPole-v1")])


@given(st.lists(FINITE, min_size=1, max_size=9), st.none() | FINITE, st.sampled_from(["Ant-v5", "CartPole-v1"]))
def test_evaluations_survive_json(returns: list[float], target: float | None, env: str) -> None:
    before = Evaluation.of(env, 7, target, np.array(returns), np.arange(len(returns)))
    assert Evaluation.from_json(json.loads(json.dumps(before.to_json()))) == before


@pytest.mark.parametrize(
    "change",
    [{"step": "x"}, {"returns": None}, {"returns": [1.0]}, {"normalized": [1.0]}, {"lengths": "ab"}],
)
def test_damaged_evaluations_are_refused(change: dict[str, object]) -> None:
    value = evaluation(1, 2.0).to_json() | change
    with pytest.raises(ConfigError):
        Evaluation.from_json(value)


def test_empty_and_incomplete_evaluations_are_refused() -> None:
    with pytest.raises(ConfigError, match="episodes"):
        Evaluation.from_json(evaluation(1, 2.0).to_json() | {"returns": [], "lengths": [], "normalized": None})
    with pytest.raises(ConfigError, match="not an evaluation"):
        Evaluation.from_json({})
