"""`wikirl data`: where trajectories come from, what is in them, whether they are sound.

Each action is one function that adds its flags and says what runs. Nothing heavy is imported before one runs.
"""

import argparse
import textwrap
from pathlib import Path

from wikirl.cli_parts import Result, finishing, lines, table
from wikirl.errors import UnsoundDatasetError


def add_actions(parser: argparse.ArgumentParser) -> None:
    """The actions of `wikirl data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="datasets at hand")
    finishing(listing, _list_datasets, lambda result: table(result["datasets"]))
    show = actions.add_parser("show", help="sizes, spaces and statistics of a dataset")
    show.add_argument("dataset", help="builtin:NAME, file:PATH, minari:ID or d4rl:NAME")
    finishing(show, _show_dataset, lines)
    _add_check(actions.add_parser("check", help="is a dataset sound, and what to ask of it; leaves an HTML page"))


def _list_datasets() -> Result:
    from dataclasses import asdict

    from wikirl.trajectories.sources import list_datasets

    return {"datasets": [asdict(entry) for entry in list_datasets()]}


def _show_dataset(dataset: str) -> Result:
    from dataclasses import asdict

    from wikirl.trajectories.sources import load_trajectories

    found = load_trajectories(dataset)
    statistics = asdict(found.statistics)
    for name in ("observation_mean", "observation_std"):
        statistics[name] = statistics[name].ravel().tolist()
    return {
        "name": found.name,
        "environment": found.environment,
        "num_steps": found.num_steps,
        "num_episodes": found.num_episodes,
        "observation_space": found.observation_space.to_json(),
        "action_space": found.action_space.to_json(),
        **statistics,
        "fingerprint": found.fingerprint,
        "details": dict(found.details),
    }


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="builtin:NAME, file:PATH, minari:ID or d4rl:NAME")
    parser.add_argument(
        "--context-length", type=int, default=20, metavar="N", help="timesteps in a window of training (default: 20)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help="where to write the page (default: runs/check/NAME.html)"
    )
    parser.add_argument("--no-page", action="store_true", help="write no page")
    finishing(parser, _check_dataset, _checked)


def _check_dataset(dataset: str, context_length: int, out: Path | None, no_page: bool) -> Result:
    from wikirl.trajectories.checking import check_trajectories
    from wikirl.trajectories.checking_page import default_page, write_page

    report = check_trajectories(dataset, context_length=context_length)
    page = None if no_page else out or default_page(dataset)
    if page is not None:
        write_page(report, page)
    result = report.to_json() | {"page": None if page is None else str(page)}
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        where = "" if report.dataset is None else f"{report.name}: "  # what cannot be read is named already
        raise UnsoundDatasetError(f"{where}{errors[0].message}{more}; {errors[0].advice}", result)
    return result


def _checked(result: Result) -> str:
    """Sizes, findings with what to do, suggestions, and where the page is."""
    parts = [result["name"]]
    if (numbers := result["statistics"]) is not None:
        parts.append(lines({
            "steps": numbers["num_steps"],
            "episodes": numbers["num_episodes"],
            "terminated": f"{100 * numbers['terminated_fraction']:.1f} %",
            **{name: _spread(numbers[name]) for name in ("returns", "lengths")},
        }))  # fmt: skip
    for finding in result["findings"]:
        head = f"{finding['severity'].upper()} ({finding['topic']}): {finding['message']}"
        advice = f"what to do: {finding['advice']}"
        parts.append(_wrapped(head) + "\n" + textwrap.indent(_wrapped(advice), "    "))
    if not result["findings"]:
        parts.append("Nothing to complain of.")
    if (asked := result["suggestions"]) is not None:
        targets = " ".join(f"{target:g}" for target in asked["target_returns"])
        parts.append(_wrapped(f"Suggested: --target-returns {targets} ({asked['rule']})"))
    if result["page"] is not None:
        parts.append(f"Page: {result['page']}")
    return "\n\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 96, break_long_words=False, break_on_hyphens=False)


def _spread(summary: Result) -> str:
    from wikirl.trajectories.findings import number

    low, half, high, mean = (
        number(value) for value in (summary["min"], summary["quantiles"]["0.5"], summary["max"], summary["mean"])
    )
    return f"{low} to {high}, half up to {half}, mean {mean}"
