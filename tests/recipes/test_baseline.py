"""Behaviour cloning and what all baselines share: episodes learnt from, run folder, scoring, resuming, refusals."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recipes.cart_pole import write_cart_pole
from tests.recipes.toys import dataset, finetune_config, trajectories
from wikirl.errors import ConfigError, DivergedError, MissingExtraError
from wikirl.evaluation.rollout import rollout
from wikirl.models.bundle import load_any_policy
from wikirl.recipes.baseline import baseline, prepare
from wikirl.recipes.baseline_settings import BaselineConfig, resolve
from wikirl.recipes.evaluate import evaluate_run
from wikirl.recipes.finetune import finetune
from wikirl.runs import read_metrics
from wikirl.trajectories.sources import load_trajectories


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Actions that are vectors, and choices."""
    folders = [tmp_path_factory.mktemp(name) for name in ("vectors", "choices")]
    return dataset(folders[0], num_episodes=40), dataset(folders[1], num_episodes=40, choices=True)


@pytest.fixture(scope="module")
def cart_pole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file:{write_cart_pole(tmp_path_factory.mktemp('cart_pole') / 'logs.npz')}"


def small(data: str, **options: Any) -> BaselineConfig:
    usual: dict[str, Any] = {"num_steps": 8, "batch_size": 16, "eval_every": 4, "hidden_size": 32}
    return BaselineConfig(data, **(usual | options))


def run(config: BaselineConfig, out: Path) -> dict[str, Any]:
    return baseline(config, out, device="cpu")


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(folder)]


def test_the_run_folder(tmp_path: Path, toys: tuple[str, str]) -> None:
    scores = run(small(toys[0]), tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["kind"], config["algorithm"], config["precision"]) == ("baseline", "bc", "float32")
    assert config["dataset_fingerprint"] == load_trajectories(toys[0]).fingerprint
    lines = curve(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert set(lines[0]) == {"step", "loss", "action_loss", "gradient_norm", "learning_rate"}
    assert [line["step"] for line in lines if "held_out_action_error" in line] == [4, 8]
    assert json.loads((tmp_path / "run" / "scores.json").read_text()) == scores
    assert scores["held_out_action_error"] == lines[-1]["held_out_action_error"]
    assert scores["num_parameters"] == 3 * 32 + 32 + 32 * 32 + 32 + 32 * 2 + 2
    names = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not [name for name in names if not name.endswith((".json", ".jsonl", ".safetensors", ".lock"))]
    assert run(small(toys[0]), tmp_path / "run") == scores  # not trained again
    assert len(curve(tmp_path / "run")) == 8


def test_it_learns_vectors(tmp_path: Path, toys: tuple[str, str]) -> None:
    scores = run(small(toys[0], num_steps=300, eval_every=300, learning_rate=3e-3), tmp_path / "run")
    # The action is the observation's first two coordinates, of variance near one half.
    assert scores["held_out_action_error"] < 0.05


def test_it_learns_choices(tmp_path: Path, toys: tuple[str, str]) -> None:
    scores = run(small(toys[1], num_steps=300, eval_every=300, learning_rate=3e-3), tmp_path / "run")
    assert scores["held_out_action_error"] < 0.4  # nats; three choices, so ln 3 = 1.1 by chance
    assert scores["held_out_action_accuracy"] > 0.85


def test_held_out_figures_are_means_over_steps(tmp_path: Path, toys: tuple[str, str]) -> None:
    for data in toys:
        out = tmp_path / data[-12:].replace("/", "_")
        scores = run(small(data), out)
        held_out = prepare(small(data)).held_out
        assert held_out is not None
        found = load_any_policy(out / "policy").act(held_out.observations, np.zeros(held_out.num_steps))
        if held_out.action_space.is_discrete:
            expected = np.mean(found == held_out.actions)
            assert scores["held_out_action_accuracy"] == pytest.approx(expected)
        else:
            assert scores["held_out_action_error"] == pytest.approx(
                np.square(found - held_out.actions).mean(), rel=1e-5
            )
        again = evaluate_run(out, device="cpu")
        assert again["held_out_action_error"] == scores["held_out_action_error"]


def test_the_best_episodes_and_a_drawn_share(tmp_path: Path, toys: tuple[str, str]) -> None:
    every = trajectories(40)
    best = prepare(small(toys[0], top_fraction=0.1, held_out_fraction=0.0)).training
    assert 0 < best.num_steps <= 0.1 * every.num_steps
    left = np.setdiff1d(every.returns, best.returns)
    assert best.returns.min() > left.max()
    some = [
        prepare(small(toys[0], data_fraction=0.25, held_out_fraction=0.0, seed=seed)).training for seed in (0, 0, 1)
    ]
    assert [one.num_episodes for one in some] == [10, 10, 10]
    assert some[0].fingerprint == some[1].fingerprint != some[2].fingerprint
    both = prepare(small(toys[0], data_fraction=0.5, top_fraction=0.2, held_out_fraction=0.25)).training
    assert both.num_episodes <= 15
    run(small(toys[0], top_fraction=0.1), tmp_path / "best")
    run(small(toys[0]), tmp_path / "all")
    assert curve(tmp_path / "best") != curve(tmp_path / "all")


@pytest.mark.parametrize("kind", [0, 1])
def test_the_same_seed_gives_the_same_bits_resumed_or_not(tmp_path: Path, toys: tuple[str, str], kind: int) -> None:
    config = small(toys[kind], checkpoint_every=3)
    run(config, tmp_path / "whole")
    run(config, tmp_path / "cut")
    # Killed while step 8 was being written: no checkpoint, no policy, no scores, a torn line.
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-8")
    shutil.rmtree(tmp_path / "cut" / "policy")
    (tmp_path / "cut" / "scores.json").unlink()
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    run(config, tmp_path / "cut")
    for name in ("policy/model.safetensors", "policy/config.json", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    run(replace(config, seed=1), tmp_path / "other")
    assert curve(tmp_path / "other") != curve(tmp_path / "whole")


@pytest.mark.parametrize("delayed", [False, True])
def test_it_is_scored_as_fine_tuning_is(tmp_path: Path, cart_pole: str, delayed: bool) -> None:
    shared: dict[str, Any] = {
        "environment": "CartPole-v1", "eval_episodes": 3, "evaluation_seed": 4, "reference": (10.0, 500.0),
        "delayed_reward": delayed,
    }  # fmt: skip
    ours = run(small(cart_pole, **shared), tmp_path / "bc")
    config = finetune_config(cart_pole, target_returns=(300.0,), **shared)
    theirs = finetune(config, tmp_path / "transformer", device="cpu", precision="float32")
    assert ours.keys() == theirs.keys()
    for part in ("summary", "protocols", "evaluations"):
        assert [entry.keys() for entry in ours[part]] == [entry.keys() for entry in theirs[part]]
        assert {entry["target_return"] for entry in ours[part]} == {None}
    assert ours["protocols"] == [theirs["protocols"][0] | {"target_return": None}]
    expected = rollout(
        load_any_policy(tmp_path / "bc" / "policy"), "CartPole-v1", num_episodes=3, seed=4, delayed_reward=delayed
    )
    assert ours["evaluations"][-1]["returns"] == expected.returns.tolist()


def test_cart_pole_is_balanced(tmp_path: Path, cart_pole: str) -> None:
    config = small(
        cart_pole, environment="CartPole-v1", num_steps=200, eval_every=200, eval_episodes=3, learning_rate=3e-3,
        top_fraction=0.5,
    )  # fmt: skip
    scores = run(config, tmp_path / "run")
    assert min(scores["evaluations"][0]["returns"]) > 200  # by chance 20, never 100


def test_wikirl_evaluate(tmp_path: Path, cart_pole: str) -> None:
    scores = run(small(cart_pole, environment="CartPole-v1", eval_episodes=2), tmp_path / "run")
    (entry,) = evaluate_run(tmp_path / "run", num_episodes=4, device="cpu")["evaluations"]
    assert entry["target_return"] is entry["protocol"]["target_return"] is None
    assert entry["returns"][:2] == scores["evaluations"][-1]["returns"]
    assert [path.name for path in (tmp_path / "run" / "evaluations").iterdir()] == [
        "CartPole-v1-4-episodes-seed-0.json"
    ]
    assert evaluate_run(tmp_path / "run", num_episodes=4, action_selection="greedy", device="cpu")["evaluations"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"target_returns": (3.0,)}, "--target-return"), ({"cached": True}, "--cached"),
        ({"action_selection": "sampled"}, "--sampled"),
    ]  # fmt: skip
    for options, flag in wrong:
        with pytest.raises(ConfigError, match=f"a Decision Transformer for {flag}; this run is a baseline"):
            evaluate_run(tmp_path / "run", device="cpu", **options)
    with pytest.raises(ConfigError, match="Pendulum-v1 to have observations of"):
        evaluate_run(tmp_path / "run", environment="Pendulum-v1", device="cpu")


def test_what_is_filled_in(toys: tuple[str, str]) -> None:
    vectors, choices = (load_trajectories(data) for data in toys)
    plain = BaselineConfig(toys[0])
    full = resolve(plain, vectors, None)
    assert (full.learning_rate, full.num_layers, full.held_out_fraction) == (3e-4, 2, 0.1)
    assert (full.eval_every, full.checkpoint_every) == (2500, 2500)
    cql = replace(plain, algorithm="cql")
    assert (resolve(cql, vectors, None).learning_rate, resolve(cql, vectors, None).num_layers) == (None, 3)
    assert (resolve(cql, choices, None).learning_rate, resolve(cql, choices, None).num_layers) == (3e-4, 2)
    assert resolve(replace(plain, learning_rate=0.1, num_layers=1), vectors, None).learning_rate == 0.1


def test_what_cannot_work(tmp_path: Path, toys: tuple[str, str]) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (toys[1], {"algorithm": "iql"}, "vectors for --algorithm iql; those of toy are choices; use bc or cql"),
        (toys[1], {"algorithm": "td3+bc"}, "vectors for --algorithm td3"),
        (toys[0], {"top_fraction": 0.0}, "top_fraction above 0 and at most 1; found 0"),
        (toys[0], {"data_fraction": 1.5}, "data_fraction above 0 and at most 1"),
        (toys[0], {"num_steps": 0}, "num_steps of at least 1"),
        (toys[0], {"learning_rate": 0.0}, "learning_rate above 0"),
        (toys[0], {"reference": (3.0,)}, "a reference of two returns"),
        (toys[0], {"environment": "CartPole-v1"}, "CartPole-v1 to have observations of"),
    ]
    for data, options, words in wrong:
        with pytest.raises(ConfigError, match=words) as error:
            run(small(data, **options), tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


def test_a_rate_that_is_too_high(tmp_path: Path, toys: tuple[str, str]) -> None:
    with pytest.raises(DivergedError, match="smaller learning rate"):
        run(small(toys[1], learning_rate=1e38, num_steps=20), tmp_path / "run")


def test_without_d3rlpy(tmp_path: Path, toys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gym_notices", "gym_notices.notices", "d3rlpy"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"expected d3rlpy .* pip install 'wikirl\[baselines\]'") as error:
        run(small(toys[0], algorithm="td3+bc"), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
