import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.reports.studies import SCRATCH, ToyArm, ToyTask, write_suite
from tests.test_pages import Outline
from wikirl import cli
from wikirl.reports.report import report

HOSTILE = """<script>alert('1')</script>|`$a$`[x](javascript:1)*_"""
TASKS = [ToyTask(), ToyTask("hopper-medium-replay")]


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with everything in it that a report has a place for, and its report."""
    arms = [
        ToyArm("chibit", 70, published="ChibiT", num_tokens=1_000_000), SCRATCH, ToyArm("markov", 52, control=True),
        ToyArm("other", 55, against="markov"), ToyArm("BC", 40, kind="baseline", published="BC"),
    ]  # fmt: skip
    folder = write_suite(
        tmp_path_factory.mktemp("study"), arms, TASKS, seeds=(0, 1, 2, 3),
        unfinished=lambda arm, task, seed: (arm, seed) == ("BC", 3),
        skipped=[{"arm": "GPT-2", "task": "hopper-medium", "reason": "no hub here"}],
    )  # fmt: skip
    report(folder)
    return folder


def test_the_page_has_everything_in_its_order(folder: Path) -> None:
    page = (folder / "report" / "index.html").read_text()
    outline = Outline(page)
    assert headings(page) == [
        "Scores", "Differences", "Learning curves", "Performance profiles", "How soon", "Which checkpoint",
        "What is missing", "How every number was made", "What was run", "Run it again",
    ]  # fmt: skip
    words = outline.text.replace("\N{NO-BREAK SPACE}", " ")
    verdict, picture, tables = (words.index(part) for part in ("Verdict: helps", "Thick: 95 %", "Mean ± deviation"))
    assert verdict < picture < tables
    for part in (
        "82.1 ± 4.6? [1]", "recalled, not confirmed", "are other data of that name", "53.5 [", "best (chosen by score)",
        "GPT-2 on hopper-medium: no hub here", "Runs without scores: 2", "not begun", "not asked for one: BC",
        "D4RL hopper (defined on v0, v1, v2)", "torch 2.13.0", "wikirl finetune --dataset=builtin:hopper-medium",
        "* other minus markov", "4,167 updates", "All runs share precision",
    ):  # fmt: skip
        assert part in words, part
    assert outline.count("script") == 0
    assert "://" not in page


def test_the_text_says_the_same(folder: Path) -> None:
    text = (folder / "report" / "report.md").read_text()
    assert text.index("**Verdict: helps.**") < text.index("![Difference to scratch") < text.index("## Scores")
    for line in text.splitlines():
        if line.startswith("!["):
            picture = folder / "report" / line.split("(")[1].rstrip(")")
            assert picture.read_bytes().startswith(b"\x89PNG")
    assert "| chibit | 4 (0–3) |" in text
    assert "```sh\nwikirl finetune" in text


def test_results_alone_give_the_same_report(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "report" / "results.json", tmp_path / "results.json")
    report(tmp_path)
    names = {path.name for path in (folder / "report").iterdir()}
    assert names == {path.name for path in (tmp_path / "report").iterdir()}
    for name in names:
        assert (folder / "report" / name).read_bytes() == (tmp_path / "report" / name).read_bytes(), name


def test_numbers_that_are_written_are_finite_json(folder: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    value = json.loads((folder / "report" / "analysis.json").read_text(), parse_constant=refuse)
    assert value["verdict"]["word"] == "helps"
    assert value["threshold_share"] == 0.9


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    arm, task = ToyArm(f"a{HOSTILE}", published=HOSTILE), ToyTask(f"t{HOSTILE}".replace("/", ""), note=HOSTILE)
    folder = write_suite(
        tmp_path, [arm, SCRATCH], [task], seeds=(0, 1), skipped=[{"arm": HOSTILE, "task": HOSTILE, "reason": HOSTILE}]
    )
    report(folder)
    page = (folder / "report" / "index.html").read_text()
    assert Outline(page).count("script") == 0
    assert HOSTILE in Outline(page).text
    written = (folder / "report" / "report.md").read_text()
    text = re.sub(r"^(`{3,})sh\n.*?\n\1$", "", written, flags=re.S | re.M)  # in code everything is text
    assert written.count("<script") > text.count("<script") == 0
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    rows = [line for line in text.splitlines() if line.startswith("| a&lt;script")]
    assert rows
    assert all(row.replace("\\|", "").count("|") == rows[0].replace("\\|", "").count("|") for row in rows[:1])


def test_one_arm_alone_has_a_page_without_comparison(tmp_path: Path) -> None:
    folder = write_suite(
        tmp_path, [ToyArm("chibit"), SCRATCH], seeds=(0, 1), unfinished=lambda arm, task, seed: arm == "chibit"
    )
    assert report(folder)["verdict"] == "cannot be said"
    assert not (folder / "report" / "verdict.png").exists()
    assert "Differences" not in headings((folder / "report" / "index.html").read_text())


def test_one_evaluation_and_one_seed_are_enough_for_a_page(tmp_path: Path) -> None:
    folder = write_suite(tmp_path, [ToyArm("chibit"), SCRATCH], seeds=(0,), num_evaluations=1)
    assert report(folder)["verdict"] == "cannot be said"


def test_tasks_without_reference_scores(tmp_path: Path) -> None:
    tasks = [
        ToyTask("maze", "wikirl/PointMaze-v0", 50.0, None),
        ToyTask("maze-expert", "wikirl/PointMaze-v0", 50.0, None),
    ]
    folder = write_suite(tmp_path, [ToyArm("chibit", 90), SCRATCH], tasks)
    assert report(folder)["verdict"] == "helps"
    words = Outline((folder / "report" / "index.html").read_text()).text
    assert "all tasks together" not in words
    assert "maze (return, environment units)" in words
    assert "Tasks are not put together: no reference score is known for maze, maze-expert" in words


def test_runs_that_were_not_made_alike_are_named(tmp_path: Path) -> None:
    def change(arm: str, task: str, seed: int, files: dict[str, Any]) -> None:
        if arm == "scratch":
            files["config.json"]["precision"] = "bfloat16"
            files["provenance.json"]["versions"]["torch"] = "2.14.0"
        if arm == "BC":
            files["provenance.json"]["versions"] = {"d3rlpy": "2.8.0"}
            files["scores.json"]["warnings"] = ["a warning"]

    arms = [ToyArm("chibit"), SCRATCH, ToyArm("BC", kind="baseline")]
    folder = write_suite(tmp_path, arms, seeds=(0, 1), change=change)
    report(folder)
    words = Outline((folder / "report" / "index.html").read_text()).text
    assert "precision: float32 (BC and chibit); bfloat16 (scratch)" in words
    assert "version of torch: 2.13.0 (chibit); 2.14.0 (scratch)" in words
    assert "d3rlpy:" not in words  # only one arm has a use for it
    assert "BC: a warning" in words


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The least that has a verdict."""
    return write_suite(
        tmp_path / "small", [ToyArm("chibit", 90), SCRATCH], seeds=(0, 1, 2, 3), num_evaluations=2, noise=1.0,
        unfinished=lambda arm, task, seed: seed == 3,
    )  # fmt: skip


def test_the_verb(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(small), "--out", str(tmp_path / "here"), "--threshold-share", "0.5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["verdict"] == "helps"
    assert result["sentence"].startswith("chibit scores higher than scratch: +")
    assert result["report"] == str(tmp_path / "here" / "index.html")
    assert (result["num_runs"], result["num_missing"]) == (6, 2)
    assert cli.main(["report", str(small), "--out", str(tmp_path / "here")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Verdict: helps\n")
    assert "Report of 6 runs, 2 missing:" in said


def test_mistakes_end_with_one_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "suite.json").write_text('{"format": "wikirl su')
    unrun = write_suite(tmp_path / "unrun", [ToyArm("a"), SCRATCH], unfinished=lambda arm, task, seed: True)
    (tmp_path / "file").write_text("")
    for arguments in (
        [str(tmp_path / "nowhere")], [str(tmp_path / "empty")], [str(tmp_path / "torn")], [str(unrun)],
        [str(tmp_path / "file")], [str(small), "--out", str(tmp_path / "file")],
        [str(small), "--out", str(tmp_path / "file" / "deeper")], [str(small), "--threshold-share", "7"],
    ):  # fmt: skip
        assert cli.main(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("wikirl: expected"), error
        assert error.count("\n") == 1


def test_pictures_are_drawn(folder: Path) -> None:
    for name in ("verdict", "curves-1-hopper-medium", "profiles"):
        data = (folder / "report" / f"{name}.png").read_bytes()
        picture = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
        assert (np.abs(picture - [0x00, 0x72, 0xB2]).sum(axis=2) < 30).sum() > 300
