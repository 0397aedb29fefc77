"""The report of a check as one self-contained HTML page: findings, suggestions, and where all values lie.

This file knows what belongs on the page. It deliberately judges nothing (`checking`), and knows neither HTML (`pages`)
nor matplotlib (`charts`).
"""

import contextlib
import os
import re
import shlex
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wikirl import charts, pages
from wikirl.charts import Bars, Ranges
from wikirl.errors import ConfigError, refusal_of_the_system
from wikirl.pages import Html
from wikirl.runs import noting
from wikirl.trajectories.checking import Report, Suggestions
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.findings import SEVERITIES, number, percent, plural
from wikirl.trajectories.profile import Columns, Profile, near_best
from wikirl.types import Space

_MOST_BARS = 40
_MOST_DRAWN = 256  # coordinates in a chart
_MOST_LISTED = 64  # coordinates in a table


def default_page(dataset_id: str) -> Path:
    """`runs/check/NAME.html`, whatever characters an id holds."""
    prefix, _, rest = dataset_id.rpartition(":")
    name = Path(rest).stem if prefix in ("", "file") else rest
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return Path("runs/check") / f"{plain or 'dataset'}.html"


def write_page(report: Report, path: Path) -> None:
    """Write the page, complete or not at all.

    Raises:
        ConfigError: no file can be written there, for another reason than a full disk or a missing permission.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with noting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # File names may hold what is no text.
            temporary.write_text(checking_page(report), encoding="utf-8", errors="backslashreplace")
            temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if refusal_of_the_system(error):
            raise
        raise ConfigError(f"expected a place for a page at {path}; found: {error}; choose another --out") from error


def checking_page(report: Report) -> str:
    """The whole page."""
    content = [_findings(report)]
    if report.dataset is not None and report.profile is not None and report.suggestions is not None:
        dataset, profile = report.dataset, report.profile
        content = [
            _sizes(dataset),
            *content,
            pages.section("What to ask for", _suggestions(report.name, report.suggestions)),
            pages.section("Episodes", _episodes(dataset, report.suggestions)),
            pages.section("Observations", _observations(dataset, profile.observations)),
            pages.section("Actions", _actions(dataset, profile)),
        ]
    return pages.page(f"Data check: {report.name}", verdict(report), *content)


def verdict(report: Report) -> Html:
    """How many findings of each kind there are, in a sentence."""
    counts = ", ".join(plural(report.count(severity), severity) for severity in SEVERITIES)
    words = "Nothing to complain of" if not report.findings else counts
    return pages.paragraph(pages.strong(f"{words}."))


def _findings(report: Report) -> Html:
    boxes = [
        pages.alert(
            finding.severity,
            pages.paragraph(pages.strong(f"{finding.topic.capitalize()}: "), finding.message),
            pages.paragraph(f"What to do: {finding.advice}"),
        )
        for finding in report.findings
    ]
    return pages.section("Findings", *(boxes or [pages.paragraph("None.")]))


def _sizes(dataset: TrajectoryDataset) -> Html:
    return pages.facts(
        {
            "Steps": f"{dataset.num_steps:,}",
            "Episodes": f"{dataset.num_episodes:,}",
            "Terminated": percent(float(dataset.terminated.mean())),
            "Environment": dataset.environment or "unknown",
            "Observations": _space(dataset.observation_space),
            "Actions": _space(dataset.action_space),
        }
    )


def _space(space: Space) -> str:
    if space.n is not None:
        return f"{space.n} choices"
    return f"{' × '.join(str(size) for size in space.shape)} {space.dtype}"


def _suggestions(name: str, found: Suggestions) -> Html:
    targets = [f"{target:g}" for target in found.target_returns]
    command = [
        "wikirl", "finetune", "--dataset", name, "--target-returns", *targets,
        "--return-scale", f"{found.return_scale:.4g}", "--context-length", str(found.context_length),
        "--out", "runs/mine",
    ]  # fmt: skip
    return pages.join(
        [
            pages.paragraph("Target returns: ", pages.strong(" and ".join(targets)), f" ({found.rule})."),
            pages.paragraph(
                f"Returns divided by {found.return_scale:.4g} lie within -1 and 1. The longest episode has "
                f"{plural(found.max_timesteps, 'step')}."
            ),
            pages.code(shlex.join(command)),
        ]
    )


def _episodes(dataset: TrajectoryDataset, found: Suggestions) -> Html:
    returns, near = dataset.returns.astype(np.float64), near_best(dataset)
    targets = {f"target {target:g}": target for target in found.target_returns}
    share = float(dataset.lengths[near].sum() / dataset.num_steps)
    return pages.join(
        [
            pages.side_by_side(
                pages.figure(
                    charts.bar_chart(_histogram("Histogram of returns", "return of an episode", returns, targets)),
                    f"{plural(int(near.sum()), 'episode')}, with {percent(share)} of all steps, "
                    f"within a tenth of the range below the best return.",
                ),
                pages.figure(charts.bar_chart(_lengths(dataset)), "Lengths of episodes, by how they ended."),
            ),
            _quantiles({"return": returns, "length": dataset.lengths.astype(np.float64)}),
        ]
    )


def _quantiles(columns: dict[str, npt.NDArray[np.float64]]) -> Html:
    """Rows are quantiles, so that it fits on a phone."""
    levels = {"smallest": 0.0, "5 % up to": 0.05, "25 %": 0.25, "half": 0.5, "75 %": 0.75, "95 %": 0.95, "largest": 1.0}
    rows = [
        {"": label, **{name: number(float(np.quantile(values, level))) for name, values in columns.items()}}
        for label, level in levels.items()
    ]
    return pages.table(
        [*rows, {"": "mean", **{name: number(float(values.mean())) for name, values in columns.items()}}]
    )


def _edges(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - max(0.5, abs(low) / 1000), high + max(0.5, abs(high) / 1000)
    return np.linspace(low, high, min(max(int(np.sqrt(len(values))), 10), _MOST_BARS) + 1)


def _histogram(title: str, label: str, values: npt.NDArray[np.float64], references: dict[str, float]) -> Bars:
    edges = _edges(values)
    counts, _ = np.histogram(values, edges)
    return Bars(title, label, "episodes", edges.tolist(), {"episodes": counts.tolist()}, references)


def _lengths(dataset: TrajectoryDataset) -> Bars:
    edges = _edges(dataset.lengths.astype(np.float64))
    kinds = {"terminated": dataset.terminated, "cut": ~dataset.terminated}
    counts = {name: np.histogram(dataset.lengths[kind], edges)[0].tolist() for name, kind in kinds.items()}
    return Bars("Histogram of lengths", "steps of an episode", "episodes", edges.tolist(), counts)


def _observations(dataset: TrajectoryDataset, columns: Columns) -> Html:
    if len(columns.low) > _MOST_DRAWN:
        return pages.paragraph(
            f"{len(columns.low):,} coordinates between {number(float(columns.low.min()))} and "
            f"{number(float(columns.high.max()))}; {int(columns.constant.sum()):,} never change."
        )
    chart = Ranges(
        "Observations by coordinate", "coordinate", "value",
        columns.low.tolist(), columns.high.tolist(), columns.mean.tolist(), columns.std.tolist(),
    )  # fmt: skip
    return pages.side_by_side(pages.figure(charts.range_chart(chart), "Where observations lie."), _table(columns))


def _actions(dataset: TrajectoryDataset, profile: Profile) -> Html:
    if profile.choices is not None:
        share = 100 * profile.choices / dataset.num_steps
        edges = (np.arange(len(share) + 1) - 0.5).tolist()
        chart = Bars("Choices", "choice", "% of all steps", edges, {"taken": share.tolist()}, numbered=True)
        return pages.figure(charts.bar_chart(chart), "How often each choice was taken.")
    columns, use = profile.actions, profile.action_use
    assert use is not None
    if len(columns.low) > _MOST_DRAWN:
        return pages.paragraph(f"{len(columns.low):,} coordinates.")
    bounded = bool(np.isfinite(use.low).all() and np.isfinite(use.high).all())
    ranges = Ranges(
        "Actions by coordinate", "coordinate", "value",
        columns.low.tolist(), columns.high.tolist(), columns.mean.tolist(), columns.std.tolist(),
        {"lower bound": use.low.tolist(), "upper bound": use.high.tolist()} if bounded else {},
    )  # fmt: skip
    edges = (np.arange(len(use.low) + 1) - 0.5).tolist()
    shares = {"at lower bound": (100 * use.at_low).tolist(), "at upper bound": (100 * use.at_high).tolist()}
    full = Bars("Actions at their bounds", "coordinate", "% of all steps", edges, shares, numbered=True)
    outside = f"{percent(use.outside)} of the steps hold an action outside."
    return pages.join(
        [
            pages.side_by_side(
                pages.figure(charts.range_chart(ranges), "Where actions lie."),
                pages.figure(charts.bar_chart(full), f"Steps within a thousandth of the range of a bound. {outside}"),
            ),
            _table(columns),
        ]
    )


def _table(columns: Columns) -> Html:
    count = len(columns.low)
    rows = [
        {
            "#": str(place),
            **{
                name: f"{getattr(columns, key)[place]:.3g}"
                for name, key in (("smallest", "low"), ("largest", "high"), ("mean", "mean"), ("deviation", "std"))
            },
        }
        for place in range(min(count, _MOST_LISTED))
    ]
    return pages.table(rows, f"The first {_MOST_LISTED} of {count}" if count > _MOST_LISTED else "")
