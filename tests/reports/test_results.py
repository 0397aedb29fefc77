import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reports.studies import SCRATCH, ToyArm, ToyTask, write_suite
from wikirl.errors import WikiRLError
from wikirl.reports.results import StudyResults
from wikirl.reports.results_reading import read_study

ARM = ToyArm("chibit", 55.0, num_tokens=1_000_000)


def test_a_suite_folder_becomes_one_value(tmp_path: Path) -> None:
    skipped = [{"arm": "GPT-2", "task": "hopper-medium", "reason": "no hub"}]
    results = read_study(write_suite(tmp_path, [ARM, SCRATCH], seeds=(3, 7), skipped=skipped))
    assert results.primary == ("chibit", "scratch")
    assert sorted(results.of("chibit", "hopper-medium")) == [3, 7]
    run = results.of("chibit", "hopper-medium")[3]
    on_disk = json.loads((tmp_path / "runs" / run.name / "scores.json").read_text())
    first = on_disk["evaluations"][0]
    assert run.scores[0].return_mean == pytest.approx(sum(first["returns"]) / 5)
    assert run.scores[0].normalized == pytest.approx(sum(first["normalized"]) / 5)
    assert run.scores[0].seconds == 5.03
    assert run.protocol.target_return == 2800.0
    assert run.context_length == 20
    assert results.skipped[0].reason == "no hub"
    assert results.arm("chibit").pretraining is not None


def test_results_survive_json(tmp_path: Path) -> None:
    arms = [ARM, SCRATCH, ToyArm("BC", 40, kind="baseline")]
    results = read_study(write_suite(tmp_path / "a", arms, unfinished=lambda arm, task, seed: (arm, seed) == ("BC", 1)))
    value = json.loads(json.dumps(results.to_json(), allow_nan=False))
    assert StudyResults.from_json(value) == results
    assert len(value["protocols"]) == 2  # with a target return, and of a baseline, which is not asked for one
    assert len(value["origins"]) == 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.json").write_text(json.dumps(value))
    assert read_study(tmp_path / "b") == results


def test_unfinished_runs_are_listed_with_their_state(tmp_path: Path) -> None:
    folder = write_suite(tmp_path, [ARM, SCRATCH], seeds=(0, 1, 2), unfinished=lambda arm, task, seed: arm == "chibit")
    begun, failed = (folder / "runs" / f"hopper-medium.chibit.seed-{seed}.0123abcd" for seed in (0, 1))
    begun.mkdir()
    (begun / "metrics.jsonl").write_text('{"step": 40, "seconds": 1.0}\n{"step": 41, "sec')
    failed.with_name(f"{failed.name}.log").write_text("some bar\nwikirl: no room at all\n")
    assert [run.state for run in read_study(folder).missing] == [
        "at step 40 of 600", "not begun; it said: no room at all", "not begun",
    ]  # fmt: skip


def edit(name: str, change: Callable[[Any], None]) -> Callable[[str, str, int, dict[str, Any]], None]:
    """Something else in a file of scratch's first run."""

    def apply(arm: str, task: str, seed: int, files: dict[str, Any]) -> None:
        if (arm, seed) == ("scratch", 0):
            change(files[name])

    return apply


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("scores.json", lambda f: f["protocols"][0].update(environment_id="Hopper-v4"), "different protocols"),
        ("scores.json", lambda f: f["protocols"][0].update(mujoco="2.3.7"), "mujoco: '3.4.0' and '2.3.7'"),
        ("scores.json", lambda f: f["protocols"][0].update(num_episodes=100), "num_episodes: 5 and 100"),
        ("config.json", lambda f: f.update(dataset_fingerprint="ffff"), "the same data; found fingerprints"),
        ("scores.json", lambda f: f["evaluations"].pop(), "scored at the same steps"),
        ("scores.json", lambda f: f["evaluations"][2].update(normalized=None), "some scores of scratch are normalised"),
        ("scores.json", lambda f: f["protocols"][0].update(target_return=1800.0), "one score at target return 2800.0"),
        ("scores.json", lambda f: f["evaluations"][1]["returns"].__setitem__(2, 1e999), "found others at step 200"),
        ("scores.json", lambda f: f.pop("num_parameters"), "scores.json: expected num_parameters"),
        ("scores.json", lambda f: f.update(evaluations=[]), "expected scores in an environment"),
        ("config.json", lambda f: f.update(precision=32), "config.json: expected text at the file.precision; found 32"),
        ("provenance.json", lambda f: f.update(versions=None), "provenance.json: expected an object"),
        ("metrics.jsonl", lambda f: f.pop(), "expected a line for step 600"),
        ("metrics.jsonl", lambda f: f[0].pop("seconds"), "metrics.jsonl: expected seconds at the line of step 100"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, name: str, change: Callable[[Any], None], words: str
) -> None:
    folder = write_suite(tmp_path, [ARM, SCRATCH], seeds=(0, 1), change=edit(name, change))
    with pytest.raises(WikiRLError) as caught:
        read_study(folder)
    assert words in str(caught.value)


def test_a_baseline_that_is_not_asked_for_a_return_may_stand_beside_others(tmp_path: Path) -> None:
    folder = write_suite(tmp_path, [ARM, SCRATCH, ToyArm("BC", kind="baseline")], seeds=(0, 1))
    assert len(read_study(folder).runs) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(format="wikirl suite 9"), "expected 'wikirl suite 1' as the format"),
        (lambda s: s["arms"].pop(), "expected the name of an arm"),
        (lambda s: s["runs"].append(s["runs"][0]), "expected each seed once"),
        (lambda s: s["tasks"].append(s["tasks"][0]), "expected different names of tasks"),
        (lambda s: s["runs"][0].update(name="../../etc"), "expected a run's folder name"),
        (lambda s: s["runs"][0].update(task="pong"), "expected a run's folder name and a task"),
        (lambda s: s["runs"][0].update(seed="0"), "expected a whole number at suite.runs[0].seed; found '0'"),
        (lambda s: s["budget"].update(learning_rate=float("nan")), "expected a finite number at suite.budget"),
        (lambda s: s.pop("budget"), "expected budget at suite"),
        (lambda s: s.update(primary=["chibit"]), "expected 2 values at suite.primary; found 1"),
        (lambda s: s.update(primary=["chibit", "chibit"]), "two different arms"),
        (lambda s: s.update(tasks={}), "expected a list at suite.tasks; found {}"),
    ],
)
def test_a_suite_file_that_does_not_fit(tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    folder = write_suite(tmp_path, [ARM, SCRATCH], seeds=(0,))
    suite = json.loads((folder / "suite.json").read_text())
    change(suite)
    (folder / "suite.json").write_text(json.dumps(suite))
    with pytest.raises(WikiRLError) as caught:
        read_study(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "wikirl results 1", "runs": [{"protocol": 3}]}', "\x00"])
def test_a_results_file_that_is_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "results.json").write_text(damage)
    with pytest.raises(WikiRLError, match=r"results\.json"):
        read_study(tmp_path)


def test_raw_returns_where_no_reference_is_known(tmp_path: Path) -> None:
    task = ToyTask("maze", "wikirl/PointMaze-v0", 50.0, None)
    run = read_study(write_suite(tmp_path, [ARM, SCRATCH], [task], seeds=(0,))).runs[0]
    assert run.scores[0].normalized is None
    assert run.protocol.reference is None
