"""From a CSV file to a policy and its held-out error, without an environment, through the command line."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wikirl import cli
from wikirl.models.bundle import load_policy


def wikirl(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = cli.main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    answer: dict[str, Any] = json.loads(captured.out)
    return answer


def write_logs(path: Path) -> None:
    """A cart that is pushed towards the middle, with noise; twelve episodes of 15 steps."""
    draw = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "t", "state_position", "state_speed", "action", "reward"])
        for run in range(12):
            position, speed = draw.uniform(-1, 1), 0.0
            for step in range(15):
                action = float(np.clip(-position - speed + draw.normal(0, 0.1), -1, 1))
                writer.writerow([f"run-{run}", step, position, speed, action, -abs(position)])
                speed += 0.2 * action
                position += 0.2 * speed


def test_from_a_csv_to_a_held_out_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.csv")
    data, run = tmp_path / "logs", tmp_path / "run"
    imported = wikirl(capsys, "data", "import", tmp_path / "logs.csv", "--to", f"file:{data}")
    assert imported["mapping"]["observation"] == ["state_position", "state_speed"]
    assert (imported["num_steps"], imported["num_episodes"], imported["num_terminated"]) == (180, 12, 0)
    assert "all count as cut" in imported["warnings"][0]
    assert imported["next"] == [
        f"wikirl data check file:{data}",
        f"wikirl finetune --dataset file:{data} --out runs/logs",
    ]
    shown = wikirl(capsys, "data", "show", imported["dataset"])
    assert shown["details"]["import"]["mapping"] == imported["mapping"]
    checked = wikirl(capsys, "data", "check", imported["dataset"], "--no-page")
    assert (checked["num_errors"], checked["statistics"]["num_steps"]) == (0, 180)

    small = "--backbone chibit --num-steps 30 --batch-size 8 --context-length 5 --eval-every 15 --learning-rate 1e-3"
    arguments = ["finetune", "--dataset", imported["dataset"], "--out", run, "--num-threads", 1, *small.split()]
    scores = wikirl(capsys, *arguments)
    errors = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["held_out_action_error"] for line in errors if "held_out_action_error" in line]
    assert scores["held_out_action_error"] == held_out[-1] < held_out[0]
    policy = load_policy(run / "policy")
    policy.reset(num_envs=1, seed=0)
    assert policy.act(np.zeros((1, 2), np.float32), np.zeros(1, np.float32)).shape == (1, 1)


def test_a_mistake_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.csv")
    for arguments, message in (
        (["--reward", "gain"], "--reward: there is no column 'gain'. Columns: run, t, state_position"),
        (["--episode", "none", "--timestep", "none"], "no column says where episodes end"),
    ):
        code = cli.main(["data", "import", str(tmp_path / "logs.csv"), "--to", f"file:{tmp_path / 'out'}", *arguments])
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == (2, 1)
        assert message in error
    assert cli.main(["data", "import", str(tmp_path / "logs.csv"), "--to", "minari:mine-v0"]) == 2
    assert "--to is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["logs.csv"]
