"""Suites as data: a grid of configurations × seeds, and the file that says what a folder of runs is meant to show.

A suite says what it wants; `plan` holds it against what is at hand (availability.py) and gives the runs, each named by
a hash of what it was asked, so that a run is made once and found again by whoever asks for the same. This file knows
no process and no score.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from wikirl.experiments.many_runs import RunPlan
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reports.suite_file import Budget
from wikirl.runs import config_hash

BudgetName = Literal["smoke", "small", "full"]
BUDGETS: tuple[BudgetName, ...] = get_args(BudgetName)


@dataclass(frozen=True)
class ArmPlan:
    """One thing to compare.

    Attributes:
        name: A row of the table.
        description: In a sentence.
        settings: What it sets in a configuration, over what task and budget set.
        against: The arm it is compared with.
        kind: What makes its runs.
        published: Its name in published tables.
        control: Whether it is a control of the primary arm: its kind of start without its content.
        unavailable: Why it cannot be had in this version.
    """

    name: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    against: str | None = None
    kind: Literal["finetune", "baseline"] = "finetune"
    published: str | None = None
    control: bool | None = None
    unavailable: str | None = None

    @property
    def backbone(self) -> str | None:
        """Whose weights or architecture it needs; None if it needs none."""
        if self.kind == "baseline":
            return None
        name = str(self.settings.get("backbone", "scratch"))
        return str(self.settings.get("architecture", "dt")) if name == "scratch" else name


@dataclass(frozen=True)
class Source:
    """Data for a task, and where policies made from them are scored.

    Attributes:
        dataset: Its id.
        environment: Gymnasium id.
        target_return: The return asked for, in environment units.
        note: What a reader must know of them.
    """

    dataset: str
    environment: str
    target_return: float
    note: str


@dataclass(frozen=True)
class TaskPlan:
    """A task, with the data it can be learnt from, the best first.

    Attributes:
        name: As in `hopper-medium`.
        sources: The first at hand is taken.
        settings: What it sets in every configuration that has such a setting.
    """

    name: str
    sources: tuple[Source, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A study.

    Attributes:
        name: What `wikirl suite run` takes.
        question: In one sentence.
        primary: The comparison that the verdict is about: arm, and the arm it is compared with.
        tasks: The datasets.
        arms: What is compared on each.
        budgets: By name.
        tasks_of: Names of the tasks of a budget that does not have all.
    """

    name: str
    question: str
    primary: tuple[str, str]
    tasks: tuple[TaskPlan, ...]
    arms: tuple[ArmPlan, ...]
    budgets: Mapping[BudgetName, Budget]
    tasks_of: Mapping[BudgetName, tuple[str, ...]] = field(default_factory=dict)


def configuration(arm: ArmPlan, task: TaskPlan, source: Source, budget: Budget, seed: int) -> RunPlan:
    """The run of an arm on a task under a seed, its folder relative to the suite's."""
    common: dict[str, Any] = {
        "dataset": source.dataset, "environment": source.environment, "seed": seed, "num_steps": budget.num_steps,
        "eval_every": max(budget.num_steps // budget.num_evaluations, 1), "eval_episodes": budget.eval_episodes,
    }  # fmt: skip
    kind: type[FinetuneConfig | BaselineConfig] = BaselineConfig
    if arm.kind == "finetune":
        kind = FinetuneConfig
        common |= {
            "batch_size": budget.batch_size, "learning_rate": budget.learning_rate, "backbone": "scratch",
            "target_returns": (source.target_return,),
        }  # fmt: skip
    known = {item.name for item in fields(kind)}
    settings = {name: value for name, value in task.settings.items() if name in known}
    config = kind(**(common | settings | dict(arm.settings)))
    return RunPlan(arm.name, config, Path("runs") / run_name(arm, task, config))


def run_name(arm: ArmPlan, task: TaskPlan, config: FinetuneConfig | BaselineConfig) -> str:
    """A folder's name: readable, and unlike that of any other configuration.

    Settings at their defaults are left out of the hash, so that a setting added later does not rename old runs.
    """
    asked = {item.name: getattr(config, item.name) for item in fields(config)}
    asked = {item.name: asked[item.name] for item in fields(config) if asked[item.name] != item.default}
    digest = config_hash({"kind": arm.kind, **asked})[:8]
    words = [re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in (task.name, arm.name)]
    return ".".join([*words, f"seed-{config.seed}", digest])
