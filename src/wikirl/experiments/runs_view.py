"""What is seen of runs that others make, wherever: one bar over all their steps, and a line for each that ended.

This file knows how far a run got from its folder alone.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.progress import Follower, duration


class RunsView:
    """The live view, to be used as a context manager; where there is no terminal it has no bar, only lines."""

    def __init__(self, plans: Sequence[RunPlan]) -> None:
        """See how far the runs are already."""
        self._followers = {plan: Follower(plan.folder) for plan in plans}
        self._started, self._ended = time.monotonic(), set[RunPlan]()
        self._total = sum(plan.config.num_steps for plan in plans)
        self._at_first = self._done()
        # No smoothing: time left is judged by all steps so far, not by those between two scores.
        self._bar: tqdm[Any] = tqdm(
            desc=f"{len(plans)} runs", total=self._total, initial=self._at_first, unit="step", smoothing=0,
            dynamic_ncols=True, disable=None,
        )  # fmt: skip

    def __enter__(self) -> "RunsView":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, plans: Iterable[RunPlan]) -> None:
        """Look how far these got."""
        for plan in plans:
            self._followers[plan].update()
        self._bar.update(self._done() - self._bar.n)

    def ended(self, plan: RunPlan, trouble: str | None = None) -> None:
        """A run has ended, well or, as `trouble` says, badly."""
        self._ended.add(plan)
        self.update([plan])
        said = (self._followers[plan].score or "done") if trouble is None else f"failed: {trouble}"
        count = f"{len(self._ended)} of {len(self._followers)}"
        tqdm.write(f"{count} | {plan.folder.name}: {said}{self._time_left()}", file=sys.stderr)

    def _done(self) -> int:
        """Steps of all; a run that failed has none left."""
        steps = {plan: follower.step for plan, follower in self._followers.items()}
        return sum((steps | {plan: plan.config.num_steps for plan in self._ended}).values())

    def _time_left(self) -> str:
        done = self._done()
        if not self._bar.disable or len(self._ended) == len(self._followers) or done == self._at_first:
            return ""
        seconds = (time.monotonic() - self._started) / (done - self._at_first) * (self._total - done)
        return f"; about {duration(seconds)} left"
