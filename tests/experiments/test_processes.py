"""A queue of runs against the same runs one by one, while its processes are killed and interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.toys import backbone, dataset, finetune_config
from wikirl.errors import ConfigError, RunError
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.processes import MOST_DEATHS, alone_in, run_in_processes
from wikirl.experiments.worker import Machine, make_run, plan_to_json
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.settings import FinetuneConfig
from wikirl.runs import checkpoints_of, read_metrics

MACHINE = Machine("cpu", "float32", 1)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder), backbone(folder)


def plans_in(folder: Path, toys: tuple[str, str], num_runs: int) -> list[RunPlan]:
    """Mostly Transformers with a held-out error; every sixth is scored in CartPole, every sixth a baseline."""
    data, start = toys
    often: dict[str, Any] = {"num_steps": 20, "eval_every": 10, "checkpoint_every": 4}
    scored = often | {"environment": "CartPole-v1", "eval_episodes": 1, "target_returns": (100.0,)}
    plans = []
    for seed in range(num_runs):
        config: Any = finetune_config(data, start, seed=seed, **often)
        if seed % 6 == 1:
            config = finetune_config("builtin:cartpole-medium-replay", start, seed=seed, **scored)
        if seed % 6 == 2:
            config = BaselineConfig(data, seed=seed, batch_size=4, hidden_size=16, **often)
        plans.append(RunPlan("toy", config, folder / f"toy.seed-{seed}"))
    return plans


def endless(toys: tuple[str, str], seed: int) -> FinetuneConfig:
    """A run that saves nothing unless it is stopped."""
    return finetune_config(*toys, seed=seed, num_steps=100_000, eval_every=100_000)


def lines_of(plans: Sequence[RunPlan]) -> int:
    files = [plan.folder / "metrics.jsonl" for plan in plans]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def workers() -> list[int]:
    """The processes that work for this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and b"wikirl.experiments.worker_process" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended
    return found


@contextmanager
def meanwhile(act: Any) -> Iterator[None]:
    """Let `act(over)` go on in a thread while the block does; `over()` says that the block has ended."""
    over = threading.Event()
    thread = threading.Thread(target=act, args=(over.is_set,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def killer(plans: Sequence[RunPlan], num_kills: int, kills: list[int]) -> Any:
    """Kill some worker, again and again, each time after some steps, however long these take."""
    chance = random.Random(0)

    def act(over: Any) -> None:
        while len(kills) < num_kills and not over():
            until = lines_of(plans) + chance.randint(1, sum(p.config.num_steps for p in plans) // (2 * num_kills))
            while lines_of(plans) < until and not over():
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))
            if alive := workers():
                kills.append(chance.choice(alive))
                os.kill(kills[-1], signal.SIGKILL)

    return act


def left_by(plan: RunPlan) -> dict[str, Any]:
    """What a run comes to, to the bit: everything but times."""
    left: dict[str, Any] = {
        str(path.relative_to(plan.folder)): path.read_bytes()
        for path in [plan.folder / "scores.json", *(plan.folder / "policy").iterdir()]
    }
    left["curve"] = [{**line, "seconds": None} for line in read_metrics(plan.folder)]
    return left


def check_kills(tmp_path: Path, toys: tuple[str, str], num_runs: int, num_kills: int) -> None:
    plans, alone = (plans_in(tmp_path / name, toys, num_runs) for name in ("queue", "alone"))
    refused = RunPlan("toy", finetune_config("file:nowhere"), tmp_path / "queue" / "refused")
    kills: list[int] = []
    with meanwhile(killer(plans, num_kills, kills)):
        troubles = run_in_processes([plans[0], refused, *plans[1:]], MACHINE, num_processes=2)
    assert len(kills) == num_kills
    assert list(troubles) == ["refused"]
    assert "nowhere" in troubles["refused"]
    for plan, expected in zip(plans, alone, strict=True):
        make_run(expected, MACHINE)
        assert left_by(plan) == left_by(expected)
    assert not workers()


def test_killed_processes_lose_nothing(
    tmp_path: Path, toys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    check_kills(tmp_path, toys, num_runs=12, num_kills=3)  # a new process takes seconds, so no more kills than this
    said = capsys.readouterr().err
    assert said.count("ended by signal 9; it will go on") >= 2  # the last may have hit a process that had nothing to do
    assert "13 of 13" in said
    assert "refused: failed: " in said


@pytest.mark.slow
def test_two_hundred_runs_lose_nothing_to_twenty_kills(tmp_path: Path, toys: tuple[str, str]) -> None:
    check_kills(tmp_path, toys, num_runs=200, num_kills=20)


def test_an_interrupt_saves_every_run(tmp_path: Path, toys: tuple[str, str]) -> None:
    plans = [RunPlan("toy", endless(toys, seed), tmp_path / f"run-{seed}") for seed in range(3)]
    found: list[str] = []

    def interrupt(over: Any) -> None:
        while not (all(read_metrics(plan.folder) for plan in plans[:2]) or over()):
            time.sleep(0.05)
        try:
            run_in_processes(plans, MACHINE, num_processes=2)
        except RunError as error:
            found.append(str(error))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), meanwhile(interrupt):
        run_in_processes(plans, MACHINE, num_processes=2)
    assert found == [f"{tmp_path} is in use by another process; wait for it or choose another --out"]
    assert not workers()
    for plan in plans[:2]:
        steps = [line["step"] for line in read_metrics(plan.folder)]
        assert steps == list(range(1, len(steps) + 1))
        assert [checkpoint.step for checkpoint in checkpoints_of(plan.folder)] == [len(steps)]
    assert not plans[2].folder.exists()


def test_a_worker_whose_suite_was_killed_saves_its_run_and_the_next_suite_waits_for_it(
    tmp_path: Path, toys: tuple[str, str]
) -> None:
    plan = RunPlan("toy", endless(toys, 0), tmp_path / "run")
    with alone_in(tmp_path) as key:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "wikirl.experiments.worker_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[key],
        )  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        task = {"plan": plan_to_json(plan), "machine": asdict(MACHINE)}
        worker.stdin.write(json.dumps(task).encode() + b"\n")
        worker.stdin.flush()
        while not read_metrics(plan.folder):
            time.sleep(0.05)
    worker.stdin.close()  # as the system does for a process that was killed
    with alone_in(tmp_path):
        assert [checkpoint.step for checkpoint in checkpoints_of(plan.folder)] == [len(read_metrics(plan.folder))]
    assert worker.wait() == 130
    worker.stdout.close()


def test_a_process_that_breaks_is_a_bug_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [RunPlan("toy", finetune_config("x"), tmp_path / name) for name in ("a", "b")]
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"a: a bug \(it said nothing\); all of it is in .*a\.log; b: a bug"):
        run_in_processes(plans, MACHINE, num_processes=2)


def test_a_run_that_kills_its_process_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dies"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    troubles = run_in_processes([RunPlan("toy", finetune_config("x"), tmp_path / "a")], MACHINE, num_processes=1)
    assert troubles["a"].startswith(f"its process was ended by signal 9 {MOST_DEATHS} times before it could save")


def test_what_cannot_be_a_queue(tmp_path: Path) -> None:
    plan = RunPlan("toy", finetune_config("x"), tmp_path / "a")
    with pytest.raises(ConfigError, match="at least 1 process; found 0"):
        run_in_processes([plan], MACHINE, num_processes=0)
    with pytest.raises(ConfigError, match="different names"):
        run_in_processes([plan, plan], MACHINE, num_processes=1)
    assert run_in_processes([], MACHINE, num_processes=2) == {}
