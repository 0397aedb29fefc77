"""Runs of a suite on Ray: one task a run, on a cluster or on a small one started here for the occasion.

Ray carries nothing but plans and reasons: every node reads and writes the same suite folder, and how far a run got is
read from there. How a run is made is worker.py's business, what a cluster must have ray_connection.py's.
"""

import os
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wikirl.errors import WikiRLError, refusal_of_the_system
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.processes import MOST_DEATHS, alone_in
from wikirl.experiments.ray_connection import connected, in_one_line, marked, not_shared, placed, require_shared
from wikirl.experiments.runs_view import RunsView
from wikirl.experiments.worker import Machine, make_run
from wikirl.runs import checkpoints_of, interruptible

_POLL_SECONDS = 2.0
_PATIENCE_SECONDS = 120.0  # one step, or one score on a busy machine, before a stopped run has saved itself


def run_on_ray(
    plans: Sequence[RunPlan], machine: Machine, *, address: str | None = None, num_workers: int | None = None
) -> dict[str, str]:
    """Make or finish all runs, each in a Ray task of its own, in their order.

    A run whose worker is killed, or loses its node, is tried again from its checkpoint: up to three times without
    progress. Ctrl-C or SIGTERM lets every run save itself; a second one does not wait for that.

    Args:
        plans: On a cluster their folders lie on a file system that all nodes share, under the same path; datasets and
            backbones too, or each node has its own copy.
        machine: Cores of a run; with device cuda (or auto, where there is one) each run takes a GPU.
        address: Of the cluster: host:port, or auto for the one that this machine is a node of. None: RAY_ADDRESS, or
            without that a Ray of its own on this machine, for as long as it takes.
        num_workers: Runs at a time; default: as many as there is room for.

    Returns:
        Name of a run (its folder's) to the reason, in a line, why it could not be made; the others are finished.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: no cluster at that address, or none of its nodes has room for a run.
        RunError: a node does not see the folder, or cannot import wikirl; another suite works in the folder.
        RuntimeError: a bug of ours ended a run; all others have been finished before.
        KeyboardInterrupt: as asked for.
    """
    plans = [replace(plan, folder=plan.folder.absolute()) for plan in plans]
    address = address or os.environ.get("RAY_ADDRESS") or None
    with ExitStack() as stack:
        ray = stack.enter_context(connected(address, machine, num_workers))
        machine = placed(ray, machine, is_local=address is None)
        stopped = stack.enter_context(interruptible())
        marks = stack.enter_context(marked(plan.folder.parent for plan in plans))
        require_shared(ray, marks.values())
        for folder in sorted(marks):
            stack.enter_context(alone_in(folder))
        view = stack.enter_context(RunsView(plans))
        queue = _Queue(ray, machine, marks, num_workers or len(plans), deque(plans))
        stack.callback(queue.stop)
        while queue.waiting or queue.running:
            queue.fill()
            for plan in queue.collect():
                view.ended(plan, queue.failed.get(plan.folder.name))
            view.update(queue.running.values())
            if stopped():
                raise KeyboardInterrupt
    if queue.bugs:
        raise RuntimeError("; ".join(queue.bugs))
    return queue.failed


def _make(plan: RunPlan, machine: Machine, mark: Path, folder: Path) -> str | None:
    """What a worker does: make the run; in a line why not, where a user can mend it."""
    if not mark.exists():  # of a node that came after the others were asked
        return not_shared(mark.parent, os.uname().nodename)
    if folder.is_dir():  # so that relative names of datasets mean the same; where it is missing, they say so themselves
        os.chdir(folder)
    with plan.log.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            make_run(plan, machine)
        except WikiRLError as error:
            return in_one_line(error)
        except Exception:
            traceback.print_exc()
            raise
    return None


@dataclass
class _Queue:
    """Runs that wait, run (by Ray's reference to their task) and failed (by name)."""

    ray: Any
    machine: Machine
    marks: dict[Path, Path]
    most_at_once: int
    waiting: deque[RunPlan]
    running: dict[Any, RunPlan] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    bugs: list[str] = field(default_factory=list)
    begun_at: dict[RunPlan, int] = field(default_factory=dict)
    fruitless: dict[RunPlan, int] = field(default_factory=dict)

    def fill(self) -> None:
        """Hand over as many as may run."""
        needs = {"num_cpus": self.machine.num_threads, "num_gpus": int(self.machine.device == "cuda")}
        task = self.ray.remote(max_retries=0, **needs)(_make)  # tries are counted here, as only progress forgives them
        while self.waiting and len(self.running) < self.most_at_once:
            plan = self.waiting.popleft()
            self.begun_at[plan] = _newest_step(plan)
            self.running[task.remote(plan, self.machine, self.marks[plan.folder.parent], Path.cwd())] = plan

    def collect(self) -> list[RunPlan]:
        """Wait a little; the runs that ended for good meanwhile."""
        ready, _ = self.ray.wait(list(self.running), timeout=_POLL_SECONDS)
        return [plan for reference in ready if self._is_over(plan := self.running.pop(reference), reference)]

    def _is_over(self, plan: RunPlan, reference: Any) -> bool:
        errors = self.ray.exceptions
        died = (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.LocalRayletDiedError)
        try:
            reason = self.ray.get(reference)
        except (*died, errors.TaskCancelledError) as error:  # cancelled, but not by us: its node is going
            return self._is_given_up(plan, error)
        except errors.RayTaskError as error:
            reason = refusal_of_the_system(error.cause) or self._as_a_bug(plan, error.cause)
        if reason is not None:
            self.failed[plan.folder.name] = reason
        return True

    def _as_a_bug(self, plan: RunPlan, error: BaseException) -> str:
        said = f"{type(error).__name__}: {in_one_line(error)}; all of it is in {plan.log}"
        self.bugs.append(f"{plan.folder.name}: {said}")
        return said

    def _is_given_up(self, plan: RunPlan, error: Exception) -> bool:
        progressed = _newest_step(plan) > self.begun_at[plan]
        self.fruitless[plan] = 0 if progressed else self.fruitless.get(plan, 0) + 1
        if self.fruitless[plan] < MOST_DEATHS:
            self.waiting.appendleft(plan)
            tqdm.write(f"{plan.folder.name}: its worker died; goes on from step {_newest_step(plan)}", file=sys.stderr)
            return False
        self.failed[plan.folder.name] = (
            f"its worker died {self.fruitless[plan]} times without progress ({type(error).__name__}; is memory short?);"
            f" what it said is in {plan.log}"
        )
        return True

    def stop(self) -> None:
        """Let what runs save itself."""
        for reference in self.running:
            self.ray.cancel(reference)  # a KeyboardInterrupt in the task
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=_PATIENCE_SECONDS)


def _newest_step(plan: RunPlan) -> int:
    return max((checkpoint.step for checkpoint in checkpoints_of(plan.folder)), default=0)
