"""A small suite from its command to its verdict, interrupted and gone on with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from wikirl import cli
from wikirl.errors import ConfigError, RunError
from wikirl.experiments.controls import CONTROLS
from wikirl.experiments.suite import ArmPlan, Suite
from wikirl.experiments.suite_run import Way, run_job, run_suite, slurm_jobs
from wikirl.experiments.tasks import shipped
from wikirl.experiments.worker import Machine
from wikirl.reports.suite_file import Budget

MACHINE = Machine("cpu", "float32")
SUITE = Suite(
    "toy", "Does it run?", ("shuffled", "scratch"), (shipped("cartpole-medium-replay"),),
    (
        ArmPlan("shuffled", "a shipped start", {"backbone": "chibit-shuffled"}, "scratch"),
        ArmPlan("scratch", "random weights", {"architecture": "chibit-shuffled"}),
        ArmPlan("BC", "behaviour cloning", {"algorithm": "bc"}, "scratch", "baseline"),
        ArmPlan("GPT-2", "nowhere", {"backbone": "./no-such-folder"}, "scratch"),
    ),
    {"smoke": Budget("smoke", 4, 4, 1e-3, 2, 2, (0, 1))},
)  # fmt: skip


def finished(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (out / "runs").glob("*/scores.json")}


def test_a_suite_makes_what_is_missing_and_never_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "suite"
    run_job(SUITE, "smoke", out, MACHINE, job=0)  # as a job of an array
    (first,) = finished(out)
    before = (out / "runs" / first / "scores.json").stat().st_mtime_ns
    result = run_suite(SUITE, "smoke", out, MACHINE, way=Way("processes", 2))
    assert (result["num_runs"], result["num_finished"]) == (6, 6)
    assert [one["arm"] for one in result["skipped"]] == ["GPT-2"]
    assert "skipped: GPT-2: " in capsys.readouterr().err
    scores = finished(out)
    assert len(scores) == 6
    assert (out / "runs" / first / "scores.json").stat().st_mtime_ns == before
    again = run_suite(SUITE, "smoke", out, MACHINE)
    assert "forecast" not in again
    more = run_suite(SUITE, "smoke", out, MACHINE, seeds=(5,), only_plan=True)
    assert (more["num_runs"], more["num_finished"]) == (3, 0)
    assert json.loads((out / "suite.json").read_text())["budget"]["seeds"] == [0, 1, 5]  # those it had are kept
    assert {run["seed"] for run in json.loads((out / "suite.json").read_text())["runs"]} == {0, 1, 5}
    assert cli.main(["report", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] in ("helps", "no difference shown", "hurts")
    assert cli.main(["suite", "status", "toy", "--out", str(out), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["num_finished"], status["num_runs"]) == (6, 9)

    stacked = tmp_path / "stacked"
    run_suite(SUITE, "smoke", stacked, MACHINE, way=Way("stacked"), seeds=(0,))
    for name, content in finished(stacked).items():
        ours, theirs = (json.loads(text)["evaluations"] for text in (content, scores[name]))
        assert [one["step"] for one in ours] == [one["step"] for one in theirs]
        if ".bc." in name:
            assert ours == theirs


def test_a_run_that_cannot_be_made_stops_no_other(tmp_path: Path) -> None:
    study_folder = tmp_path / "runs"
    study_folder.mkdir()
    suite = replace(SUITE, arms=SUITE.arms[1:3], primary=("BC", "scratch"))
    run_suite(suite, "smoke", tmp_path, MACHINE, only_plan=True)
    names = [run["name"] for run in json.loads((tmp_path / "suite.json").read_text())["runs"]]
    (study_folder / names[0]).mkdir()
    (study_folder / names[0] / "something.txt").touch()
    with pytest.raises(RunError, match=rf"1 of 4 runs of toy could not be made; {names[0]}: .*holds something else"):
        run_suite(suite, "smoke", tmp_path, MACHINE, way=Way("processes", 2))
    assert len(finished(tmp_path)) == 3


def test_wrong_requests_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="job from 0 to 5"):
        run_job(SUITE, "smoke", tmp_path, MACHINE, job=6)
    with pytest.raises(ConfigError, match="num_processes of at least 1"):
        run_suite(SUITE, "smoke", tmp_path, MACHINE, way=Way(num_processes=0))
    capsys.readouterr()
    for words in (
        ["suite", "run", "no-such-suite"],
        ["suite", "run", "controls", "--out", "/dev/null/x"],
        ["suite", "status", "controls", "--out", str(tmp_path / "nowhere")],
    ):
        assert cli.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_suite_as_a_slurm_array(tmp_path: Path) -> None:
    script = slurm_jobs(CONTROLS, "smoke", tmp_path, MACHINE, command=["wikirl", "suite", "run", "controls"])["script"]
    assert "--array=0-55" in script
    assert '--job "$SLURM_ARRAY_TASK_ID"' in script
