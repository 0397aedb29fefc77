"""What is seen of runs while they are made."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.toys import finetune_config
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.progress import Follower, duration
from wikirl.experiments.queue_view import QueueView


def line(step: int, score: float | None = None) -> str:
    entry = {"normalized_score": score, "return_mean": 7.0}
    return json.dumps({"step": step, "loss": 1 / step} | ({} if score is None else {"evaluations": [entry]})) + "\n"


def write(folder: Path, text: str, mode: str = "a") -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open(mode) as file:
        file.write(text)


def test_a_run_is_followed_line_by_line(tmp_path: Path) -> None:
    run = Follower(tmp_path / "run")
    assert (run.step, run.loss, run.score, run.update()) == (0, None, None, [])
    write(tmp_path / "run", line(1) + line(2, 34.56) + line(3)[:7])
    assert run.update() == ["step 2: 34.6"]
    assert (run.step, run.loss, run.score) == (2, 0.5, "34.6")
    write(tmp_path / "run", line(3)[7:])
    assert run.update() == []
    assert run.step == 3


def test_a_run_that_is_set_back_is_followed_from_there(tmp_path: Path) -> None:
    write(tmp_path / "run", line(1) + line(2, 1.0) + line(3))
    run = Follower(tmp_path / "run")
    other = tmp_path / "other"
    write(other, line(1))
    (other / "metrics.jsonl").replace(tmp_path / "run" / "metrics.jsonl")
    assert run.update() == []
    assert run.step == 1
    write(tmp_path / "run", line(2, 1.0) + line(3, 2.0))
    assert run.update() == ["step 3: 2.0"]  # that of step 2 has been told


def test_times_are_as_exact_as_they_can_be() -> None:
    seconds = (0.2, 89.0, 100.0, 5300.0, 5401.0, 171_000.0, 200_000.0)
    assert [duration(each) for each in seconds] == ["1 s", "89 s", "2 min", "88 min", "1.5 h", "47.5 h", "2.3 days"]


def test_a_terminal_shows_the_queue_and_each_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    config: Any = finetune_config("x", num_steps=10)
    plans = [RunPlan("arm", config, tmp_path / name) for name in ("first", "second", "third")]
    write(plans[0].folder, line(4))
    with QueueView(plans, 2) as view:
        view.take(0, plans[0])
        view.take(1, plans[1])
        write(plans[0].folder, "".join(map(line, range(5, 10))) + line(10, 12.3))
        write(plans[1].folder, line(1))
        view.update()
        for bar in (view.whole, *view.own):
            bar.refresh()
        view.leave(0, plans[0])
        view.leave(1, plans[1], "no such dataset")
    shown = terminal.getvalue()
    assert "3 runs: " in shown
    assert "11/30" in shown
    assert "first : 100%" in shown
    assert "score=12.3" in shown
    assert "second:  10%" in shown
    assert "2 of 3 | second: failed: no such dataset" in shown
    assert "1 of 3 | first" not in shown  # its bar has shown it
