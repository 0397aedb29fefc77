"""Suite folders as `wikirl suite run` leaves them, with scores drawn at random instead of trained for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wikirl.evaluation.protocol import Protocol
from wikirl.evaluation.references import reference_for
from wikirl.evaluation.scores import Evaluation, summarize
from wikirl.runs import write_json

VERSIONS = {"python": "3.11.9", "wikirl": "0.1.0", "torch": "2.13.0", "numpy": "2.3.5"}
MACHINE = {"system": "Linux", "processor": "a processor", "num_cpus": 2, "num_threads": 1, "cuda": None}


@dataclass(frozen=True)
class ToyTask:
    """A task; one without a known environment has raw returns only."""

    name: str = "hopper-medium"
    environment: str = "Hopper-v5"
    target_return: float | None = 2800.0
    note: str | None = "collected here, not D4RL's"


@dataclass(frozen=True)
class ToyArm:
    """An arm whose scores end around `level` normalised points, whatever the task."""

    name: str
    level: float = 50.0
    against: str | None = "scratch"
    published: str | None = None
    num_tokens: int | None = None
    control: bool | None = None
    kind: str = "finetune"
    speed: float = 1.0


SCRATCH = ToyArm("scratch", against=None, published="DT")


def write_suite(
    folder: Path,
    arms: Sequence[ToyArm],
    tasks: Sequence[ToyTask] = (ToyTask(),),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    num_evaluations: int = 6,
    noise: float = 3.0,
    primary: tuple[str, str] | None = None,
    unfinished: Callable[[str, str, int], bool] = lambda arm, task, seed: False,
    skipped: Sequence[Mapping[str, str]] = (),
    change: Callable[[str, str, int, dict[str, Any]], None] = lambda arm, task, seed, files: None,
    num_episodes: int = 5,
) -> Path:
    """Write suite.json and the run folders.

    Args:
        folder: Where to.
        arms: The first is what the verdict is about, the second its reference, unless `primary` says otherwise.
        tasks: All arms have all of them.
        seeds: Likewise.
        num_evaluations: Scores of a run.
        noise: Deviation between seeds, in points.
        primary: Arm and reference.
        unfinished: Runs that have no scores.
        skipped: As suite.json has it.
        change: What else to do to the files of a run before they are written.
        num_episodes: Episodes a score.
    """
    runs = []
    for task in tasks:
        for arm in arms:
            for seed in seeds:
                name = f"{task.name}.{arm.name}.seed-{seed}.0123abcd".replace("/", "-")
                command = f"wikirl finetune --dataset=builtin:{task.name} --seed={seed} --out=runs/x"
                words = {"name": name, "arm": arm.name, "task": task.name, "kind": arm.kind, "command": command}
                runs.append(words | {"seed": seed})
                if not unfinished(arm.name, task.name, seed):
                    files = run_files(arm, task, seed, num_evaluations, noise, num_episodes)
                    change(arm.name, task.name, seed, files)
                    write_run(folder / "runs" / name, files)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "suite.json", {
        "format": "wikirl suite 1", "suite": "toy", "question": "Does it help?",
        "budget": {
            "name": "smoke", "num_steps": 100 * num_evaluations, "batch_size": 4, "learning_rate": 1e-3,
            "num_evaluations": num_evaluations, "eval_episodes": num_episodes, "seeds": list(seeds),
        },
        "primary": list(primary or (arms[0].name, arms[1].name)),
        "tasks": [
            {"name": t.name, "dataset": f"builtin:{t.name}", "environment": t.environment,
             "target_return": t.target_return, "note": t.note} for t in tasks
        ],
        "arms": [
            {"name": a.name, "description": f"{a.name} in a sentence", "against": a.against, "published": a.published,
             "control": a.control, "pretraining": a.num_tokens and {
                 "num_tokens": a.num_tokens, "seconds": a.num_tokens / 6000, "source": "its card"}} for a in arms
        ],
        "runs": runs,
        "skipped": list(skipped),
    })  # fmt: skip
    return folder


def run_files(
    arm: ToyArm, task: ToyTask, seed: int, num_evaluations: int, noise: float, num_episodes: int
) -> dict[str, Any]:
    """The JSON files of one run by name, and the lines of metrics.jsonl; a seed's luck is shared by all arms."""
    target = None if arm.kind == "baseline" else task.target_return
    evaluations = _evaluations(arm, task, seed, num_evaluations, noise, num_episodes, target)
    reference = reference_for(task.environment)
    stamp = None if reference is None else reference.stamp
    protocol = Protocol(
        ("last", "mean_last_four", "best"), target, task.environment, "1.2.2", "3.4.0", stamp, num_episodes, (0,),
        False, "exact", None, task.environment, None,
    )  # fmt: skip
    clock = 0.05 * (2.0 if arm.kind == "baseline" else 1.0)
    return {
        "config.json": {
            "kind": arm.kind, "precision": "float32", "dataset_fingerprint": f"0f1e2d3c4b5a{task.name}",
            "batch_size": 4, "context_length": None if arm.kind == "baseline" else 20,
        },
        "provenance.json": {
            "versions": dict(VERSIONS), "machine": dict(MACHINE), "git": {"commit": "0" * 40, "dirty": False},
        },
        "scores.json": {
            "num_steps": 100 * num_evaluations, "num_parameters": 700_000, "environment": task.environment,
            "warnings": [], "summary": [summary.to_json() for summary in summarize(evaluations)],
            "protocols": [protocol.to_json()], "evaluations": [one.to_json() for one in evaluations],
        },
        "metrics.jsonl": [
            {"step": one.step, "loss": 1.0, "seconds": round(clock * one.step + 0.01 * seed, 3)} for one in evaluations
        ],
    }  # fmt: skip


def _evaluations(
    arm: ToyArm, task: ToyTask, seed: int, num_evaluations: int, noise: float, num_episodes: int, target: float | None
) -> list[Evaluation]:
    shared = np.random.default_rng([seed, *task.name.encode()]).normal()
    own = np.random.default_rng([seed, *task.name.encode(), *arm.name.encode()])
    level = arm.level + noise * (shared + own.normal())
    reference = reference_for(task.environment)
    low, high = (reference.minimum, reference.maximum) if reference else (0.0, 100.0)
    found = []
    for place in range(1, num_evaluations + 1):
        rise = 1 - np.exp(-4 * arm.speed * place / num_evaluations)
        points = level * rise + own.normal(0, 1.5) + own.normal(0, 6, num_episodes)
        returns = low + (high - low) * points / 100
        lengths = np.full(num_episodes, 200)
        found.append(Evaluation.of(task.environment, 100 * place, target, returns, lengths))
    return found


def write_run(folder: Path, files: Mapping[str, Any]) -> None:
    """A run folder from its files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        lines = content if name == "metrics.jsonl" else [content]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
