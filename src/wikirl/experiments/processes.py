"""Runs of a suite in processes on this machine, each on cores of its own, which outlive many runs and any kill.

This file knows a queue and the processes that work it off (worker_process.py is what they run). It deliberately knows
no arms, scores or suites.
"""

import fcntl
import json
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from wikirl.errors import ConfigError
from wikirl.experiments.many_runs import RunPlan, stop_all
from wikirl.experiments.queue_view import QueueView
from wikirl.experiments.worker import Machine, is_finished, plan_to_json
from wikirl.experiments.worker_process import INTERRUPTED
from wikirl.runs import checkpoints_of, interruptible, keep_others_out

_POLL_SECONDS = 0.5
MOST_DEATHS = 4  # of the processes of a run, one after the other without a step that was saved


def run_in_processes(plans: Sequence[RunPlan], machine: Machine, *, num_processes: int) -> dict[str, str]:
    """Make or finish all runs, in their order, `num_processes` at a time.

    A run whose process is killed goes back to the end of the queue, to go on from its checkpoint. Ctrl-C or SIGTERM
    stops every run after its present step with a checkpoint; a second one does not wait for that. So does the end of
    this process, even if it is killed.

    Args:
        plans: Runs in folders of different names.
        machine: How they are made; each process has `machine.num_threads` cores.
        num_processes: How many processes.

    Returns:
        Why runs could not be finished, in one line each, by name of their folder; empty if all were.

    Raises:
        ConfigError: the number of processes is not positive, or two runs have one name.
        RunError: another suite works in the same folder.
        RuntimeError: a bug of ours ended a run; all others have been finished before.
        KeyboardInterrupt: as asked for.
    """
    if num_processes < 1:
        raise ConfigError(f"expected at least 1 process; found {num_processes}")
    if len({plan.folder.name for plan in plans}) < len(plans):
        raise ConfigError("expected runs of different names; found one twice")
    with ExitStack() as stack:
        folders = sorted({plan.folder.parent.resolve() for plan in plans})
        keys = [stack.enter_context(alone_in(folder)) for folder in folders]
        num_workers = min(num_processes, len(plans))
        view = stack.enter_context(QueueView(plans, num_workers))
        stopped = stack.enter_context(interruptible())
        queue = _Queue(plans, machine, view, [_Worker(slot, machine, keys) for slot in range(num_workers)])
        stack.callback(queue.close)
        while queue.is_busy():
            queue.work()
            if stopped():
                raise KeyboardInterrupt
    if queue.bugs:
        raise RuntimeError("; ".join(queue.bugs))
    return queue.troubles


@contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Keep other suites out of a folder of runs.

    Yields:
        A descriptor for processes that work in it to inherit. If this process is killed, the next one waits here until
        the last of them has saved its run.

    Raises:
        RunError: another suite is there.
    """
    with keep_others_out(folder), (folder / ".workers.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"waiting for the processes of a killed suite in {folder} to save their runs", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


class _Worker:
    """A process that is started when there is a run for it, and anew after it has died."""

    def __init__(self, slot: int, machine: Machine, inherited: Sequence[int]) -> None:
        self.slot, self.machine, self.inherited = slot, machine, inherited
        self.process: subprocess.Popen[bytes] | None = None
        self.plan: RunPlan | None = None
        self.said = b""

    def give(self, plan: RunPlan) -> None:
        """Let it make a run."""
        self.plan, self.said = plan, b""
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = self._start(plan)
        task = json.dumps({"plan": plan_to_json(plan), "machine": asdict(self.machine)})
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has just died; `answer` finds out
            self.process.stdin.write(task.encode() + b"\n")

    def _start(self, plan: RunPlan) -> "subprocess.Popen[bytes]":
        plan.log.parent.mkdir(parents=True, exist_ok=True)
        with plan.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "wikirl.experiments.worker_process", *map(str, self._cores())],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": str(self.machine.num_threads), "TQDM_MININTERVAL": "60"},
                # Away from the terminal's Ctrl-C: a run must hear of it once, from us, as twice means "at once".
                start_new_session=True,
                pass_fds=self.inherited,
            )

    def _cores(self) -> list[int]:
        """Its own cores, while there are enough for all."""
        if not hasattr(os, "sched_getaffinity"):
            return []
        available, wanted = sorted(os.sched_getaffinity(0)), self.machine.num_threads
        return sorted({available[(self.slot * wanted + k) % len(available)] for k in range(wanted)})

    def answer(self) -> "str | int | None":
        """What it answers, as soon as it does; its exit status if it has died instead."""
        assert self.process is not None
        assert self.process.stdout is not None
        piece = self.process.stdout.read(65536)
        self.said += piece or b""
        if self.said.endswith(b"\n"):
            return self.said.decode()
        return None if piece else self.process.wait()

    def close(self) -> None:
        """Let go of a process that has ended."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()
            self.process = None


class _Queue:
    """What is left to do, who does what, and what went wrong."""

    def __init__(self, plans: Sequence[RunPlan], machine: Machine, view: QueueView, workers: list[_Worker]) -> None:
        self.waiting, self.machine, self.view, self.workers = deque(plans), machine, view, workers
        self.troubles: dict[str, str] = {}
        self.bugs: list[str] = []
        self.deaths: dict[RunPlan, tuple[int, int]] = {}  # step of the newest checkpoint, deaths since it was new

    def is_busy(self) -> bool:
        """Whether anything is waiting or going on."""
        return bool(self.waiting) or any(worker.plan for worker in self.workers)

    def work(self) -> None:
        """Give out runs, and wait a moment for answers."""
        for worker in self.workers:
            if worker.plan is None and self.waiting:
                worker.give(self.waiting[0])
                self.view.take(worker.slot, self.waiting.popleft())
        busy = {_stdout(worker): worker for worker in self.workers if worker.plan is not None}
        for descriptor in select.select(list(busy), [], [], _POLL_SECONDS)[0]:
            worker = busy[descriptor]
            answer, plan = worker.answer(), worker.plan
            if answer is not None and plan is not None:
                worker.plan = None
                self._settle(worker.slot, plan, answer)
        self.view.update()

    def _settle(self, slot: int, plan: RunPlan, answer: "str | int") -> None:
        """A run has ended, or the process that made it."""
        trouble = json.loads(answer)["refused"] if isinstance(answer, str) else None
        if isinstance(answer, int) and not is_finished(plan):
            how = f"its process was ended by {f'signal {-answer}' if answer < 0 else 'an interrupt'}"
            if answer > 0 and answer != INTERRUPTED:
                trouble = f"a bug ({_last_line(plan.log)}); all of it is in {plan.log}"
                self.bugs.append(f"{plan.folder.name}: {trouble}")
            elif self._may_go_on(plan):
                self.waiting.append(plan)
                self.view.put_back(slot, f"{plan.folder.name}: {how}; it will go on from its checkpoint")
                return
            else:
                trouble = (
                    f"{how} {MOST_DEATHS} times before it could save another step (is memory short?); what it said is "
                    f"in {plan.log}"
                )
        if trouble is not None:
            self.troubles[plan.folder.name] = trouble
        self.view.leave(slot, plan, trouble)

    def _may_go_on(self, plan: RunPlan) -> bool:
        """Whether the process of a run has died few enough times since it last saved another step."""
        step = max((checkpoint.step for checkpoint in checkpoints_of(plan.folder)), default=0)
        before, deaths = self.deaths.get(plan, (0, 0))
        self.deaths[plan] = step, (1 if step > before else deaths + 1)
        return self.deaths[plan][1] < MOST_DEATHS

    def close(self) -> None:
        """End all processes; those that are busy save their runs."""
        stop_all([worker.process for worker in self.workers if worker.process is not None])
        for worker in self.workers:
            worker.close()


def _stdout(worker: _Worker) -> int:
    assert worker.process is not None
    assert worker.process.stdout is not None
    return worker.process.stdout.fileno()


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
