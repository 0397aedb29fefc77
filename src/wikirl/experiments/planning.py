"""From a suite to its runs: what is at hand becomes jobs and a suite.json, the rest is skipped with its reason.

This file knows suites, availability and the folder they go to. It deliberately makes no run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wikirl.errors import ConfigError, RunError
from wikirl.experiments.availability import choose_sources, why_no_arm, why_no_data
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.starts import pretraining_of
from wikirl.experiments.suite import ArmPlan, BudgetName, Suite, configuration
from wikirl.reports.suite_file import SUITE_FORMAT, Arm, PlannedRun, Skipped, SuiteFile, Task
from wikirl.runs import read_json, write_json


@dataclass(frozen=True)
class Study:
    """A suite held against what is at hand.

    Attributes:
        file: What suite.json will say.
        jobs: Its runs in the order they are made: seed by seed, so that whatever is finished compares.
    """

    file: SuiteFile
    jobs: tuple[RunPlan, ...]


def plan(suite: Suite, budget_name: BudgetName, out: Path, *, seeds: Sequence[int] | None = None) -> Study:
    """The runs of a suite that can be made here, in `out`/runs.

    Raises:
        ConfigError: the suite has no such budget, or its arms do not fit together.
    """
    if budget_name not in suite.budgets:
        raise ConfigError(f"expected a budget of {', '.join(suite.budgets)} for {suite.name}; found {budget_name!r}")
    _check(suite)
    budget = suite.budgets[budget_name]
    if seeds is not None:
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ConfigError(f"expected different seeds of at least 0; found {' '.join(map(str, seeds)) or 'none'}")
        budget = replace(budget, seeds=tuple(seeds))
    names = suite.tasks_of.get(budget_name)
    tasks = [task for task in suite.tasks if names is None or task.name in names]
    sources = choose_sources(tasks)
    problems = {arm.name: problem for arm in suite.arms if (problem := why_no_arm(arm))}
    skipped = [Skipped(arm.name, None, problems[arm.name]) for arm in suite.arms if arm.name in problems]
    arms = [arm for arm in suite.arms if arm.name not in problems]
    without = [task for task in tasks if task.name not in sources]
    skipped += [Skipped(arm.name, task.name, why_no_data(task)) for task in without for arm in arms]
    found = [task for task in tasks if task.name in sources]
    jobs, runs = [], []
    for seed in budget.seeds:
        for task in found:
            for arm in arms:
                job = configuration(arm, task, sources[task.name], budget, seed)
                job = replace(job, folder=out / job.folder)
                kind, command = arm.kind, job.shell_command(1)
                jobs.append(job)
                runs.append(PlannedRun(job.folder.name, arm.name, task.name, seed, kind, command))
    described = tuple(
        Task(task.name, source.dataset, source.environment, source.target_return, source.note)
        for task in found
        for source in (sources[task.name],)
    )
    file = SuiteFile(
        suite.name, suite.question, budget, suite.primary, described, tuple(map(_described, suite.arms)), tuple(runs),
        tuple(skipped),
    )  # fmt: skip
    return Study(file, tuple(jobs))


def _described(arm: ArmPlan) -> Arm:
    cost = pretraining_of(str(arm.settings.get("backbone", "scratch"))) if arm.kind == "finetune" else None
    return Arm(arm.name, arm.description, arm.against, arm.published, cost, arm.control)


def _check(suite: Suite) -> None:
    """Refuse names that mean two things or nothing."""
    arms, tasks = [arm.name for arm in suite.arms], [task.name for task in suite.tasks]
    for kind, names in (("arm", arms), ("task", tasks)):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"expected each {kind} of {suite.name} once; found {twice!r} twice")
    named = {arm.against for arm in suite.arms if arm.against is not None} | set(suite.primary)
    if unknown := sorted(named - set(arms)):
        raise ConfigError(f"expected arms of {suite.name} to be compared with each other; there is no {unknown[0]!r}")


def write_suite(study: Study, out: Path) -> None:
    """Leave suite.json in `out`, or see that the one there is of the same suite and budget.

    Raises:
        RunError: the folder holds another suite, or something else.
    """
    path = out / "suite.json"
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"expected a folder for the suite at {out}; found: {error}; choose another --out") from error
    wanted = (study.file.suite, {**asdict(study.file.budget), "seeds": None})
    if path.exists():
        content = read_json(path)
        found = (
            (content.get("suite"), {**content.get("budget", {}), "seeds": None}) if isinstance(content, dict) else ()
        )
        if found != wanted:
            raise RunError(
                f"expected {study.file.suite} at budget {study.file.budget.name} in {out}; it holds another suite or "
                "budget; choose another --out"
            )
    write_json(path, {"format": SUITE_FORMAT, **asdict(study.file)})
