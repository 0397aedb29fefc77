import base64
import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from wikirl.errors import ConfigError, RunError
from wikirl.experiments.demo import DemoSettings, demo
from wikirl.experiments.demo_page import DrawnEpisode, report
from wikirl.runs import read_json, read_metrics

from .conftest import HOSTILE, Finished

ARMS = ("scratch", "chibit")


class Sources(HTMLParser):
    """Everything that a page shows or points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[tuple[str, str]] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.charts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.tags.add(tag)
        if tag == "img":
            self.images.append((values["src"], values["alt"]))
        if tag == "a":
            self.links.append(values["href"])
        if values.get("class") == "chart":
            self.charts.append(values["aria-label"])

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_summary_agrees_with_the_run_folders(finished: Finished) -> None:
    summary = finished.summary
    assert read_json(finished.out / "summary.json") == json.loads(json.dumps(summary))
    assert list(summary["arms"]) == list(ARMS)
    for arm in ARMS:
        (run,) = summary["arms"][arm]["runs"]
        scores = read_json(finished.out / run["run"] / "scores.json")
        assert run["summary"] == scores["summary"][0]
        assert run["protocol"] == scores["protocols"][0] == summary["protocol"]
        assert [entry["step"] for entry in run["evaluations"]] == [8, 16]
        for entry, evaluation in zip(run["evaluations"], scores["evaluations"], strict=True):
            assert entry["return_mean"] == pytest.approx(sum(evaluation["returns"]) / 2)
        assert summary["arms"][arm]["means"]["last_normalized"] == run["summary"]["last_normalized"]
        assert f"{run['summary']['last_normalized']:.1f} ({run['summary']['last_return']:.0f})" in summary["table"]
        # The film is the first episode that the score is made of, but for rounding: one row is multiplied otherwise.
        assert summary["rendering"][arm]["num_steps"] == scores["evaluations"][-1]["lengths"][0]
        assert summary["rendering"][arm]["total_return"] == pytest.approx(
            scores["evaluations"][-1]["returns"][0], rel=1e-3
        )
    assert summary["verdict"].startswith("No difference can be claimed from 1 seed per arm")
    assert summary["verdict"] in summary["table"]
    assert summary["data"]["num_steps"] == 120_000


def test_only_the_starting_weights_differ(finished: Finished) -> None:
    scratch, chibit = (read_json(finished.out / f"{arm}-seed-3" / "config.json") for arm in ARMS)
    different = {key for key in scratch if scratch[key] != chibit[key]}
    assert different == {"backbone", "backbone_fingerprint", "hash"}
    assert scratch["recipe"] == "fair"


def test_the_report_shows_curves_films_and_strips_and_loads_nothing(finished: Finished) -> None:
    page = Sources(finished.html)
    assert page.charts == ["Score in Hopper-v5 against updates", "Training loss against updates"]
    data = [base64.b64decode(source.split(",", 1)[1]) for source, _ in page.images]
    assert [picture[:6] for picture in data].count(b"GIF89a") == 2
    for arm in ARMS:
        assert sum(alt.startswith(f"{arm}: picture") for _, alt in page.images) == 8
    assert all(source.startswith("data:image/") for source, _ in page.images)
    assert all(link.startswith("./") and (finished.out / link).exists() for link in page.links)
    assert "://" not in re.sub(r"data:[^\"]*", "", finished.html)
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    assert len(finished.html) < 3_000_000
    assert finished.summary["verdict"] in page.text
    assert any(how in page.text for how in ("drawn from the joint positions", "rendered by MuJoCo through"))
    assert (finished.out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_says_when_there_was_nothing_to_render_with(finished: Finished) -> None:
    drawn = DrawnEpisode(b"GIF89a", (b"",) * 8, "joints", "egl: <b>no</b> library; osmesa: none", 1.0, 2, 0.1)
    page = Sources(report(finished.summary, dict.fromkeys(ARMS, drawn)))
    assert "drawn from the joint positions, without a renderer" in page.text
    assert "Other methods did not work here: egl: <b>no</b> library; osmesa: none." in page.text
    assert "b" not in page.tags


def test_a_hostile_file_name_stays_text(finished: Finished) -> None:
    assert HOSTILE in Sources(finished.html).text
    assert "<img src=x" not in finished.html


def test_a_finished_demo_is_not_run_again(finished: Finished) -> None:
    watched = [path for arm in ARMS for path in (finished.out / f"{arm}-seed-3").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in watched}
    again = demo(finished.out, settings=finished.settings)
    assert {path: path.stat().st_mtime_ns for path in watched} == before
    assert {**again, "wall_seconds": 0} == {**finished.summary, "wall_seconds": 0}


def test_scores_of_different_protocols_are_not_mixed(finished: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(finished.out, tmp_path / "out")
    path = out / "chibit-seed-3" / "scores.json"
    scores = read_json(path)
    scores["protocols"][0]["num_episodes"] = 100
    path.write_text(json.dumps(scores))
    with pytest.raises(ConfigError, match="num_episodes: 2 and 100"):
        demo(out, settings=finished.settings)


_DEMO = """
import json, sys
from pathlib import Path
from wikirl.experiments.demo import DemoSettings, demo
settings = json.loads(sys.argv[2])
settings["seeds"] = tuple(settings["seeds"])
settings["backbones"] = tuple(settings["backbones"])
try:
    demo(Path(sys.argv[1]), settings=DemoSettings(**settings))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupted_demo_stops_its_runs_and_goes_on_to_the_same_bits(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [out / f"{arm}-seed-3" for arm in ARMS]
    settings = json.dumps(vars(finished.settings))
    process = subprocess.Popen([sys.executable, "-c", _DEMO, str(out), settings], stderr=subprocess.PIPE, text=True)
    _wait(lambda: any(read_metrics(run) for run in runs), process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not all((run / "scores.json").exists() for run in runs)
    for path in out.glob("*/.lock"):
        with path.open("w") as lock:  # nobody is left who writes there
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    logs = list(out.glob("*.log"))
    assert logs
    assert not any("Traceback" in log.read_text() for log in logs)

    summary = demo(out, settings=finished.settings)
    for arm, run in zip(ARMS, runs, strict=True):
        undisturbed = read_metrics(finished.out / run.name)
        assert [_without_time(line) for line in read_metrics(run)] == [_without_time(line) for line in undisturbed]
        assert summary["arms"][arm]["means"] == finished.summary["arms"][arm]["means"]


def _wait(happened: Any, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 60
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def _without_time(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DemoSettings(seeds=()), "at least one seed"),
        (DemoSettings(num_evaluations=0), "at least one"),
        (DemoSettings(backbones=("chibit", "elsewhere/chibit")), "different names"),
        (DemoSettings(environment="CartPole-v1"), "reference scores"),
    ],
)
def test_settings_that_cannot_work(settings: DemoSettings, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        demo(tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RunError, match="expected a folder for the demo"):
        demo(tmp_path / "out")
