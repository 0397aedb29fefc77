"""`wikirl data check`: is this data sound, and what should one ask of a Decision Transformer trained on it?

This file puts numbers, judgements and suggestions together. It deliberately judges nothing itself (`episode_checks`,
`value_checks`) and draws nothing (`checking_page`).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import ConfigError, DatasetError
from wikirl.trajectories.dataset import QUANTILES, TrajectoryDataset
from wikirl.trajectories.episode_checks import episode_findings
from wikirl.trajectories.findings import SEVERITIES, Finding
from wikirl.trajectories.profile import Columns, Profile, equal_returns, near_best, profile
from wikirl.trajectories.sources import list_datasets, load_trajectories
from wikirl.trajectories.validation import check_finite
from wikirl.trajectories.value_checks import value_findings

_MOST_COORDINATES = 256  # listed one by one; frames have thousands


@dataclass(frozen=True)
class Suggestions:
    """What to try first; every figure is in environment units or steps.

    Attributes:
        target_returns: The best return, and the one that the best tenth of the episodes reach; one figure if they are
            equal. Rounded down to three digits, so that none asks for more than was seen.
        rule: How they came about, in words.
        return_scale: The largest return in size: scaled ones then lie within -1 to 1. What `finetune` takes unless the
            paper fixes one for the task.
        context_length: The window asked about, or the longest episode if that is shorter.
        max_timesteps: The longest episode.
    """

    target_returns: tuple[float, ...]
    rule: str
    return_scale: float
    context_length: int
    max_timesteps: int


@dataclass(frozen=True, eq=False)
class Report:
    """What a check came to.

    Attributes:
        name: The dataset's.
        findings: The most severe first.
        dataset: What was checked; None if it could not be read, as are the next two.
        profile: The numbers behind the findings.
        suggestions: What to try first.
    """

    name: str
    findings: tuple[Finding, ...]
    dataset: TrajectoryDataset | None = None
    profile: Profile | None = None
    suggestions: Suggestions | None = None

    def count(self, severity: str) -> int:
        """How many findings are that severe."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Findings, statistics and suggestions as JSON values; docs/formats.md lists them."""
        return {
            "name": self.name,
            "num_errors": self.count("error"),
            "num_warnings": self.count("warning"),
            "num_notes": self.count("note"),
            "findings": [asdict(finding) for finding in self.findings],
            "statistics": statistics(self.dataset, self.profile) if self.dataset and self.profile else None,
            "suggestions": asdict(self.suggestions) if self.suggestions else None,
        }


def check_trajectories(dataset_id: str, *, context_length: int = 20, cache: Path | None = None) -> Report:
    """Load a dataset and check it; one that is there but cannot be read makes a report too.

    Raises:
        ConfigError: `context_length` is below 1.
        DatasetError: nothing goes by this id, or it cannot be fetched.
    """
    if context_length < 1:
        raise ConfigError(f"context_length must be at least 1, found {context_length}")
    try:
        return check_dataset(load_trajectories(dataset_id, cache=cache), context_length=context_length)
    except DatasetError as error:
        if not _is_there(dataset_id, cache):
            raise
        line = " ".join(str(error).split())
        finding = Finding("error", "reading", line, "mend the data and check again")
        return Report(dataset_id, (finding,))


def check_dataset(dataset: TrajectoryDataset, *, context_length: int = 20) -> Report:
    """Look at everything in a dataset, in chunks.

    Args:
        dataset: What to check; may be memory-mapped.
        context_length: K, the timesteps of a window, that the data is meant for.

    Raises:
        DatasetError: a value is not finite; a folder that was changed after it was written can hold such.
    """
    for field in ("observations", "actions", "rewards", "returns_to_go"):
        check_finite(dataset.name, field, getattr(dataset, field), dataset.starts)
    numbers = profile(dataset)
    found = [*episode_findings(dataset, numbers, context_length), *value_findings(dataset, numbers)]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(dataset.name, tuple(found), dataset, numbers, suggestions(dataset, context_length))


def suggestions(dataset: TrajectoryDataset, context_length: int = 20) -> Suggestions:
    """What to ask for and which sizes to set, from returns and lengths alone."""
    returns = dataset.returns.astype(np.float64)
    best, top_tenth = (_rounded_down(value) for value in (float(returns.max()), float(np.quantile(returns, 0.9))))
    if equal_returns(dataset) or best == top_tenth:
        targets: tuple[float, ...] = (best,)
        rule = "the return of the best episodes; others were not seen"
    else:
        targets = best, top_tenth
        rule = "the best return, and the one that a tenth of the episodes reach, which rests on more of the data"
    longest = int(dataset.lengths.max())
    return Suggestions(
        targets,
        rule + "; more than the best was never seen, so asking for it is a leap",
        float(np.abs(returns).max()) or 1.0,
        min(context_length, longest),
        longest,
    )


def statistics(dataset: TrajectoryDataset, numbers: Profile) -> dict[str, Any]:
    """The numbers of a check as JSON values."""
    returns, lengths = dataset.returns.astype(np.float64), dataset.lengths
    use = numbers.action_use
    return {
        "num_steps": dataset.num_steps,
        "num_episodes": dataset.num_episodes,
        "terminated_fraction": float(dataset.terminated.mean()),
        "returns": _summary(returns),
        "lengths": _summary(lengths.astype(np.float64)),
        "near_best_fraction": float(near_best(dataset).mean()),
        "near_best_step_fraction": float(lengths[near_best(dataset)].sum() / dataset.num_steps),
        "repeated_episodes": len(numbers.repeats),
        "hidden_starts": None if numbers.hidden_starts is None else len(numbers.hidden_starts),
        "nonzero_reward_fraction": numbers.nonzero_rewards,
        "rewards": _coordinates(numbers.rewards),
        "observations": _coordinates(numbers.observations),
        "actions": _coordinates(numbers.actions),
        "action_at_low_fraction": None if use is None else use.at_low.tolist(),
        "action_at_high_fraction": None if use is None else use.at_high.tolist(),
        "action_outside_fraction": None if use is None else use.outside,
        "choices": None if numbers.choices is None else numbers.choices.tolist(),
        "jpeg_quality": numbers.jpeg_quality,
    }


def _summary(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "quantiles": {str(level): float(np.quantile(values, level)) for level in QUANTILES},
    }


def _coordinates(columns: Columns) -> dict[str, list[float]] | None:
    """One list for each number; None where there are too many coordinates."""
    if len(columns.low) > _MOST_COORDINATES:
        return None
    return {name: getattr(columns, name).tolist() for name in ("low", "high", "mean", "std")}


def _rounded_down(value: float) -> float:
    """Three digits, never more than the value; a return as one would type it."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (np.floor(np.log10(abs(value))) - 2)
    return float(f"{np.floor(value / unit + 1e-9) * unit:.3g}")


def _is_there(dataset_id: str, cache: Path | None) -> bool:
    """Whether an id names something on this machine, sound or not."""
    if Path(dataset_id.removeprefix("file:")).expanduser().exists():
        return True
    return dataset_id in {entry.id for entry in list_datasets(cache=cache)}
