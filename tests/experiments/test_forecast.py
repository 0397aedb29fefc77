"""Forecasts against finished runs whose seconds were made up, and against a few real steps."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.toys import backbone, dataset, finetune_config
from wikirl.experiments import forecast as forecasts
from wikirl.experiments.forecast import Forecast, forecast
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.worker import Machine, make_run
from wikirl.recipes.baseline_settings import BaselineConfig

MACHINE = Machine("cpu", "float32", 1)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder), backbone(folder)


def write_finished(plan: RunPlan, *, step: float, score: float) -> None:
    """A finished run, each of whose steps took `step` seconds and each of whose scores took `score`."""
    plan.folder.mkdir(parents=True)
    kind = "baseline" if isinstance(plan.config, BaselineConfig) else "finetune"
    values = {**asdict(plan.config), "kind": kind, "precision": "float32"}
    (plan.folder / "config.json").write_text(json.dumps(values))
    (plan.folder / "scores.json").write_text("{}")
    seconds, lines = 0.0, []
    for number in range(1, plan.config.num_steps + 1):
        assert plan.config.eval_every is not None
        scored = number % plan.config.eval_every == 0
        seconds += step + score * scored
        line: dict[str, Any] = {"step": number, "loss": 1.0, "seconds": round(seconds, 3)}
        lines.append(json.dumps(line | ({"evaluations": []} if scored else {})))
    (plan.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def scored_plans(folder: Path, **options: Any) -> list[RunPlan]:
    """Five runs of 100 steps with 4 scores of 10 episodes."""
    usual: dict[str, Any] = {"environment": "Hopper-v5", "num_steps": 100, "eval_every": 25, "eval_episodes": 10}
    config = finetune_config("file:nowhere", **(usual | options))
    return [RunPlan("arm", replace(config, seed=seed), folder / "runs" / f"run-{seed}") for seed in range(5)]


def test_finished_runs_tell_what_the_others_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "available_cpus", lambda: 2)
    plans = scored_plans(tmp_path)
    write_finished(plans[0], step=0.5, score=20.0)
    write_finished(plans[1], step=0.7, score=30.0)
    found = forecast(plans, MACHINE, num_processes=2)
    # 3 runs of 100 steps of 0.6 s and 4 scores of 25 s: 160 s each, two at once, then the third.
    assert (found.num_runs, found.num_known_shapes, found.num_timed_shapes) == (3, 1, 0)
    assert found.seconds == pytest.approx(320)
    assert found.step_seconds == pytest.approx(120)
    assert found.score_seconds == pytest.approx(200)
    assert found == forecast(plans[2:], MACHINE, num_processes=2)
    assert found.sentence() == (
        "3 runs: about 5 min on 2 processes (steps 2 min, scores 3 min), from finished runs of 1 shape"
    )
    (plans[2].folder / "checkpoints" / "step-60").mkdir(parents=True)  # 40 steps and 2 scores are left
    assert forecast(plans[2:3], MACHINE, num_processes=2).seconds == pytest.approx(40 * 0.6 + 2 * 25)
    # More episodes and steps of the same shape take longer in proportion; on three cores' worth of processes no less.
    more = scored_plans(tmp_path, num_steps=200, eval_episodes=30)[2:3]
    assert forecast(more, MACHINE, num_processes=3).seconds == pytest.approx(140 * 0.6 + 6 * 75)


def test_what_cannot_start_costs_nothing(tmp_path: Path) -> None:
    found = forecast(scored_plans(tmp_path), MACHINE, num_processes=2)
    assert (found.num_runs, found.seconds, found.num_timed_shapes) == (5, 0.0, 0)
    assert forecast([], MACHINE, num_processes=2).sentence() == "nothing is left to run"


def test_steps_are_timed_where_nothing_is_known(
    tmp_path: Path, toys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, start = toys
    scored: dict[str, Any] = {"environment": "CartPole-v1", "eval_episodes": 2, "target_returns": (100.0,)}
    tiny = finetune_config(data, start, recipe="paper")
    plans = [
        RunPlan("a", tiny, tmp_path / "runs" / "a"),
        RunPlan("a", replace(tiny, seed=1, num_steps=80), tmp_path / "runs" / "more steps of the same"),
        RunPlan("b", finetune_config("builtin:cartpole-medium-replay", start, **scored), tmp_path / "runs" / "scored"),
        RunPlan("c", BaselineConfig(data, num_steps=8, batch_size=4, hidden_size=16), tmp_path / "runs" / "baseline"),
    ]
    one = forecast(plans[:1], MACHINE, num_processes=1)
    assert one.sentence().endswith(", from 5 timed steps of 1 shape")
    assert 0 < one.step_seconds < one.seconds
    every = forecast(plans, MACHINE, num_processes=2)
    assert every.sentence().endswith(", from 5 timed steps of each of 3 shapes")
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(forecasts, "MOST_SECONDS", 0.0)
    some = forecast(plans, MACHINE, num_processes=2)
    assert (some.num_timed_shapes, some.num_guessed_shapes) == (1, 2)
    assert some.sentence().endswith(", from 5 timed steps of 1 shape, extrapolated to 2 other shapes")
    make_run(plans[3], MACHINE)
    assert forecast(plans, MACHINE, num_processes=2).num_known_shapes == 0  # of shapes that are still to be made


def test_a_sentence_counts_in_words() -> None:
    found = Forecast(1, 1, 7200.0, 5400.0, 1800.0, 0, 2, 1, 1)
    assert found.sentence() == (
        "1 run: about 2.0 h on 1 process (steps 1.5 h, scores 30 min), from 1 timed step of each of 2 shapes, "
        "extrapolated to 1 other shape"
    )
