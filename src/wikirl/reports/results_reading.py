"""A study's results from its folder: suite.json and the run folders, or a results.json alone.

This file knows files and what a run folder holds. It deliberately judges no score.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wikirl.errors import ConfigError, RunError, WikiRLError
from wikirl.evaluation.protocol import Protocol
from wikirl.evaluation.scores import Evaluation
from wikirl.reports.json_values import value_from_json
from wikirl.reports.results import MissingRun, Origin, RunResult, Score, StudyResults
from wikirl.reports.suite_file import SUITE_FORMAT, Budget, PlannedRun, SuiteFile, Task
from wikirl.runs import read_json, read_metrics


@dataclass(frozen=True)
class _Scores:
    """What is read of scores.json."""

    num_steps: int
    num_parameters: int
    protocols: tuple[Protocol, ...]
    evaluations: tuple[Evaluation, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Config:
    """What is read of config.json; a baseline has no windows."""

    precision: str
    dataset_fingerprint: str
    batch_size: int | None = None
    context_length: int | None = None


@dataclass(frozen=True)
class _Provenance:
    """What is read of provenance.json."""

    versions: dict[str, Any]
    machine: dict[str, Any]
    git: dict[str, Any] | None


@dataclass(frozen=True)
class _Line:
    """What is read of a line of metrics.jsonl."""

    step: int
    seconds: float


def read_study(folder: Path) -> StudyResults:
    """The results in a folder that `wikirl suite run` left, or in one that holds a results.json.

    Raises:
        RunError: there is neither, or a file is missing or damaged; names it.
        ConfigError: what they hold does not fit together.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise RunError(f"expected the folder of a suite at {folder}; found {found}; give the --out of wikirl suite run")
    suite, results = folder / "suite.json", folder / "results.json"
    if suite.exists():
        return _read_suite(folder, suite)
    if not results.exists():
        raise RunError(
            f"expected suite.json or results.json in {folder}; found neither; give the --out of wikirl suite run"
        )
    with _naming(results):
        return StudyResults.from_json(read_json(results), str(results))


def read_suite_file(path: Path) -> SuiteFile:
    """What a suite.json says.

    Raises:
        RunError: it is missing, damaged or of another format.
        ConfigError: what it holds does not fit together.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != SUITE_FORMAT:
        raise RunError(
            f"expected {SUITE_FORMAT!r} as the format of {path}; is it of another version? run the suite again"
        )
    with _naming(path):
        suite = value_from_json(SuiteFile, content, "suite")
        tasks = {task.name for task in suite.tasks}
        for planned in suite.runs:
            if Path(planned.name).name != planned.name or planned.task not in tasks:
                raise ConfigError(f"expected a run's folder name and a task of the suite; found {planned.name!r}")
    return suite


def _read_suite(folder: Path, path: Path) -> StudyResults:
    suite = read_suite_file(path)
    tasks = {task.name: task for task in suite.tasks}
    runs, missing = [], []
    for planned in suite.runs:
        place = folder / "runs" / planned.name
        if (place / "scores.json").exists():
            runs.append(_read_run(place, planned, tasks[planned.task], suite.budget))
        else:
            words = (planned.name, planned.arm, planned.task, planned.seed, planned.command)
            missing.append(MissingRun(*words, _state(place, suite.budget)))
    with _naming(path):
        return StudyResults(
            suite.suite, suite.question, suite.budget, suite.primary, suite.tasks, suite.arms, tuple(runs),
            tuple(missing), suite.skipped,
        )  # fmt: skip


def _read_run(folder: Path, planned: PlannedRun, task: Task, budget: Budget) -> RunResult:
    parts = []
    for name, kind in (("scores.json", _Scores), ("config.json", _Config), ("provenance.json", _Provenance)):
        with _naming(folder / name):
            parts.append(value_from_json(kind, read_json(folder / name), "the file"))
    scores, config, made = parts
    assert isinstance(scores, _Scores)
    assert isinstance(config, _Config)
    assert isinstance(made, _Provenance)
    with _naming(folder / "scores.json"):
        protocol = _protocol_of(scores.protocols, task)
        chosen = [evaluation for evaluation in scores.evaluations if evaluation.target_return == protocol.target_return]
        if lost := [one.step for one in chosen if not np.isfinite([*one.returns, *(one.normalized or ())]).all()]:
            raise RunError(f"expected finite returns; found others at step {lost[0]}; make the run again")
    return RunResult(
        name=planned.name, arm=planned.arm, task=planned.task, seed=planned.seed, kind=planned.kind,
        command=planned.command, num_steps=scores.num_steps, batch_size=config.batch_size or budget.batch_size,
        context_length=config.context_length, num_parameters=scores.num_parameters,
        dataset_fingerprint=config.dataset_fingerprint, warnings=scores.warnings, protocol=protocol,
        origin=Origin(config.precision, made.versions, made.machine, made.git),
        scores=_timed(folder, chosen),
    )  # fmt: skip


def _protocol_of(protocols: Sequence[Protocol], task: Task) -> Protocol:
    """The one that belongs to the task's target return, or to a policy that is not asked for one."""
    fitting = [one for one in protocols if one.target_return in (task.target_return, None)]
    if task.target_return is None and len(protocols) == 1:
        return protocols[0]
    if len(fitting) != 1:
        targets = ", ".join(str(one.target_return) for one in protocols) or "none"
        raise ConfigError(f"expected one score at target return {task.target_return} of {task.name}; found {targets}")
    return fitting[0]


def _timed(folder: Path, evaluations: Sequence[Evaluation]) -> tuple[Score, ...]:
    """The evaluations with the run's clock."""
    path = folder / "metrics.jsonl"
    with _naming(path):
        scored = [evaluation.step for evaluation in evaluations]
        found = [line for line in read_metrics(folder) if isinstance(line, dict) and line.get("step") in scored]
        lines = [value_from_json(_Line, line, f"the line of step {line['step']}") for line in found]
        clock = {line.step: line.seconds for line in lines}
        if lost := [step for step in scored if step not in clock]:
            raise RunError(f"expected a line for step {lost[0]}, which was scored; found none; make the run again")
    if not evaluations:
        raise RunError(f"expected scores in an environment in {folder}; found none; a report needs them")
    return tuple(_score(evaluation, clock[evaluation.step]) for evaluation in sorted(evaluations, key=lambda e: e.step))


def _score(evaluation: Evaluation, seconds: float) -> Score:
    normalized = None if evaluation.normalized is None else float(np.mean(evaluation.normalized))
    returns = np.array(evaluation.returns)
    return Score(
        evaluation.step, seconds, float(returns.mean()), float(returns.std()), float(np.mean(evaluation.lengths)),
        normalized,
    )  # fmt: skip


def _state(folder: Path, budget: Budget) -> str:
    """How far a run without scores is, and what its process complained of last."""
    log = folder.with_name(f"{folder.name}.log")
    said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
    complaint = f"; it said: {said[0].removeprefix('wikirl: ')}" if said and said[0].startswith("wikirl: ") else ""
    lines = read_metrics(folder)
    if lines and isinstance(lines[-1], dict) and "step" in lines[-1]:
        return f"at step {lines[-1]['step']} of {budget.num_steps}{complaint}"
    return f"{'begun' if folder.is_dir() else 'not begun'}{complaint}"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in which file something does not fit."""
    try:
        yield
    except WikiRLError as error:
        if str(path) in str(error):
            raise
        raise RunError(f"{path}: {error}") from error
