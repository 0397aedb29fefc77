import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.recipes.toys import dataset, finetune_config
from wikirl import cli
from wikirl.errors import ConfigError, RunError
from wikirl.experiments.demo import DemoSettings
from wikirl.experiments.many_runs import RunPlan, finetune_seeds, make_runs
from wikirl.recipes.finetune import finetune
from wikirl.recipes.settings import FinetuneConfig


@pytest.mark.parametrize(
    "config",
    [
        DemoSettings().plans(Path("out"))[1].config,
        FinetuneConfig("file:-x", backbone="-y", target_returns=(1.5, -2.0), delayed_reward=True, clip_norm=0.0),
    ],
)
def test_the_command_line_says_the_whole_configuration(config: FinetuneConfig) -> None:
    words = RunPlan("arm", config, Path("some/run")).command(3)
    options = vars(cli._parser(words).parse_args(words))
    found = {field.name: options[field.name] for field in fields(FinetuneConfig)}
    if found["target_returns"] is not None:
        found["target_returns"] = tuple(found["target_returns"])
    assert FinetuneConfig(**found) == config
    assert (options["out"], options["num_threads"]) == (Path("some/run"), 3)


def test_the_demo_compares_arms_seed_by_seed() -> None:
    plans = DemoSettings(seeds=(5, 7)).plans(Path("out"))
    assert [plan.name for plan in plans] == [
        "scratch, seed 5",
        "chibit, seed 5",
        "scratch, seed 7",
        "chibit, seed 7",
    ]
    assert len({plan.folder for plan in plans}) == 4
    assert all(isinstance(plan.config, FinetuneConfig) and plan.config.architecture == "chibit" for plan in plans)


def test_a_run_of_another_configuration_is_refused_in_its_own_words(tmp_path: Path) -> None:
    plan = RunPlan("chibit", FinetuneConfig("builtin:hopper-medium-replay"), tmp_path / "run")
    plan.folder.mkdir()
    (plan.folder / "config.json").write_text(json.dumps({"learning_rate": 7}))
    with pytest.raises(RunError, match=r"^chibit, seed 0: .* holds a run with other settings .* choose another --out"):
        make_runs([plan], num_parallel=2, num_threads=1)


def test_a_run_that_breaks_is_a_bug_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        make_runs([RunPlan("arm", FinetuneConfig("x"), tmp_path / "run")], num_parallel=1, num_threads=1)


def test_several_seeds_are_the_runs_one_by_one(tmp_path: Path) -> None:
    config = finetune_config(dataset(tmp_path), num_steps=4)
    results = finetune_seeds(config, tmp_path / "many", [3, 5], device="cpu", precision="float32")
    assert [result["seed"] for result in results] == [3, 5]
    alone = finetune(replace(config, seed=5), tmp_path / "alone", device="cpu", precision="float32")
    assert results[1]["held_out_action_error"] == pytest.approx(alone["held_out_action_error"], rel=1e-5)
    assert results[0]["held_out_action_error"] != results[1]["held_out_action_error"]
    with pytest.raises(ConfigError, match="different seeds; found 3 3"):
        finetune_seeds(config, tmp_path / "many", [3, 3])
