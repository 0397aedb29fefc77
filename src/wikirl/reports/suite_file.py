"""What suite.json says of a study: its question, budget, tasks, arms and the runs it is made of.

This file knows the format. It deliberately knows no run folder and no score.
"""

from dataclasses import dataclass

SUITE_FORMAT = "wikirl suite 1"


@dataclass(frozen=True)
class Budget:
    """What every run of a study was given.

    Attributes:
        name: What the suite calls it.
        num_steps: Updates of a run.
        batch_size: Windows a step.
        learning_rate: Peak rate.
        num_evaluations: Scores in the course of a run.
        eval_episodes: Episodes a score.
        seeds: Training seeds.
    """

    name: str
    num_steps: int
    batch_size: int
    learning_rate: float
    num_evaluations: int
    eval_episodes: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A dataset and where policies made from it are scored.

    Attributes:
        name: As in `hopper-medium`; published numbers are found by it.
        dataset: Its id.
        environment: Gymnasium id.
        target_return: The return asked for, in environment units; None where the runs have a single one.
        note: What a reader must know of the data.
    """

    name: str
    dataset: str
    environment: str
    target_return: float | None
    note: str | None = None


@dataclass(frozen=True)
class Pretraining:
    """What an arm's starting point cost.

    Attributes:
        num_tokens: Tokens it was trained on.
        seconds: Wall clock of that, on whatever machine it was.
        source: Who says so.
    """

    num_tokens: int
    seconds: float
    source: str


@dataclass(frozen=True)
class Arm:
    """One thing that is compared.

    Attributes:
        name: Its name on the page.
        description: In a sentence.
        against: The arm it is compared with; None for one that others are compared with.
        published: Its name in published tables.
        pretraining: What its starting point cost; None if nothing.
        control: Whether it is a control of the primary arm: its kind of start without its content. None if not said.
    """

    name: str
    description: str
    against: str | None
    published: str | None
    pretraining: Pretraining | None
    control: bool | None = None


@dataclass(frozen=True)
class Skipped:
    """An arm that could not be had on a task (None: on none), and why."""

    arm: str
    task: str | None
    reason: str


@dataclass(frozen=True)
class PlannedRun:
    """A run as suite.json lists it."""

    name: str
    arm: str
    task: str
    seed: int
    kind: str
    command: str


@dataclass(frozen=True)
class SuiteFile:
    """What suite.json says; its fields are those of `StudyResults`, but for runs, which are only planned here."""

    suite: str
    question: str
    budget: Budget
    primary: tuple[str, str]
    tasks: tuple[Task, ...]
    arms: tuple[Arm, ...]
    runs: tuple[PlannedRun, ...]
    skipped: tuple[Skipped, ...]
