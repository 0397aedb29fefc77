"""What is seen of a queue of runs: a bar for all of them and one for each worker; lines where there is no terminal.

This file knows bars. It deliberately does not know who makes the runs.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.progress import Follower, duration


class QueueView:
    """The live view; use it as a context manager, so that its bars are closed."""

    def __init__(self, plans: Sequence[RunPlan], num_workers: int) -> None:
        """See how far the runs are already."""
        self.is_terminal = sys.stderr.isatty()
        self.started = time.monotonic()
        self.steps = {plan: Follower(plan.folder).step for plan in plans}
        self.at_first, self.total = sum(self.steps.values()), sum(plan.config.num_steps for plan in plans)
        self.ended = 0
        self.current: list[tuple[RunPlan, Follower] | None] = [None] * num_workers
        self.width = max((len(plan.folder.name) for plan in plans), default=0)
        self.whole = self._bar(0, f"{len(plans)} runs", self.total, self.at_first)
        self.own = [self._bar(1 + slot, "", 1, 0) for slot in range(num_workers)]

    def _bar(self, position: int, title: str, total: int, initial: int) -> "tqdm[Any]":
        # No smoothing: time left is judged by all steps so far, not by those between two scores.
        bar: tqdm[Any] = tqdm(
            desc=title.ljust(self.width), total=total, initial=initial, unit="step", position=position, smoothing=0,
            dynamic_ncols=True, disable=not self.is_terminal, leave=position == 0,
        )  # fmt: skip
        return bar

    def __enter__(self) -> "QueueView":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self.own, self.whole):
            bar.close()

    def take(self, slot: int, plan: RunPlan) -> None:
        """A worker begins, or goes on with, a run."""
        follower, bar = Follower(plan.folder), self.own[slot]
        self.current[slot] = plan, follower
        bar.set_description_str(plan.folder.name.ljust(self.width), refresh=False)
        bar.reset(plan.config.num_steps)
        bar.n = bar.initial = follower.step  # steps of before say nothing of the time left
        follower.show(bar)

    def update(self) -> None:
        """Show what all workers have done since."""
        for bar, current in zip(self.own, self.current, strict=True):
            if current is not None:
                plan, follower = current
                follower.update()
                follower.show(bar)
                self.steps[plan] = follower.step
        self.whole.update(sum(self.steps.values()) - self.whole.n)

    def leave(self, slot: int, plan: RunPlan, trouble: str | None = None) -> None:
        """A worker's run has ended, well or, as `trouble` says, badly."""
        self.update()
        current, self.current[slot] = self.current[slot], None
        self.ended += 1
        self.steps[plan] = plan.config.num_steps
        if trouble is not None:
            said = f"failed: {trouble}"
        elif current is not None and current[1].score is not None:
            said = current[1].score
        else:
            said = "done"
        if trouble is not None or not self.is_terminal:
            count = f"{self.ended} of {len(self.steps)}"
            tqdm.write(f"{count} | {plan.folder.name}: {said}{self._time_left()}", file=sys.stderr)

    def put_back(self, slot: int, reason: str) -> None:
        """A worker's run has to wait for its turn again."""
        self.current[slot] = None
        tqdm.write(reason, file=sys.stderr)

    def _time_left(self) -> str:
        done = sum(self.steps.values())
        if self.ended == len(self.steps) or done == self.at_first:
            return ""
        seconds = (time.monotonic() - self.started) / (done - self.at_first) * (self.total - done)
        return f"; about {duration(seconds)} left"
