"""The whole road on tiny input, through the command line, in the real environment."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recipes.toys import corpus
from wikirl.evaluation.rollout import rollout
from wikirl.models.bundle import load_policy
from wikirl.runs import read_metrics


def wikirl(*arguments: object, **options: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "wikirl.cli", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def finetune_arguments(out: Path, backbone: object, num_steps: int = 6) -> list[object]:
    fixed = "--batch-size 4 --context-length 5 --eval-every 2 --checkpoint-every 2 --eval-episodes 2"
    fixed += " --target-returns 400 200"
    arguments = ["finetune", "--dataset", "builtin:hopper-medium-replay", "--environment", "Hopper-v5", "--out", out]
    return [*arguments, "--backbone", backbone, "--num-steps", num_steps, "--num-threads", 1, *fixed.split()]


def test_from_text_to_a_score(tmp_path: Path) -> None:
    text, backbone, out = corpus(tmp_path), tmp_path / "backbone", tmp_path / "run"
    small = ["--vocab-size", "300", "--hidden-size", "16", "--num-positions", "32", "--num-steps", "4"]
    wikirl("pretrain", "--corpus", text, "--out", backbone, *small)
    scores = wikirl(*finetune_arguments(out, backbone))
    assert [summary["target_return"] for summary in scores["summary"]] == [400, 200]
    assert all(len(evaluation["returns"]) == 2 for evaluation in scores["evaluations"])
    assert [evaluation["step"] for evaluation in scores["evaluations"]] == [2, 2, 4, 4, 6, 6]
    assert {protocol["environment_id"] for protocol in scores["protocols"]} == {"Hopper-v5"}

    # The score of the last step is what the saved policy earns, by the command and by hand.
    evaluated = wikirl("evaluate", out, "--episodes", 2, "--target-return", 400)
    last = next(e for e in scores["evaluations"] if e["step"] == 6 and e["target_return"] == 400)
    assert evaluated["evaluations"][0]["returns"] == last["returns"]
    policy = load_policy(out / "policy")
    policy.target_return = 400.0
    by_hand = rollout(policy, "Hopper-v5", num_episodes=2, seed=0)
    np.testing.assert_allclose(by_hand.returns, last["returns"], rtol=1e-6)

    # Kept keys and values are another policy, under another name and stamp; the difference is that of the returns.
    cached = wikirl("evaluate", out, "--episodes", 2, "--target-return", 400, "--cached", "--num-processes", 2)
    (entry,) = cached["evaluations"]
    assert entry["protocol"]["acting"] == "cached"
    assert entry["cached_minus_exact_return"] == pytest.approx(
        entry["return_mean"] - np.mean(last["returns"]), abs=1e-3
    )
    assert len(list((out / "evaluations").iterdir())) == 2


def kill_when_there(arguments: list[object], path: Path) -> None:
    """Run `wikirl` and kill it without warning as soon as `path` exists."""
    command = [sys.executable, "-m", "wikirl.cli", *map(str, arguments), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_pre_training_killed_at_any_moment_ends_on_the_same_bits(tmp_path: Path) -> None:
    def arguments(out: Path) -> list[object]:
        small = "--vocab-size 300 --hidden-size 16 --num-positions 32 --dropout 0.1 --num-threads 1 --keep-every 20"
        steps = "--num-steps 60 --eval-every 20 --checkpoint-every 10"
        return ["pretrain", "--corpus", corpus(tmp_path), "--out", out, *small.split(), *steps.split()]

    wikirl(*arguments(tmp_path / "whole"))
    cut = tmp_path / "cut"
    # In the tokenizer or packing, in the first steps, after a checkpoint, while a backbone is kept.
    for moment in ("pretraining", "pretraining/metrics.jsonl", "pretraining/checkpoints/step-10", "steps/step-40"):
        kill_when_there(arguments(cut), cut / moment)
        assert not (cut / "config.json").exists()
    wikirl(*arguments(cut))
    for file in ("model.safetensors", "tokenizer.json", "steps/step-20/model.safetensors"):
        assert (cut / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    losses = [[line["language_loss"] for line in read_metrics(tmp_path / n / "pretraining")] for n in ("whole", "cut")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("backbone", ["chibit", "scratch"])
def test_a_run_killed_with_no_warning_resumes_to_the_same_numbers(tmp_path: Path, backbone: str) -> None:
    whole = wikirl(*finetune_arguments(tmp_path / "whole", backbone, 8))
    kill_when_there(finetune_arguments(tmp_path / "cut", backbone, 8), tmp_path / "cut" / "checkpoints" / "step-4")
    assert not (tmp_path / "cut" / "scores.json").exists()
    resumed = wikirl(*finetune_arguments(tmp_path / "cut", backbone, 8))
    assert {**resumed, "run": ""} == {**whole, "run": ""}
    weights = [(tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
