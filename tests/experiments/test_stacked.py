"""Stacked runs of a suite: which go together, and what becomes of the others when one fails."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.models.decoders import write_decoder
from tests.recipes.toys import backbone, corpus, dataset, finetune_config
from wikirl.errors import ConfigError
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.stacked import groups, run_stacked
from wikirl.experiments.worker import Machine, is_finished
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.finetune import finetune
from wikirl.recipes.settings import FinetuneConfig
from wikirl.runs import read_metrics

MACHINE = Machine("cpu", "float32", 1)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder), backbone(folder)


def plan(folder: Path, name: str, config: FinetuneConfig | BaselineConfig) -> RunPlan:
    return RunPlan("toy", config, folder / name)


def grouped(plans: list[RunPlan], most_together: int = 10) -> list[str]:
    return [" ".join(plan.folder.name for plan in group) for group in groups(plans, most_together)]


def test_what_goes_together(tmp_path: Path, toys: tuple[str, str]) -> None:
    data, start = toys
    one = finetune_config(data, start)
    text = str(corpus(tmp_path))
    plans = [
        plan(tmp_path, "a", one),
        plan(tmp_path, "baseline", BaselineConfig(data)),
        plan(tmp_path, "b", replace(one, seed=1)),
        plan(tmp_path, "wider", replace(one, backbone="chibit-iid")),
        plan(tmp_path, "text", replace(one, cotraining_corpus=text)),
        plan(tmp_path, "batch", replace(one, batch_size=5)),
        plan(tmp_path, "foreign", replace(one, backbone=write_decoder(tmp_path / "decoder", "llama"))),
        plan(tmp_path, "nowhere", replace(one, backbone=str(tmp_path / "nowhere"))),
        plan(tmp_path, "permuted", replace(one, backbone=f"permuted:{start}", alignment_weight=0.3)),
        plan(tmp_path, "scratch", replace(one, backbone="scratch", architecture=start)),
        plan(tmp_path, "c", replace(one, seed=2)),
    ]
    alone = ["baseline", "wider", "text", "batch", "foreign", "nowhere", "scratch"]
    assert grouped(plans) == ["a b permuted c", *alone]
    assert grouped(plans, 3) == ["a b permuted", "c", *alone]


def test_runs_go_on_with_those_that_stand_where_they_do(tmp_path: Path, toys: tuple[str, str]) -> None:
    plans = [plan(tmp_path, str(seed), finetune_config(*toys, seed=seed)) for seed in range(6)]
    saved = [(4, 8), (4,), (), (8, 12), (), (12,)]
    for one, steps in zip(plans, saved, strict=True):
        for step in steps:
            (one.folder / "checkpoints" / f"step-{step}").mkdir(parents=True)
    assert grouped(plans) == ["2 4", "0 1", "3 5"]


def curve(run: Path) -> list[list[float]]:
    return [[line["step"], line["loss"]] for line in read_metrics(run)]


def test_a_suite_is_made_stacked_and_a_broken_run_stops_no_other(
    tmp_path: Path, toys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = finetune_config(*toys)
    plans = [plan(tmp_path / "runs", str(seed), replace(config, seed=seed)) for seed in range(4)]
    other: Any = {"algorithm": "bc", "num_steps": 4, "hidden_size": 16, "batch_size": 4}
    plans.append(plan(tmp_path / "runs", "baseline", BaselineConfig(config.dataset, **other)))
    plans[2].folder.mkdir(parents=True)
    (plans[2].folder / "config.json").write_text('{"learning_rate": 7}')  # of another run
    troubles = run_stacked(plans, MACHINE)
    assert list(troubles) == ["2"]
    assert "holds a run with other settings" in troubles["2"]
    assert [is_finished(one) for one in plans] == [True, True, False, True, True]
    said = capsys.readouterr().err
    assert "finetune, 2 runs" in said  # the first half
    assert "5 of 5 runs, 1 of them failed" in said
    finetune(replace(config, seed=3), tmp_path / "alone", device="cpu", precision="float32")
    for found, wanted in zip(curve(plans[3].folder), curve(tmp_path / "alone"), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(ConfigError, match="at least 1 run together"):
        run_stacked(plans, MACHINE, most_together=0)


def test_a_group_that_was_cut_short_goes_on(tmp_path: Path, toys: tuple[str, str]) -> None:
    plans = [plan(tmp_path / "runs", str(seed), finetune_config(*toys, seed=seed)) for seed in range(3)]
    assert run_stacked(plans, MACHINE) == {}
    expected = [curve(one.folder) for one in plans]
    for one in plans:
        (one.folder / "scores.json").unlink()
    for one in plans[:2]:  # as if killed while the last checkpoints were being written
        shutil.rmtree(one.folder / "checkpoints" / "step-8")
    assert run_stacked(plans, MACHINE) == {}
    assert [curve(one.folder) for one in plans] == expected
    assert all(is_finished(one) for one in plans)
