"""What a study came to, in one value: the scores of all its runs and how they were made, without checkpoints.

This file knows what must hold of results before anything is computed from them: names that fit, one protocol in a task,
the same evaluations in an arm. It deliberately knows no folder (`results_reading`) and no statistics (`study`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wikirl.errors import ConfigError
from wikirl.evaluation.protocol import Protocol, require_same_protocol
from wikirl.reports.json_values import value_from_json
from wikirl.reports.suite_file import Arm, Budget, Skipped, Task

FORMAT = "wikirl results 1"


@dataclass(frozen=True)
class Score:
    """One evaluation: means over its episodes.

    Attributes:
        step: Training step.
        seconds: Wall clock of the run until then, scoring included.
        return_mean: Mean return, environment units.
        return_std: Deviation over episodes.
        length_mean: Mean steps of an episode.
        normalized: Mean return in per cent; None where no reference is known.
    """

    step: int
    seconds: float
    return_mean: float
    return_std: float
    length_mean: float
    normalized: float | None


@dataclass(frozen=True)
class Origin:
    """Where and with what a run was made.

    Attributes:
        precision: Of its products.
        versions: Of Python and packages, by name.
        machine: Processor and the like.
        git: Commit and whether there were changes; None where there was no checkout.
    """

    precision: str
    versions: dict[str, Any]
    machine: dict[str, Any]
    git: dict[str, Any] | None


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        name: Its folder's.
        arm: Its arm.
        task: Its task.
        seed: Its training seed.
        kind: `finetune` or `baseline`.
        command: What makes it again.
        num_steps: Updates.
        batch_size: Windows, or steps for a baseline, an update.
        context_length: Timesteps in a window; None for what has no windows.
        num_parameters: Of the model.
        dataset_fingerprint: Of what it learned from.
        warnings: What it warned of.
        protocol: How its scores were made.
        origin: Where it was made.
        scores: Its evaluations, by step.
    """

    name: str
    arm: str
    task: str
    seed: int
    kind: str
    command: str
    num_steps: int
    batch_size: int
    context_length: int | None
    num_parameters: int
    dataset_fingerprint: str
    warnings: tuple[str, ...]
    protocol: Protocol
    origin: Origin
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class MissingRun:
    """A run that has no scores yet, and how far it is."""

    name: str
    arm: str
    task: str
    seed: int
    command: str
    state: str


@dataclass(frozen=True)
class StudyResults:
    """Everything that a report is made from.

    Attributes:
        suite: Name of the suite.
        question: What it asks, in a sentence.
        budget: What every run was given.
        primary: The arm that the verdict is about, and what it is compared with.
        tasks: In the order of the page.
        arms: Likewise.
        runs: The finished ones.
        missing: The others.
        skipped: What was never to be run, and why.
    """

    suite: str
    question: str
    budget: Budget
    primary: tuple[str, str]
    tasks: tuple[Task, ...]
    arms: tuple[Arm, ...]
    runs: tuple[RunResult, ...]
    missing: tuple[MissingRun, ...]
    skipped: tuple[Skipped, ...]

    def __post_init__(self) -> None:
        """Check what must hold.

        Raises:
            ConfigError: names that do not fit together, the same run twice, or protocols or data mixed in a task.
        """
        _check_names(self)
        for task in self.tasks:
            _check_task(task, [run for run in self.runs if run.task == task.name])

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def of(self, arm: str, task: str) -> dict[int, RunResult]:
        """The finished runs of an arm on a task, by seed."""
        found = {run.seed: run for run in self.runs if run.arm == arm and run.task == task}
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes; protocols and origins, which many runs share, are written once."""
        protocols = _distinct(run.protocol.to_json() for run in self.runs)
        origins = _distinct(asdict(run.origin) for run in self.runs)
        value = asdict(self)
        for entry, run in zip(value["runs"], self.runs, strict=True):
            entry["protocol"] = protocols.index(run.protocol.to_json())
            entry["origin"] = origins.index(asdict(run.origin))
        return {"format": FORMAT, "protocols": protocols, "origins": origins, **value}

    @classmethod
    def from_json(cls, value: Any, where: str = "results.json") -> "StudyResults":
        """The inverse of `to_json`.

        Raises:
            ConfigError: it is something else, or something is missing or of the wrong kind; says where.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ConfigError(f"expected {FORMAT!r} as the format of {where}; make it again with wikirl report")
        filled = dict(value)
        if isinstance(value.get("runs"), list):
            filled["runs"] = [_filled(run, value, f"{where}: runs[{k}]") for k, run in enumerate(value["runs"])]
        return value_from_json(cls, filled, f"{where}: results")


def _filled(run: Any, value: Mapping[str, Any], where: str) -> Any:
    """A run with its protocol and origin in place of their numbers."""
    if not isinstance(run, dict):
        return run
    found = dict(run)
    for name, shelf in (("protocol", "protocols"), ("origin", "origins")):
        shared, number = value.get(shelf), run.get(name)
        if not isinstance(shared, list) or type(number) is not int or not 0 <= number < len(shared):
            raise ConfigError(f"expected the number of an entry of {shelf} at {where}.{name}; found {number!r}")
        found[name] = shared[number]
    return found


def _distinct(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def _check_names(results: StudyResults) -> None:
    arms, tasks = [arm.name for arm in results.arms], [task.name for task in results.tasks]
    for what, names in (("arm", arms), ("task", tasks)):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"expected different names of {what}s; found {twice[0]!r} twice")
    mentioned = [*results.primary, *(arm.against for arm in results.arms if arm.against is not None)]
    every: list[RunResult | MissingRun] = [*results.runs, *results.missing]
    mentioned += [run.arm for run in every]
    if strangers := [name for name in mentioned if name not in arms]:
        raise ConfigError(f"expected the name of an arm ({', '.join(arms)}); found {strangers[0]!r}")
    if strangers := [run.task for run in every if run.task not in tasks]:
        raise ConfigError(f"expected the name of a task ({', '.join(tasks)}); found {strangers[0]!r}")
    if results.primary[0] == results.primary[1]:
        raise ConfigError(f"expected two different arms as the primary pair; found {results.primary[0]!r} twice")
    counts = Counter((run.arm, run.task, run.seed) for run in every)
    for (arm, task, seed), count in counts.items():
        if count > 1:
            raise ConfigError(f"expected each seed once; found seed {seed} of {arm} on {task} {count} times")


def _check_task(task: Task, runs: list[RunResult]) -> None:
    """One protocol and one dataset; the same evaluations in every run of an arm."""
    asked = [run.protocol for run in runs if run.protocol.target_return is not None]
    try:
        require_same_protocol(asked)
        require_same_protocol([run.protocol for run in runs], may_differ=("target_return",))
    except ConfigError as error:
        raise ConfigError(f"{task.name}: {error}") from error
    data = {run.dataset_fingerprint: run for run in runs}
    if len(data) > 1:
        one, other, *_ = data.values()
        raise ConfigError(
            f"{task.name}: expected all runs to learn from the same data; found fingerprints "
            f"{one.dataset_fingerprint[:12]} ({one.name}) and {other.dataset_fingerprint[:12]} ({other.name}); "
            "make the older ones again"
        )
    first: dict[str, RunResult] = {}
    for run in runs:
        same = first.setdefault(run.arm, run)
        if [score.step for score in run.scores] != [score.step for score in same.scores]:
            raise ConfigError(
                f"{task.name}: expected the runs of {run.arm} to be scored at the same steps; {run.name} and "
                f"{same.name} were not"
            )
        if len({score.normalized is None for score in (*run.scores, *same.scores)}) > 1:
            raise ConfigError(f"{task.name}: some scores of {run.arm} are normalised and others are not ({run.name})")
