"""`wikirl report`: from a study's folder to a page, a text and the numbers behind them.

    read_study → analyse → report_document → index.html, report.md, results.json, analysis.json, *.png

A folder that holds nothing but results.json gives the same files, byte for byte.
"""

from pathlib import Path
from typing import Any

from wikirl.errors import RunError
from wikirl.reports.report_contents import report_document
from wikirl.reports.report_page import html_page
from wikirl.reports.report_text import markdown_text, png_files
from wikirl.reports.results_reading import read_study
from wikirl.reports.study import THRESHOLD_SHARE, analyse
from wikirl.runs import write_bytes, write_json


def report(folder: Path, out: Path | None = None, *, threshold_share: float = THRESHOLD_SHARE) -> dict[str, Any]:
    """Write the report of the study in `folder` to `out`, by default to `folder`/report.

    Returns:
        Verdict, sentence, and where the page is.

    Raises:
        WikiRLError: the folder holds no study, a damaged one, or one without a finished run; or runs mix protocols.
    """
    analysis = analyse(read_study(folder), threshold_share)
    document = report_document(analysis)
    out = out or folder / "report"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"expected a folder for the report at {out}; found a file; choose another --out") from error
    for name, data in png_files(document).items():
        write_bytes(out / name, data)
    write_bytes(out / "report.md", markdown_text(document).encode())
    write_json(out / "results.json", analysis.results.to_json())
    write_json(out / "analysis.json", analysis.to_json())
    write_bytes(out / "index.html", html_page(document).encode())
    results, verdict = analysis.results, analysis.verdict
    return {
        "verdict": verdict.word,
        "sentence": verdict.sentence,
        "details": list(verdict.details),
        "num_runs": len(results.runs),
        "num_missing": len(results.missing),
        "report": str(out / "index.html"),
    }
