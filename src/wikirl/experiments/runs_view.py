"""A queue of runs on a terminal: one bar over all their steps, with the time left, and a line for each that ended.

This file knows how far a run got from its folder alone, and deliberately not who makes it, or where.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wikirl.experiments.many_runs import RunPlan
from wikirl.recipes.scoring import one_line

_TAIL_BYTES = 2**16  # many times a line of metrics.jsonl


class RunsView:
    """To be told what happens; draws the bar only where stderr is a terminal."""

    def __init__(self, plans: Sequence[RunPlan]) -> None:
        self._steps = {plan: _last_line(plan.folder).get("step", 0) for plan in plans}
        self._num_ended = 0
        total = sum(plan.config.num_steps for plan in plans)
        self._bar: tqdm[Any] = tqdm(
            total=total, initial=sum(self._steps.values()), desc=self._title, unit="step", dynamic_ncols=True,
            disable=None,
        )  # fmt: skip

    def __enter__(self) -> "RunsView":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def ended(self, plan: RunPlan, reason: str | None) -> None:
        """Say what a run came to: `reason`, if it failed."""
        self._num_ended += 1
        scored = [one_line(entry) for entry in _last_line(plan.folder).get("evaluations", ())[-1:]]
        said = ": ".join(["finished", *scored]) if reason is None else f"failed: {reason}"
        tqdm.write(f"{self._title} {plan.folder.name} {said}", file=sys.stderr)
        self._bar.set_description(self._title, refresh=False)
        self._steps[plan] = plan.config.num_steps
        self._draw()

    def update(self, plans: Iterable[RunPlan]) -> None:
        """Look how far these got."""
        if not self._bar.disable:
            self._steps |= {plan: _last_line(plan.folder).get("step", 0) for plan in plans}
            self._draw()

    @property
    def _title(self) -> str:
        return f"[{self._num_ended}/{len(self._steps)}]"

    def _draw(self) -> None:
        self._bar.update(sum(self._steps.values()) - self._bar.n)


def _last_line(folder: Path) -> dict[str, Any]:
    """The last whole line of a run's metrics.jsonl, without reading all of it; empty if there is none."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, 2) - _TAIL_BYTES, 0))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return {}
    line: dict[str, Any] = json.loads(lines[-2]) if len(lines) > 1 else {}
    return line
