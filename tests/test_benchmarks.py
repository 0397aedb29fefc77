"""The benchmark runs from end to end on tiny counts; what it measures then means nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from wikirl.text.images import open_images

ROOT = Path(__file__).parents[1]


@pytest.mark.extras
def test_the_benchmark_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [sys.executable, "benchmarks/speed.py", "--smoke", "--only", "training", "memory", "--out", str(page)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    text = page.read_text()
    for contender in ("ours float32", "ours bfloat16", "Hugging Face", "d3rlpy", "floor", "10 M steps"):
        assert contender in text


def test_packing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {n}" for n in range(200)))
    command = [sys.executable, "benchmarks/packing.py", str(tmp_path / "text.txt"), "--tokenizer", "bytes"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    assert "bytes: 0.0 MB, 198 documents, 2,465 tokens in " in found.stdout


def test_checking_is_measured() -> None:
    command = [sys.executable, "benchmarks/checking.py", "--num-steps", "3000"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    assert found.stdout.startswith("3,000 steps checked in ")


@pytest.mark.extras
def test_the_script_for_a_gpu_runs_without_one(tmp_path: Path) -> None:
    command = [
        sys.executable, "benchmarks/gpu.py", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"),
        "--device", "cpu", "--smoke", "--data", "builtin:hopper-medium-replay=Hopper-v5",
    ]  # fmt: skip
    for _ in range(2):  # the second call goes on from the first
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"benchmark.json", "metrics.tar.gz", "scores.json"}


@pytest.mark.extras
def test_frames_are_rendered_and_make_a_corpus(tmp_path: Path) -> None:
    command = [
        sys.executable, "benchmarks/render_frames.py", str(tmp_path), "--environment", "Hopper-v5", "Walker2d-v5",
        "--num-frames", "12", "--every", "1",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    corpus = open_images(tmp_path)
    assert len(corpus.files) == 24
    (states,) = corpus.chunks(held_out=False)
    assert len({row.tobytes() for row in states}) > 12  # poses differ


@pytest.mark.extras
def test_reading_speed_is_measured() -> None:
    command = [sys.executable, "benchmarks/importing.py", "--smoke"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    for contender in ("ours, .npz |", "ours, CSV |", "ours, Parquet |", "Minari itself", "d3rlpy", "Drawing a batch"):
        assert contender in found.stdout


@pytest.mark.extras
def test_intervals_are_measured() -> None:
    command = [sys.executable, "benchmarks/intervals.py", "--smoke"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    for line in ("| rliable |", "| paired difference |", "| probability of improvement |", "| 20 | 9 |"):
        assert line in found.stdout
