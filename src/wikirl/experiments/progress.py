"""How far a run has got, from the metrics.jsonl it is writing: each line is read once, however long the run.

This file knows that one file, and what a bar shows of it. It deliberately knows no processes.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Follower:
    """Reads what a run has written since it was last asked.

    Attributes:
        step: Steps done.
        loss: That of the last step; None before the first.
        score: The last score in words, such as `34.5`; None before the first.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there already."""
        self.step = 0
        self.loss: float | None = None
        self.score: str | None = None
        self._path = folder / "metrics.jsonl"
        self._file, self._offset = 0, 0
        self._told = 0
        self.update()

    def update(self) -> list[str]:
        """Go on reading.

        Returns:
            A phrase for each new score, as in `step 400: 34.5`.
        """
        phrases = []
        for line in self._new_lines():
            self.step, self.loss = line["step"], line["loss"]
            if "held_out_action_error" in line and not line.get("evaluations"):
                self.score = f"held-out error {line['held_out_action_error']:.4f}"
            for entry in line.get("evaluations", ())[:1]:
                self.score = score_in_words(entry)
                if self.step > self._told:  # a run that was set back makes the same scores again
                    self._told = self.step
                    phrases.append(f"step {self.step}: {self.score}")
        return phrases

    def show(self, bar: "tqdm[Any]") -> None:
        """Let a bar stand where the run does."""
        shown = {} if self.loss is None else {"loss": f"{self.loss:.3f}"}
        if self.score is not None:
            shown["score"] = self.score
        bar.set_postfix(shown, refresh=False)
        bar.update(self.step - bar.n)

    def _new_lines(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._offset:  # set back to a checkpoint
                    self._file, self._offset, self.step = status.st_ino, 0, 0
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        self._offset += len(whole) + 1 if whole else 0
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError:  # a damaged file; the run itself says so when it reads it
            return []


def score_in_words(entry: Mapping[str, Any]) -> str:
    """An evaluation as metrics.jsonl has it: its normalised score, or its return where there is none."""
    normalized = entry["normalized_score"]
    return f"return {entry['return_mean']:.0f}" if normalized is None else f"{normalized:.1f}"


def duration(seconds: float) -> str:
    """A time in words, as exact as a forecast of it can be."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
