"""Discrete actions through fine-tuning: what is logged, what repeats and resumes, what is frozen, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.models.decoders import write_decoder
from tests.recipes.cart_pole import write_cart_pole
from tests.recipes.toys import backbone, dataset, finetune_config
from wikirl.errors import ConfigError
from wikirl.evaluation.rollout import rollout
from wikirl.models.bundle import load_policy
from wikirl.recipes.building import make_backbone, make_model, optimizer_groups
from wikirl.recipes.evaluate import evaluate_run
from wikirl.recipes.finetune import finetune
from wikirl.recipes.held_out import held_out_errors
from wikirl.recipes.settings import FinetuneConfig, resolve
from wikirl.recipes.together import finetune_together
from wikirl.runs import read_metrics
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.sampling import consecutive_windows
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.storage import save_dataset
from wikirl.types import Space


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A dataset of three choices and a pre-trained backbone."""
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder, choices=True), backbone(folder)


@pytest.fixture(scope="module")
def cart_pole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file:{write_cart_pole(tmp_path_factory.mktemp('cart_pole') / 'logs.npz')}"


def run(config: FinetuneConfig, out: Path) -> dict[str, Any]:
    return finetune(config, out, device="cpu", precision="float32")


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(folder)]


def learning(data: str, **options: Any) -> FinetuneConfig:
    usual = {"num_steps": 100, "eval_every": 1000, "learning_rate": 1e-2, "batch_size": 16, "warmup_steps": 0}
    return finetune_config(data, **(usual | options))


@pytest.mark.parametrize("share_projection", [False, True])
def test_it_learns(tmp_path: Path, toys: tuple[str, str], share_projection: bool) -> None:
    data = dataset(tmp_path, num_episodes=60, choices=True)
    config = learning(data, architecture=toys[1], share_projection=share_projection)
    scores = run(config, tmp_path / "run")
    lines = curve(tmp_path / "run")
    assert lines[0]["action_loss"] == pytest.approx(np.log(3), abs=0.5)  # nats, three choices
    assert scores["held_out_action_error"] < 0.5
    assert 0.75 < scores["held_out_action_accuracy"] <= 1
    assert lines[-1]["held_out_action_accuracy"] == scores["held_out_action_accuracy"]
    weights = load_file(tmp_path / "run" / "policy" / "model.safetensors")
    assert weights["embed_action.weight"].shape == (3, 16)
    assert ("predict_action.weight" in weights) is not share_projection
    assert not [name for name in weights if name.startswith("scaler")]


def test_the_held_out_figures_are_means_over_steps(tmp_path: Path, toys: tuple[str, str]) -> None:
    run(finetune_config(*toys), tmp_path / "run")
    policy, data = load_policy(tmp_path / "run" / "policy"), load_trajectories(toys[0])
    nats, right = [], []
    for window in consecutive_windows(data, policy.context_length, 1):
        with torch.no_grad():
            logits = policy.model(window).actions[window.mask]
        for scores, choice in zip(logits, window.actions[window.mask].tolist(), strict=True):
            nats.append(-float(scores.log_softmax(0)[choice]))
            right.append(int(scores.argmax()) == choice)
    assert len(nats) == data.num_steps
    found = held_out_errors(policy, data, batch_size=5)
    expected = {"held_out_action_error": np.mean(nats), "held_out_action_accuracy": np.mean(right)}
    assert found == pytest.approx(expected, rel=1e-5)
    result = evaluate_run(tmp_path / "run", device="cpu")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert {name: result[name] for name in expected} == {name: scores[name] for name in expected}


@pytest.mark.parametrize(
    ("recipe", "architecture"), [("fair", "gpt2"), ("paper", "gpt2"), ("released", "gpt2"), ("fair", "llama")]
)
def test_the_same_seed_gives_the_same_bits_resumed_or_not(
    tmp_path: Path, toys: tuple[str, str], recipe: Any, architecture: str
) -> None:
    start = toys[1] if architecture == "gpt2" else write_decoder(tmp_path / "decoder", architecture)
    config = finetune_config(toys[0], start, recipe=recipe, checkpoint_every=3, action_selection="sampled")
    run(config, tmp_path / "whole")
    run(config, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-8")
    shutil.rmtree(tmp_path / "cut" / "policy")
    run(config, tmp_path / "cut")
    for name in ("policy/model.safetensors", "policy/config.json", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    run(replace(config, seed=1), tmp_path / "other")
    assert curve(tmp_path / "other") != curve(tmp_path / "whole")


@pytest.mark.parametrize("recipe", ["fair", "paper"])
def test_frozen_parameters_stay_and_groups_partition_the_others(
    tmp_path: Path, toys: tuple[str, str], recipe: Any
) -> None:
    config = finetune_config(
        *toys, recipe=recipe, freeze="blocks", weight_decay=0.1, learning_rate=1e-2, warmup_steps=0
    )
    data = load_trajectories(toys[0])
    resolved = resolve(config, data, None)
    model, _ = make_model(resolved, data, make_backbone(resolved))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trained = {id(value) for value in model.parameters() if value.requires_grad}
    grouped = [id(value) for group in optimizer_groups(resolved, model) for value in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trained
    run(config, tmp_path / "run")
    after = load_file(tmp_path / "run" / "policy" / "model.safetensors")
    blocks = {name for name in before if name.startswith("backbone.h.")}
    assert {name for name in before if torch.equal(before[name], after[name])} == blocks


def test_cart_pole_is_balanced_better_than_by_chance(tmp_path: Path, cart_pole: str, toys: tuple[str, str]) -> None:
    config = learning(
        cart_pole,
        environment="CartPole-v1",
        architecture=toys[1],
        num_steps=120,
        eval_episodes=2,
        held_out_fraction=0.1,
    )
    scores = run(config, tmp_path / "run")
    (evaluation,) = scores["evaluations"]
    by_chance = rollout(Chance(), "CartPole-v1", num_episodes=10, seed=0).returns
    assert max(by_chance) < 100
    assert min(evaluation["returns"]) > max(by_chance)
    assert np.mean(evaluation["returns"]) > 200
    assert scores["held_out_action_accuracy"] > 0.7
    assert scores["protocols"][0]["action_selection"] == "greedy"


def test_evaluating_greedy_or_sampled(tmp_path: Path, cart_pole: str, toys: tuple[str, str]) -> None:
    config = finetune_config(
        cart_pole, environment="CartPole-v1", architecture=toys[1], num_steps=1, eval_episodes=2, target_returns=(9.0,),
        action_selection="sampled",
    )  # fmt: skip
    scores = run(config, tmp_path / "run")
    own, greedy, sampled = (
        evaluate_run(tmp_path / "run", num_episodes=4, action_selection=way, device="cpu")["evaluations"][0]
        for way in (None, "greedy", "sampled")
    )
    assert own == sampled
    assert own["returns"][:2] == scores["evaluations"][0]["returns"]  # the same draws, however many episodes
    assert greedy["returns"] != sampled["returns"]
    stamps = [entry["protocol"]["action_selection"] for entry in (greedy, sampled)]
    assert stamps == ["greedy", "sampled"]
    names = {path.name for path in (tmp_path / "run" / "evaluations").iterdir()}
    assert names == {f"CartPole-v1-4-episodes-seed-0-targets-9{ending}.json" for ending in ("", "-sampled")}


class Chance:
    """Moves at random."""

    def reset(self, num_envs: int, seed: int) -> None:
        self.generator, self.num_envs = np.random.default_rng(seed), num_envs

    def act(self, observations: Any, rewards: Any, active: Any = None) -> Any:
        return self.generator.integers(2, size=self.num_envs)


def test_scored_together_is_as_scored_one_by_one(tmp_path: Path, cart_pole: str, toys: tuple[str, str]) -> None:
    """Drawn choices too: row i of each run draws what row i of the run alone draws."""
    config = finetune_config(
        cart_pole, architecture=toys[1], environment="CartPole-v1", num_steps=4, eval_every=2, eval_episodes=3,
        action_selection="sampled", target_returns=(300.0,),
    )  # fmt: skip
    runs = [(replace(config, seed=seed), tmp_path / str(seed)) for seed in (0, 1)]
    together = finetune_together(runs, device="cpu", precision="float32")
    for (one, folder), found in zip(runs, together, strict=True):
        alone = run(one, folder.with_name(f"alone-{one.seed}"))
        assert [e["returns"] for e in found["evaluations"]] == [e["returns"] for e in alone["evaluations"]]
    assert together[0]["evaluations"][0]["returns"] != together[1]["evaluations"][0]["returns"]


def tiny(actions: Any, action_space: Space | None = None, size: int = 4) -> TrajectoryDataset:
    observations = np.random.default_rng(0).normal(size=(len(actions), size))
    return build_dataset(
        "tiny", observations, np.asarray(actions), np.ones(len(actions)), [0, len(actions) // 2, len(actions)],
        [True, True], action_space=action_space,
    )  # fmt: skip


def saved(data: TrajectoryDataset, folder: Path) -> str:
    save_dataset(data, folder)
    return f"file:{folder}"


def test_choices_that_no_data_show_are_still_the_environments(
    tmp_path: Path, toys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = saved(tiny([0] * 8), tmp_path / "data")
    config = finetune_config(data, environment="CartPole-v1", architecture=toys[1], num_steps=1, eval_episodes=1)
    run(config, tmp_path / "run")
    assert "1 choices of action, CartPole-v1 2; the policy learns never to make the others" in capsys.readouterr().err
    assert load_policy(tmp_path / "run" / "policy").action_space == Space.discrete(2)
    assert evaluate_run(tmp_path / "run", num_episodes=1, device="cpu")["evaluations"]


def test_what_cannot_work(tmp_path: Path, toys: tuple[str, str]) -> None:
    vectors = saved(tiny(np.zeros((8, 1))), tmp_path / "vectors")
    three = saved(tiny([0, 1, 2, 0] * 2), tmp_path / "three")
    ids = saved(tiny([0, 10**7] * 4), tmp_path / "ids")
    for data, options, words in [
        (vectors, {"environment": "CartPole-v1"}, r"CartPole-v1 to have actions of shape \(1,\), .* found 2 choices"),
        (three, {"environment": "CartPole-v1"}, r"CartPole-v1 to have actions of 3 choices, .* found 2 choices"),
        (toys[0], {"environment": "Pendulum-v1"}, r"actions of 3 choices, as in the data; found shape \(1,\)"),
        (vectors, {"action_selection": "greedy"}, r"discrete actions with --action-selection greedy; .* leave it out"),
        (ids, {}, r"1 to 65,536 choices of action; found 10,000,001; number them from 0 without gaps"),
    ]:
        with pytest.raises(ConfigError, match=words) as error:
            run(finetune_config(data, **options), tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


def test_a_policy_in_another_environment(tmp_path: Path, toys: tuple[str, str]) -> None:
    run(finetune_config(toys[0], num_steps=1), tmp_path / "choices")
    with pytest.raises(ConfigError, match=r"Pendulum-v1 to have actions of 3 choices, .* found shape \(1,\)"):
        evaluate_run(tmp_path / "choices", environment="Pendulum-v1", device="cpu")
    run(finetune_config(dataset(tmp_path), num_steps=1), tmp_path / "vectors")
    with pytest.raises(ConfigError, match=r"discrete actions for greedy ones; .* leave --greedy and --sampled out"):
        evaluate_run(tmp_path / "vectors", action_selection="greedy", device="cpu")
