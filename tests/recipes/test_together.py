"""Stacked runs against the same runs one by one: curves, checkpoints, policies."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.models.decoders import write_decoder
from wikirl.errors import ConfigError, RunError
from wikirl.recipes.finetune import finetune, prepare
from wikirl.recipes.objective import record
from wikirl.recipes.settings import FinetuneConfig
from wikirl.recipes.together import Group, finetune_together
from wikirl.runs import Run

from .toys import backbone, corpus, dataset, finetune_config


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder), backbone(folder)


def curve(run: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ["loss", "action_loss", "alignment_loss", "gradient_norm", "learning_rate", "held_out_action_error"]
    names += ["held_out_action_accuracy"]
    return [[line[name] for name in names if name in line] for line in lines]


def check_same_run(found: Path, expected: Path) -> None:
    torch.testing.assert_close(curve(found), curve(expected), rtol=1e-4, atol=1e-5)
    for name in ("policy/model.safetensors", "checkpoints/step-8/optimizer.safetensors"):
        torch.testing.assert_close(load_file(found / name), load_file(expected / name), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of discrete actions."""
    return dataset(tmp_path_factory.mktemp("choices"), choices=True)


def configs_of(toys: tuple[str, str], **options: Any) -> list[FinetuneConfig]:
    """Two seeds and, with an alignment loss, another weight of it."""
    data, start = toys
    usual = {"num_steps": 8, "learning_rate": 3e-3, "warmup_steps": 2, "clip_norm": 0.05} | options
    own: list[dict[str, Any]] = [{"seed": 0}, {"seed": 1}]
    own += [{"seed": 1, "alignment_weight": 0.5}] if "recipe" in options else []
    return [finetune_config(data, start, **(usual | values)) for values in own]


@pytest.mark.parametrize("options", [{}, {"recipe": "paper", "parameter_groups": "uniform"}, {"recipe": "released"}])
def test_together_is_as_one_by_one(tmp_path: Path, toys: tuple[str, str], options: dict[str, Any]) -> None:
    configs = configs_of(toys, **options)
    finetune_together(
        [(config, tmp_path / f"together-{number}") for number, config in enumerate(configs)],
        device="cpu", precision="float32",
    )  # fmt: skip
    for number, config in enumerate(configs):
        finetune(config, tmp_path / f"alone-{number}", device="cpu", precision="float32")
        check_same_run(tmp_path / f"together-{number}", tmp_path / f"alone-{number}")
    assert curve(tmp_path / "together-0") != curve(tmp_path / "together-1")


@pytest.mark.parametrize("options", [{}, {"share_projection": True}])
def test_choices_together_are_as_one_by_one(
    tmp_path: Path, toys: tuple[str, str], choices: str, options: dict[str, Any]
) -> None:
    test_together_is_as_one_by_one(tmp_path, (choices, toys[1]), options)
    assert "held_out_action_accuracy" in (tmp_path / "together-0" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("discrete", [False, True])
def test_recorded_gradients_train_together_alike(
    tmp_path: Path, toys: tuple[str, str], choices: str, discrete: bool
) -> None:
    """What a GPU does, without its graph: fixed inputs, gradients in place."""
    data = choices if discrete else toys[0]
    configs = configs_of((data, toys[1]), recipe="paper", parameter_groups="uniform")
    curves = []
    for recorded in (False, True):
        with ExitStack() as folders:
            runs = [
                folders.enter_context(Run(tmp_path / f"{recorded}-{number}", {}, {})) for number in range(len(configs))
            ]
            group = Group([prepare(config, None) for config in configs], runs, "cpu")
            if recorded:
                group.recorded = record(group.trajectory_objective, [session.dropout for session in group.sessions])
            curves.append(list(group.steps()))
    assert curves[0] == curves[1]


def test_scored_together_is_as_scored_one_by_one(tmp_path: Path) -> None:
    config = FinetuneConfig(
        "builtin:hopper-medium-replay", environment="Hopper-v5", backbone="scratch", architecture="dt", num_steps=2,
        batch_size=4, context_length=5, eval_every=1, eval_episodes=3, target_returns=(900.0, 300.0),
    )  # fmt: skip
    runs = [(replace(config, seed=seed), tmp_path / str(seed)) for seed in (0, 1)]
    together = finetune_together(runs, device="cpu", precision="float32")
    for (one, folder), found in zip(runs, together, strict=True):
        alone = finetune(one, folder.with_name(f"alone-{one.seed}"), device="cpu", precision="float32")
        for mine, theirs in zip(found["evaluations"], alone["evaluations"], strict=True):
            assert mine["step"] == theirs["step"]
            assert mine["target_return"] == theirs["target_return"]
            assert mine["lengths"] == theirs["lengths"]
            assert mine["returns"] == pytest.approx(theirs["returns"], rel=1e-3)
    assert together[0]["evaluations"][0]["returns"] != together[1]["evaluations"][0]["returns"]


def test_scratch_and_a_language_model_train_together(tmp_path: Path, toys: tuple[str, str]) -> None:
    data, start = toys
    configs = [finetune_config(data, backbone, architecture=start) for backbone in (start, "scratch")]
    finetune_together([(config, tmp_path / config.backbone[-4:]) for config in configs], precision="float32")
    finetune(configs[1], tmp_path / "alone", precision="float32")
    check_same_run(tmp_path / "atch", tmp_path / "alone")


def test_runs_go_on_from_the_last_checkpoint_that_all_have(tmp_path: Path, toys: tuple[str, str]) -> None:
    runs = [(config, tmp_path / f"run-{number}") for number, config in enumerate(configs_of(toys))]
    finetune_together(runs, device="cpu", precision="float32")
    before = [curve(folder) for _, folder in runs]
    weights = [load_file(folder / "policy" / "model.safetensors") for _, folder in runs]
    shutil.rmtree(runs[0][1] / "checkpoints" / "step-8")
    finetune_together(runs, device="cpu", precision="float32")
    assert [curve(folder) for _, folder in runs] == before
    for (_, folder), expected in zip(runs, weights, strict=True):
        found = load_file(folder / "policy" / "model.safetensors")
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_stacked_run_can_go_on_alone(tmp_path: Path, toys: tuple[str, str]) -> None:
    config, other = configs_of(toys)
    finetune_together([(config, tmp_path / "run"), (other, tmp_path / "other")], device="cpu", precision="float32")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-8")
    finetune(config, tmp_path / "run", device="cpu", precision="float32")
    finetune(config, tmp_path / "alone", device="cpu", precision="float32")
    check_same_run(tmp_path / "run", tmp_path / "alone")


def test_what_cannot_be_stacked(tmp_path: Path, toys: tuple[str, str]) -> None:
    data, start = toys
    one = finetune_config(data, start)
    for other, named in (({"batch_size": 5}, "batch_size"), ({"freeze": "blocks"}, "freeze")):
        with pytest.raises(ConfigError, match=named):
            finetune_together([(one, tmp_path / "a"), (finetune_config(data, start, **other), tmp_path / "b")])
    text = str(corpus(tmp_path))
    reading = [finetune_config(data, start, cotraining_corpus=text, seed=seed) for seed in (0, 1)]
    with pytest.raises(ConfigError, match="cotraining-corpus"):
        finetune_together([(config, tmp_path / str(config.seed)) for config in reading])
    decoder = write_decoder(tmp_path / "decoder", "llama")
    for foreign in (finetune_config(data, decoder), finetune_config(data, "scratch", architecture=decoder)):
        with pytest.raises(
            ConfigError, match=f"GPT-2 family to train together; {decoder} is of another; .* one by one"
        ):
            finetune_together([(replace(foreign, seed=seed), tmp_path / "a") for seed in (0, 1)])
    assert not (tmp_path / "a").exists()


def test_a_finished_run_is_not_lost_to_one_that_has_yet_to_begin(tmp_path: Path, toys: tuple[str, str]) -> None:
    finished, fresh = configs_of(toys)
    finetune(finished, tmp_path / "finished", device="cpu", precision="float32")
    before = curve(tmp_path / "finished")
    runs = [(finished, tmp_path / "finished"), (fresh, tmp_path / "fresh")]
    with pytest.raises(RunError, match=r"from step 0; it stands at step 8; finish it alone"):
        finetune_together(runs, device="cpu", precision="float32")
    assert curve(tmp_path / "finished") == before
    assert (tmp_path / "finished" / "checkpoints" / "step-8").is_dir()
