"""`wikirl suite run` and `status`: plan, forecast, make what is missing, and say how far a suite is."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from wikirl.errors import ConfigError, RunError
from wikirl.experiments.forecast import forecast
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.planning import Study, plan, write_suite
from wikirl.experiments.processes import run_in_processes
from wikirl.experiments.ray_cluster import run_on_ray
from wikirl.experiments.slurm import slurm_script
from wikirl.experiments.stacked import run_stacked
from wikirl.experiments.suite import BudgetName, Suite
from wikirl.experiments.worker import Machine, is_finished, make_run
from wikirl.reports.results_reading import read_study, read_suite_file
from wikirl.reproducibility import available_cpus, choose_device

Backend = Literal["processes", "stacked", "ray", "slurm"]


@dataclass(frozen=True)
class Way:
    """What makes the runs of a suite.

    Attributes:
        backend: Default: processes on a CPU, stacked on a GPU.
        num_processes: Runs at a time; default: as many as the cores allow.
        ray_address: Of a running Ray cluster; default: one of this machine.
    """

    backend: Backend | None = None
    num_processes: int | None = None
    ray_address: str | None = None


def run_suite(
    suite: Suite,
    budget: BudgetName,
    out: Path,
    machine: Machine,
    *,
    way: Way = Way(),
    seeds: Sequence[int] | None = None,
    only_plan: bool = False,
) -> dict[str, Any]:
    """Make what is missing of a suite in `out`, or go on with it.

    Args:
        suite: Which one.
        budget: How large.
        out: Its folder: suite.json and runs/.
        machine: How runs are made.
        way: What makes them.
        seeds: Training seeds in place of the budget's.
        only_plan: Forecast, and make nothing.

    Returns:
        What `wikirl suite run --json` prints.

    Raises:
        WikiRLError: settings or folder that cannot work, or runs that could not be made; the others are made first.
    """
    started = time.monotonic()
    if way.num_processes is not None and way.num_processes < 1:
        raise ConfigError(f"expected num_processes of at least 1; found {way.num_processes}")
    study = _begun(suite, budget, out, seeds)
    missing = [one for one in study.jobs if not is_finished(one)]
    backend = way.backend or ("processes" if choose_device(machine.device) == "cpu" else "stacked")
    at_once = 1 if backend == "stacked" else way.num_processes or max(available_cpus() // machine.num_threads, 1)
    result = _result(study, out)
    failed: Mapping[str, str] = {}
    if missing:
        expected = forecast(missing, machine, num_processes=at_once)
        tqdm.write(expected.sentence(), file=sys.stderr)
        result["forecast"] = asdict(expected)
        if not only_plan:
            failed = _make(missing, machine, backend, at_once, way)
    if failed:
        first, reason = next(iter(failed.items()))
        raise RunError(f"{len(failed)} of {len(study.jobs)} runs of {suite.name} could not be made; {first}: {reason}")
    return result | _finished(study) | {"wall_seconds": round(time.monotonic() - started, 1)}


def run_job(
    suite: Suite, budget: BudgetName, out: Path, machine: Machine, *, job: int, seeds: Sequence[int] | None = None
) -> dict[str, Any]:
    """Make one run of a suite, counted from 0 over those of its suite.json; what a job of a Slurm array calls.

    Raises:
        WikiRLError: as `run_suite`; there is no such run, or it cannot be made on this machine.
    """
    study = plan(suite, budget, out, seeds=seeds)
    if not (out / "suite.json").exists():
        write_suite(study, out)
    names = [run.name for run in read_suite_file(out / "suite.json").runs]  # this node may see other data
    if not 0 <= job < len(names):
        raise ConfigError(f"expected a job from 0 to {len(names) - 1} of {suite.name}; found {job}")
    found = [one for one in study.jobs if one.folder.name == names[job]]
    if not found:
        raise ConfigError(f"expected to make {names[job]} on this machine; its data or backbone are not here")
    make_run(found[0], machine)
    return _result(study, out)


def slurm_jobs(
    suite: Suite,
    budget: BudgetName,
    out: Path,
    machine: Machine,
    *,
    command: Sequence[str],
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The suite as the script of a Slurm array, every job of which calls `command --job K`.

    Raises:
        WikiRLError: as `run_suite`.
    """
    study = _begun(suite, budget, out, seeds)
    missing = [number for number, one in enumerate(study.jobs) if not is_finished(one)]
    logs = out / "slurm"
    script = slurm_script(command, missing, machine, logs=logs)
    logs.mkdir(exist_ok=True)  # Slurm does not make it
    return _result(study, out) | {"script": script}


def _begun(suite: Suite, budget: BudgetName, out: Path, seeds: Sequence[int] | None) -> Study:
    """The runs of these seeds, with a suite.json in place that keeps the seeds it had."""
    study = plan(suite, budget, out, seeds=seeds)
    if not study.jobs:
        reasons = "; ".join(dict.fromkeys(skipped.reason for skipped in study.file.skipped))
        raise ConfigError(f"nothing of {suite.name} can be made here: {reasons or 'it has no tasks'}")
    asked = study.file.budget.seeds
    before = read_suite_file(out / "suite.json").budget.seeds if (out / "suite.json").exists() else ()
    whole = plan(suite, budget, out, seeds=sorted({*asked, *before}))
    write_suite(whole, out)
    study = replace(whole, jobs=tuple(job for job in whole.jobs if job.config.seed in asked))
    for line in _together(study):
        tqdm.write(f"skipped: {line}", file=sys.stderr)
    return study


def _finished(study: Study) -> dict[str, int]:
    return {"num_runs": len(study.jobs), "num_finished": sum(map(is_finished, study.jobs))}


def _result(study: Study, out: Path) -> dict[str, Any]:
    words = {"suite": study.file.suite, "budget": study.file.budget.name, "out": str(out)}
    return {**words, **_finished(study), "skipped": [asdict(one) for one in study.file.skipped]}


def _make(
    missing: Sequence[RunPlan], machine: Machine, backend: Backend, num_processes: int, way: Way
) -> Mapping[str, str]:
    match backend:
        case "stacked":
            return run_stacked(missing, machine)
        case "ray":
            return run_on_ray(missing, machine, address=way.ray_address, num_workers=way.num_processes)
        case _:
            return run_in_processes(missing, machine, num_processes=num_processes)


def _together(study: Study) -> list[str]:
    """What is skipped, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for one in study.file.skipped:
        name = one.arm if one.task is None else one.task
        names = by_reason.setdefault(one.reason, [])
        if name not in names:
            names.append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def suite_status(out: Path) -> dict[str, Any]:
    """How far a suite is: finished runs of all, by arm and task, and where the others stand.

    Raises:
        RunError: there is no suite in `out`, or a file of it is damaged.
    """
    found = read_study(out)
    rows = []
    for arm in found.arms:
        row: dict[str, Any] = {"arm": arm.name}
        for task in found.tasks:
            here = (arm.name, task.name)
            done = sum((run.arm, run.task) == here for run in found.runs)
            planned = done + sum((run.arm, run.task) == here for run in found.missing)
            row[task.name] = f"{done} of {planned}" if planned else "skipped"
        rows.append(row)
    return {
        "suite": found.suite, "budget": found.budget.name, "out": str(out), "num_finished": len(found.runs),
        "num_runs": len(found.runs) + len(found.missing), "arms": rows,
        "missing": {run.name: run.state for run in found.missing},
    }  # fmt: skip
