"""`wikirl report`: the verdict of a study in the terminal, and its page.

Nothing heavy is imported before it runs.
"""

import argparse
import textwrap
from pathlib import Path

from wikirl.cli_parts import Result, finishing


def add_report(parser: argparse.ArgumentParser) -> None:
    """Flags of `wikirl report`, and what runs."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="what wikirl suite run left, or a folder with results.json"
    )
    parser.add_argument("--out", type=Path, metavar="REPORT", help="folder for the report (default: DIR/report)")
    parser.add_argument(
        "--threshold-share",
        type=float,
        default=0.9,
        metavar="X",
        help="share of the reference's final mean that counts as converged (default: 0.9)",
    )
    finishing(parser, _report, _shown)


def _report(folder: Path, out: Path | None, threshold_share: float) -> Result:
    from wikirl.reports.report import report

    return report(folder, out, threshold_share=threshold_share)


def _shown(result: Result) -> str:
    missing = f", {result['num_missing']} missing" if result["num_missing"] else ""
    lines = [result["sentence"], *result["details"]]
    wrapped = [textwrap.fill(line, 96, break_long_words=False, break_on_hyphens=False) for line in lines]
    runs = f"{result['num_runs']} runs{missing}"
    return "\n\n".join([f"Verdict: {result['verdict']}", *wrapped, f"Report of {runs}: {result['report']}"])
