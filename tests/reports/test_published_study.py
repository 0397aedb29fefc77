"""The published study: its statistics follow from the summaries of its runs that lie beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from wikirl.reports.report import report

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "controls"


def numbers(value: Any, at: str = "") -> dict[str, Any]:
    """Every leaf of a JSON value by its path."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    leaves = {key: leaf for name, part in parts for key, leaf in numbers(part, f"{at}/{name}").items()}
    return leaves if isinstance(value, dict | list) else {at: value}


def test_the_published_statistics_follow_from_the_published_runs(tmp_path: Path) -> None:
    said = report(PUBLISHED, tmp_path)
    ours, theirs = (numbers(json.loads((folder / "analysis.json").read_text())) for folder in (tmp_path, PUBLISHED))
    assert ours.keys() == theirs.keys()
    for at, value in theirs.items():
        assert ours[at] == (pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value), at
    assert said["sentence"] in " ".join((PUBLISHED / "report.md").read_text().split())


def test_the_published_study_is_as_large_as_it_says() -> None:
    found = json.loads((PUBLISHED / "results.json").read_text())
    plain = [arm["name"] for arm in found["arms"] if "tricks" not in arm["name"]]
    runs = {(run["arm"], run["task"], run["seed"]) for run in found["runs"]}
    assert runs >= {(arm, task["name"], seed) for arm in plain for task in found["tasks"] for seed in range(5)}
