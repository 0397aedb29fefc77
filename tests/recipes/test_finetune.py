"""Fine-tuning on toy data: what the run folder holds, what is fair, what is frozen, what resumes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.evaluation.toys import register_toys
from tests.models.decoders import write_decoder
from tests.recipes.toys import backbone, corpus, dataset, finetune_config
from wikirl.errors import BackboneError, ConfigError, RunError
from wikirl.models.bundle import load_policy
from wikirl.recipes.building import make_backbone, make_model, optimizer_groups
from wikirl.recipes.evaluate import evaluate_run
from wikirl.recipes.finetune import finetune
from wikirl.recipes.settings import FinetuneConfig, resolve
from wikirl.recipes.together import finetune_together
from wikirl.runs import read_metrics
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.storage import save_dataset


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A dataset and a pre-trained backbone for all tests of this module."""
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder), backbone(folder)


def run(config: FinetuneConfig, out: Path) -> dict[str, Any]:
    return finetune(config, out, device="cpu", precision="float32")


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(folder)]


def test_the_run_folder(tmp_path: Path, toys: tuple[str, str]) -> None:
    scores = run(finetune_config(*toys), tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["kind"], config["backbone"], config["dataset"]) == ("finetune", toys[1], toys[0])
    assert len(config["hash"]) == 12
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["seed"] == 0
    lines = curve(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert set(lines[0]) == {"step", "loss", "action_loss", "gradient_norm", "learning_rate"}
    assert [line["step"] for line in lines if "held_out_action_error" in line] == [4, 8]
    assert json.loads((tmp_path / "run" / "scores.json").read_text()) == scores
    assert scores["held_out_action_error"] == lines[-1]["held_out_action_error"]
    names = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not [name for name in names if not name.endswith((".json", ".jsonl", ".safetensors", ".lock"))]


def test_it_learns(tmp_path: Path, toys: tuple[str, str]) -> None:
    config = finetune_config(toys[0], num_steps=150, eval_every=150, learning_rate=3e-3, batch_size=16, warmup_steps=0)
    scores = run(config, tmp_path / "run")
    # The action is the observation's first two coordinates, of variance near one half.
    assert scores["held_out_action_error"] < 0.15


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path, toys: tuple[str, str]) -> None:
    config = finetune_config(*toys, recipe="paper")
    for name in ("a", "b"):
        run(config, tmp_path / name)
    run(replace(config, seed=1), tmp_path / "c")
    weights = [(tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    assert curve(tmp_path / "a") == curve(tmp_path / "b") != curve(tmp_path / "c")


@pytest.mark.parametrize("recipe", ["fair", "paper", "released"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, toys: tuple[str, str], recipe: Any) -> None:
    text = corpus(tmp_path)
    config = finetune_config(*toys, recipe=recipe, cotraining_corpus=str(text), checkpoint_every=3)
    run(config, tmp_path / "whole")
    run(config, tmp_path / "cut")
    # Killed while step 8 was being written: a half-made checkpoint, no policy, no scores, a torn line.
    checkpoints = tmp_path / "cut" / "checkpoints"
    shutil.rmtree(checkpoints / "step-8")
    (checkpoints / ".step-8.123").mkdir()
    shutil.rmtree(tmp_path / "cut" / "policy")
    (tmp_path / "cut" / "scores.json").unlink()
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-6"]
    run(config, tmp_path / "cut")
    for name in ("policy/model.safetensors", "policy/config.json", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


@pytest.mark.parametrize("architecture", ["gpt_neox", "opt", "llama"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_on_another_family_repeats_and_resumes_to_the_same_bits(
    tmp_path: Path, toys: tuple[str, str], architecture: str, precision: str
) -> None:
    """Its dropout knows the global generator only, which is not what a checkpoint holds."""
    start = write_decoder(tmp_path / "decoder", architecture)
    config = finetune_config(toys[0], start, checkpoint_every=3, attention_dropout=0.5, residual_dropout=0.5)
    for name in ("whole", "cut", "cut"):
        finetune(config, tmp_path / name, device="cpu", precision=precision)
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-8", ignore_errors=True)
    for name in ("policy/model.safetensors", "policy/config.json", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    losses = [line["loss"] for line in curve(tmp_path / "whole")]
    run(replace(config, seed=1), tmp_path / "other")
    assert losses != [line["loss"] for line in curve(tmp_path / "other")]


def test_evaluating_a_policy_on_another_family(tmp_path: Path, toys: tuple[str, str]) -> None:
    scores = run(finetune_config(toys[0], write_decoder(tmp_path / "decoder", "qwen3")), tmp_path / "run")
    result = evaluate_run(tmp_path / "run", device="cpu")
    assert result["held_out_action_error"] == scores["held_out_action_error"]
    with pytest.raises(ConfigError, match="leave --cached out"):
        evaluate_run(tmp_path / "run", cached=True, device="cpu")


def test_a_finished_run_is_not_trained_again(tmp_path: Path, toys: tuple[str, str]) -> None:
    config = finetune_config(*toys)
    scores = run(config, tmp_path / "run")
    assert run(config, tmp_path / "run") == scores
    assert len(curve(tmp_path / "run")) == 8


def test_the_fair_default_changes_only_the_starting_weights(toys: tuple[str, str]) -> None:
    data, start = toys
    trajectories = load_trajectories(data)
    parts = []
    for config in (finetune_config(data, start), finetune_config(data, "scratch", architecture=start)):
        config = resolve(config, trajectories, None)
        model, centres = make_model(config, trajectories, make_backbone(config))
        assert centres is None
        groups = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer_groups(config, model)]
        parts.append((model, groups))
    (pretrained, pretrained_groups), (scratch, scratch_groups) = parts
    assert pretrained_groups == scratch_groups
    assert pretrained.backbone.config == scratch.backbone.config
    ours, theirs = dict(pretrained.named_parameters()), dict(scratch.named_parameters())
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}
    same = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert {name for name in ours if not name.startswith("backbone")} <= same
    assert "backbone.h.0.attn.c_attn.weight" not in same


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_recipes_add_their_tricks_to_scratch_too(tmp_path: Path, toys: tuple[str, str], recipe: Any) -> None:
    config = finetune_config(toys[0], "scratch", architecture=toys[1], recipe=recipe)
    run(config, tmp_path / "run")
    line = curve(tmp_path / "run")[0]
    assert line["alignment_loss"] < 0
    weights = load_file(tmp_path / "run" / "policy" / "model.safetensors")
    assert "backbone.wpe.weight" in weights
    assert not [name for name in weights if name.startswith(("embed_timestep", "predict_action"))]


def test_alignment_fades(tmp_path: Path, toys: tuple[str, str]) -> None:
    run(finetune_config(*toys, recipe="paper", anneal_steps=4), tmp_path / "run")
    lines = curve(tmp_path / "run")
    shares = [(line["action_loss"] - line["loss"]) / -line["alignment_loss"] for line in lines]
    expected = [0.1 / (1 + torch.tensor(10 * step / 4 - 5).exp().item()) for step in range(1, 9)]
    assert shares == pytest.approx(expected, abs=1e-5)


def test_cotraining_moves_the_words_and_fine_tuning_alone_does_not_have_them(
    tmp_path: Path, toys: tuple[str, str]
) -> None:
    text = corpus(tmp_path)
    run(finetune_config(*toys, cotraining_corpus=str(text)), tmp_path / "with")
    run(finetune_config(*toys), tmp_path / "without")
    before = load_file(Path(toys[1]) / "model.safetensors")["transformer.wte.weight"].float()
    after = load_file(tmp_path / "with" / "policy" / "model.safetensors")
    assert not torch.equal(after["backbone.wte.weight"], before)
    assert "language_loss" in curve(tmp_path / "with")[0]
    assert "backbone.wte.weight" not in load_file(tmp_path / "without" / "policy" / "model.safetensors")


@pytest.mark.parametrize(
    ("freeze", "moves", "stays"),
    [
        ("none", ["backbone.h.0.attn.c_attn.weight", "backbone.ln_f.weight", "embed_action.weight"], []),
        (
            "blocks",
            ["backbone.ln_f.weight", "embed_timestep.weight"],
            ["backbone.h.0.ln_1.weight", "backbone.h.1.mlp.c_fc.bias"],
        ),
        (
            "all_but_norms_and_projections",
            ["backbone.h.0.ln_1.weight", "embed_return.weight"],
            ["backbone.h.0.mlp.c_fc.weight"],
        ),
    ],
)
def test_frozen_parameters_do_not_move(
    tmp_path: Path, toys: tuple[str, str], freeze: Any, moves: list[str], stays: list[str]
) -> None:
    config = finetune_config(*toys, freeze=freeze, weight_decay=0.1, learning_rate=1e-2, warmup_steps=0)
    resolved = resolve(config, load_trajectories(toys[0]), None)
    before = make_model(resolved, load_trajectories(toys[0]), make_backbone(resolved))[0].state_dict()
    run(config, tmp_path / "run")
    after = load_file(tmp_path / "run" / "policy" / "model.safetensors")
    assert all(not torch.equal(before[name], after[name]) for name in moves)
    assert all(torch.equal(before[name], after[name]) for name in stays)


def test_evaluating_without_an_environment_repeats_the_held_out_error(tmp_path: Path, toys: tuple[str, str]) -> None:
    scores = run(finetune_config(*toys, delayed_reward=True), tmp_path / "run")
    result = evaluate_run(tmp_path / "run", device="cpu")
    assert result["held_out_action_error"] == scores["held_out_action_error"]
    assert json.loads((tmp_path / "run" / "evaluations" / "held-out.json").read_text()) == result


def test_actions_stay_within_other_bounds(tmp_path: Path) -> None:
    data = dataset(tmp_path, bounds=4.0)
    run(finetune_config(data, learning_rate=0.1, warmup_steps=0), tmp_path / "run")
    policy = load_policy(tmp_path / "run" / "policy")
    policy.reset(2, 0)
    space = policy.action_space
    observations = 100 * torch.ones(2, 3).numpy()
    actions = policy.act(observations, torch.zeros(2).numpy())
    assert space.high == pytest.approx(4.0)
    assert abs(actions).max() <= 4.0


def test_what_cannot_work(tmp_path: Path, toys: tuple[str, str]) -> None:
    data, start = toys
    run(finetune_config(data, start), tmp_path / "run")
    with pytest.raises(RunError, match="learning_rate"):
        run(finetune_config(data, start, learning_rate=0.5), tmp_path / "run")
    with pytest.raises(BackboneError, match="nowhere"):
        run(finetune_config(data, "./nowhere"), tmp_path / "a")
    with pytest.raises(ConfigError, match="word"):
        run(finetune_config(data, "scratch", architecture="dt", recipe="paper"), tmp_path / "b")
    with pytest.raises(ConfigError, match=r"observations of shape \(3,\)"):
        run(finetune_config(data, start, environment="Hopper-v5"), tmp_path / "c")
    shutil.rmtree(tmp_path / "run" / "policy")
    with pytest.raises(RunError, match="no policy yet"):
        evaluate_run(tmp_path / "run")
    with pytest.raises(RunError, match="found none"):
        evaluate_run(tmp_path / "nothing")


def test_scores_are_normalised_by_the_datas_own_reference_or_the_users(tmp_path: Path) -> None:
    """In an environment whose returns no policy changes, so that only the scale does."""
    register_toys()
    generator = np.random.default_rng(0)
    data = build_dataset(
        "counted", generator.normal(size=(40, 2)), generator.uniform(-1, 1, (40, 2)), np.ones(40), [0, 20, 40],
        [True, True], environment="WikirlCountdown-v0",
        details={"reference": {"name": "counts", "minimum": 0.0, "maximum": 10.0, "source": "card.json"}},
    )  # fmt: skip
    save_dataset(data, tmp_path / "data")
    config = finetune_config(
        f"file:{tmp_path / 'data'}", environment="WikirlCountdown-v0", eval_episodes=3, num_steps=2, eval_every=1
    )
    for given, stamp, factor in (
        (None, "counts (0.0 to 10.0)", 10.0),
        ((0.0, 100.0), "user's own (0.0 to 100.0)", 1.0),
    ):
        folder = tmp_path / f"run-{factor}"
        scores = run(replace(config, reference=given), folder)
        assert [protocol["reference"] for protocol in scores["protocols"]] == [stamp]
        for found in scores["evaluations"]:
            assert found["normalized"] == pytest.approx([factor * value for value in found["returns"]])
        (entry,) = evaluate_run(folder, num_episodes=2, device="cpu")["evaluations"]
        assert (entry["protocol"]["reference"], entry["normalized_score"]) == (
            stamp, pytest.approx(factor * entry["return_mean"])
        )  # fmt: skip
    (entry,) = evaluate_run(folder, num_episodes=2, device="cpu", reference=(0.0, 50.0))["evaluations"]
    assert entry["protocol"]["reference"] == "user's own (0.0 to 50.0)"
    assert entry["normalized_score"] == pytest.approx(2 * entry["return_mean"])
    assert len(list((folder / "evaluations").iterdir())) == 2, "neither overwrote the other"
    together = finetune_together(
        [(replace(config, seed=seed), tmp_path / f"seed-{seed}") for seed in (0, 1)], device="cpu"
    )
    assert all(protocol["reference"] == "counts (0.0 to 10.0)" for one in together for protocol in one["protocols"])
    assert all(found["normalized"] is not None for one in together for found in one["evaluations"])
    with pytest.raises(ConfigError, match="expected the reference's minimum below its maximum"):
        run(replace(config, reference=(1.0, 0.0)), tmp_path / "c")
