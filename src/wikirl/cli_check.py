"""`wikirl data check`: the data doctor in the terminal.

Nothing heavy is imported before it runs.
"""

import argparse
import textwrap
from pathlib import Path

from wikirl.cli_parts import Result, finishing, lines
from wikirl.errors import UnsoundDatasetError


def add_check(parser: argparse.ArgumentParser) -> None:
    """Flags of `wikirl data check`, and what runs."""
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
