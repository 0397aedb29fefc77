"""What was run, with what, and where runs were not made alike.

This file knows budgets, versions, machines and commands. It deliberately knows no score.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from wikirl.reports.report_words import listed
from wikirl.reports.results import RunResult, StudyResults


def origin_facts(results: StudyResults) -> dict[str, str]:
    """The study in names and values."""
    budget, runs = results.budget, results.runs
    return {
        "suite": results.suite,
        "question": results.question,
        "budget": f"{budget.name}: {budget.num_steps:,} updates of {budget.batch_size} windows, learning rate "
        f"{budget.learning_rate:g}",
        "seeds": ", ".join(map(str, budget.seeds)),
        "scored": f"{budget.num_evaluations} times a run, {budget.eval_episodes} episodes each",
        "runs": f"{len(runs)} finished, {len(results.missing)} missing",
        "time of all runs": f"{sum(run.scores[-1].seconds for run in runs) / 3600:.1f} hours, scoring included "
        "(runs that share a machine slow each other down)",
        "precision": _counted(run.origin.precision for run in runs),
        "machine": _counted(_machine(run) for run in runs),
        "git commit": _counted(_commit(run) for run in runs),
        "versions": ", ".join(f"{name} {value}" for name, value in runs[0].origin.versions.items() if value),
    }  # fmt: skip


def unlike(results: StudyResults) -> list[str]:
    """In what runs were not made alike: precision, versions, machines, budgets; nothing if they all were."""
    names = list(dict.fromkeys(name for run in results.runs for name in run.origin.versions))
    looks: Mapping[str, Callable[[RunResult], str | None]] = {
        "precision": lambda run: run.origin.precision,
        "machine": _machine,
        "git commit": _commit,
        **{f"version of {name}": _version(name) for name in names},
        "updates": lambda run: f"{run.num_steps:,}",
        "scores a run": lambda run: str(len(run.scores)),
        "batch size": lambda run: str(run.batch_size),
        "windows of": lambda run: None if run.context_length is None else f"{run.context_length} timesteps",
    }
    found = []
    for what, look in looks.items():
        arms: dict[str, set[str]] = {}
        for run in results.runs:
            if (value := look(run)) is not None:
                arms.setdefault(value, set()).add(run.arm)
        if len(arms) > 1:
            found.append(f"{what}: " + "; ".join(f"{value} ({_some(names)})" for value, names in arms.items()))
    return found


def _version(name: str) -> Callable[[RunResult], str | None]:
    """What a run says of a package; None of one that it had no use for."""

    def look(run: RunResult) -> str | None:
        value = run.origin.versions.get(name)
        return None if value is None else str(value)

    return look


def _some(arms: set[str]) -> str:
    names = sorted(arms)
    return listed(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more arms"


def _machine(run: RunResult) -> str:
    machine = run.origin.machine
    return (
        f"{machine.get('cuda') or machine.get('processor') or 'unknown'}, {machine.get('num_cpus') or 'unknown'} CPUs"
    )


def _commit(run: RunResult) -> str:
    git = run.origin.git
    return "none" if git is None else f"{str(git.get('commit'))[:12]}{', changed' if git.get('dirty') else ''}"


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values)
    return (
        next(iter(counts))
        if len(counts) == 1
        else "; ".join(f"{value} ({count} runs)" for value, count in counts.items())
    )


def commands_of(results: StudyResults, task: str) -> list[tuple[str, str]]:
    """For each arm on a task, what makes its first run again, and which other seeds there are."""
    found = []
    for arm in results.arms:
        runs = list(results.of(arm.name, task).values())
        if runs:
            others = ", ".join(str(run.seed) for run in runs[1:])
            more = f"; the same with seed {others}" if others else ""
            found.append((f"{arm.name}, seed {runs[0].seed}{more}:", runs[0].command))
    return found
