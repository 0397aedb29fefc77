"""TD3+BC, CQL and IQL of d3rlpy through our adapter: data as d3rlpy itself reads them, same bits, same actions."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.recipes.toys import dataset
from wikirl.errors import DivergedError
from wikirl.models.bundle import load_any_policy
from wikirl.models.perceptron import PerceptronPolicy
from wikirl.recipes.baseline import baseline, prepare
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.d3rlpy_learner import D3rlpyLearner, import_d3rlpy
from wikirl.recipes.evaluate import evaluate_run
from wikirl.runs import read_metrics
from wikirl.trajectories.dataset import TrajectoryDataset

pytestmark = pytest.mark.extras
FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"
ALGORITHMS = ["td3+bc", "cql", "iql", "cql of choices"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Actions that are vectors within ±2, and choices."""
    folders = [tmp_path_factory.mktemp(name) for name in ("vectors", "choices")]
    return dataset(folders[0], bounds=2.0), dataset(folders[1], choices=True)


def small(toys: tuple[str, str], algorithm: str, **options: Any) -> BaselineConfig:
    usual: dict[str, Any] = {
        "num_steps": 30, "batch_size": 16, "eval_every": 10, "hidden_size": 16,
        "algorithm": algorithm.removesuffix(" of choices"),
    }  # fmt: skip
    return BaselineConfig(toys[algorithm.endswith("choices")], **(usual | options))


def run(config: BaselineConfig, out: Path) -> dict[str, Any]:
    return baseline(config, out, device="cpu")


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(folder)]


def learner(config: BaselineConfig) -> tuple[D3rlpyLearner, TrajectoryDataset]:
    prepared = prepare(config)
    return D3rlpyLearner(prepared.config, prepared.training, "cpu"), prepared.training


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_thirty_steps_killed_or_not(tmp_path: Path, toys: tuple[str, str], algorithm: str) -> None:
    config = small(toys, algorithm, checkpoint_every=7)
    scores = run(config, tmp_path / "whole")
    run(config, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-30")
    shutil.rmtree(tmp_path / "cut" / "policy")
    torch.manual_seed(123)  # another process's generator stands elsewhere
    run(config, tmp_path / "cut")
    for name in ("policy/model.safetensors", "policy/config.json", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    lines = curve(tmp_path / "whole")
    assert curve(tmp_path / "cut") == lines
    run(replace(config, seed=1), tmp_path / "other")
    assert curve(tmp_path / "other") != lines
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert all(line["loss"] == line.get("critic_loss", line["loss"]) for line in lines)
    listed = re.findall(r"`(\w+)`", FORMATS.read_text())
    assert {key for line in lines for key in line} <= set(listed)
    figure = "held_out_action_accuracy" if algorithm.endswith("choices") else "held_out_action_error"
    assert [line["step"] for line in lines if figure in line] == [10, 20, 30]
    assert evaluate_run(tmp_path / "whole", device="cpu")[figure] == scores[figure]
    names = {path.name for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    assert not [name for name in names if not name.endswith((".json", ".jsonl", ".safetensors", ".lock"))]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_our_policy_acts_as_theirs(tmp_path: Path, toys: tuple[str, str], algorithm: str) -> None:
    one, data = learner(small(toys, algorithm, learning_rate=3e-3))
    metrics = list(one.steps(1))
    seen = data.observations[:50]
    statistics = data.statistics
    standardised = (seen - statistics.observation_mean) / (statistics.observation_std + 1e-6)
    theirs = one._algorithm.predict(standardised)
    ours = one.policy.act(seen, np.zeros(50))
    if algorithm.endswith("choices"):
        assert ours.tolist() == theirs.tolist()
        assert len(set(ours.tolist())) > 1
        assert metrics[0].keys() == {"step", "loss", "td_loss", "conservative_loss"}
    else:
        np.testing.assert_allclose(ours, theirs * 2.0, rtol=1e-4, atol=1e-5)
        assert np.abs(ours - one.policy.act(seen[::-1], np.zeros(50))).max() > 0.01
    assert isinstance(load_saved(one, tmp_path), PerceptronPolicy)
    assert (load_saved(one, tmp_path).act(seen, np.zeros(50)) == ours).all()


def load_saved(one: D3rlpyLearner, folder: Path) -> Any:
    from wikirl.models.bundle import save_perceptron

    save_perceptron(one.policy, folder / "policy", {})
    return load_any_policy(folder / "policy")


def test_transitions_are_those_of_d3rlpys_own_reader(toys: tuple[str, str]) -> None:
    one, data = learner(small(toys, "td3+bc", held_out_fraction=0.0))
    ends = np.zeros(data.num_steps, dtype=bool)
    ends[data.starts[1:] - 1] = True
    terminals = ends & np.repeat(data.terminated, data.lengths)
    buffer = import_d3rlpy().dataset.MDPDataset(
        data.observations, data.actions, data.rewards, terminals, ends & ~terminals
    )
    theirs = [
        buffer.transition_picker(episode, index)
        for episode in buffer.episodes
        for index in range(episode.transition_count)
    ]
    ours = one._sampler.gather(one._sampler.steps)
    assert len(theirs) == len(one._sampler.steps) < data.num_steps
    assert 0 < sum(ours.terminated) < data.num_episodes
    for name, name_there in [
        ("observations", "observation"), ("actions", "action"), ("next_observations", "next_observation"),
    ]:  # fmt: skip
        np.testing.assert_array_equal(getattr(ours, name), [getattr(item, name_there) for item in theirs])
    np.testing.assert_array_equal(ours.rewards, [float(item.reward[0]) for item in theirs])
    np.testing.assert_array_equal(ours.terminated, [bool(item.terminal) for item in theirs])


def test_what_d3rlpy_is_given(toys: tuple[str, str]) -> None:
    one, data = learner(small(toys, "iql"))
    steps = one._sampler.steps[:40]
    raw, batch = one._sampler.gather(steps), one._theirs(one._sampler.gather(steps))
    np.testing.assert_allclose(batch.actions * 2, raw.actions, rtol=1e-6)
    np.testing.assert_array_equal(batch.terminals[:, 0], raw.terminated)
    spread = data.statistics.return_max - data.statistics.return_min
    np.testing.assert_allclose(batch.rewards[:, 0], raw.rewards * 1000 / spread, rtol=1e-5)
    every = one._standardise.observations(data.observations)
    np.testing.assert_allclose(every.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(every.std(0), 1, atol=1e-4)
    rates = []
    for step, _ in enumerate(one.steps(1), 1):
        if step in (1, 15, 30):
            rates.append(one._modules.actor_optim.optim.param_groups[0]["lr"])
    assert rates == pytest.approx([3e-4, 3e-4 * (1 + np.cos(np.pi * 14 / 30)) / 2, 8.2e-7], rel=0.01)


def test_of_cartpole_cql_learns_to_balance(tmp_path: Path) -> None:
    config = BaselineConfig(
        "builtin:cartpole-medium-replay", "CartPole-v1", "cql", num_steps=300, eval_every=300, eval_episodes=5,
        learning_rate=1e-3, batch_size=64,
    )  # fmt: skip
    scores = run(config, tmp_path / "run")
    assert np.mean(scores["evaluations"][0]["returns"]) > 100  # by chance 23
    assert scores["protocols"][0]["action_selection"] == "greedy"
    assert scores["protocols"][0]["target_return"] is None


def test_a_loss_that_is_not_finite(tmp_path: Path, toys: tuple[str, str]) -> None:
    with pytest.raises(DivergedError, match="smaller learning rate"):
        run(small(toys, "td3+bc", learning_rate=1e30), tmp_path / "run")


def test_importing_it_says_nothing(tmp_path: Path, toys: tuple[str, str]) -> None:
    command = [
        "baseline",
        "--dataset",
        toys[0],
        "--algorithm",
        "iql",
        "--num-steps",
        "2",
        "--out",
        str(tmp_path / "run"),
    ]
    found = subprocess.run(
        [sys.executable, "-m", "wikirl.cli", *command, "--device", "cpu", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(found.stdout)["num_steps"] == 2
    assert "Gym" not in found.stderr
    assert not [line for line in found.stderr.splitlines() if line.strip() and "iql" not in line]
