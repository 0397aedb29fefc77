import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from wikirl.errors import ConfigError
from wikirl.experiments.slurm import slurm_script
from wikirl.experiments.worker import Machine

# Says what it was called with; on SIGINT, that it heard it.
FAKE = """#!/bin/bash
trap 'echo heard >> said; exit 130' INT
printf '%s\\n' "$@" "threads $OMP_NUM_THREADS" > said
while [ -e wait ]; do sleep 0.05; done
"""


def script(tmp_path: Path, **options: object) -> str:
    words = ["wikirl", "suite", "run", "controls", "--out", "a 'b' $HOME"]
    usual = {"machine": Machine(num_threads=3), "logs": tmp_path / "50% of it"}
    return slurm_script(words, [0, 1, 2, 5, 7, 8], **(usual | options))  # type: ignore[arg-type]


def directives(text: str) -> dict[str, str]:
    """What sbatch reads; quotes around a value are its own syntax."""
    lines = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.M)
    return {name: value.strip('"') for name, value in lines}


def start(text: str, tmp_path: Path) -> "subprocess.Popen[bytes]":
    fake = tmp_path / "bin" / "wikirl"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    (tmp_path / "script.sh").write_text(text)
    environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "7"}
    return subprocess.Popen(["bash", "script.sh"], cwd=tmp_path, env=environment)


def test_it_asks_for_what_a_run_needs(tmp_path: Path) -> None:
    found = directives(script(tmp_path, at_once=4, time_limit="2:00:00"))
    assert found == {
        "job-name": "wikirl",
        "array": "0-2,5,7-8%4",
        "ntasks": "1",
        "cpus-per-task": "3",
        "time": "2:00:00",
        "output": f"{tmp_path}/50%% of it/%a.log",
        "open-mode": "append",
        "requeue": "",
        "signal": "B:INT@60",
    }
    plain = directives(script(tmp_path))
    assert (plain["array"], plain.keys() & {"time", "gres"}) == ("0-2,5,7-8", set())
    assert directives(script(tmp_path, machine=Machine("cuda")))["gres"] == "gpu:1"


def test_directives_come_before_any_command_and_bash_reads_it(tmp_path: Path) -> None:
    text = script(tmp_path)
    lines = text.splitlines()
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert max(number for number, line in enumerate(lines) if line.startswith("#SBATCH")) < commands[0]
    assert lines[commands[0]] == "set -euo pipefail"
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)


def test_a_task_makes_the_run_of_its_number(tmp_path: Path) -> None:
    assert start(script(tmp_path), tmp_path).wait(30) == 0
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["suite", "run", "controls", "--out", "a 'b' $HOME", "--job", "7", "threads 3"]


def test_the_run_itself_hears_the_signal(tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    task = start(script(tmp_path), tmp_path)
    while not (tmp_path / "said").exists() or "threads" not in (tmp_path / "said").read_text():
        assert task.poll() is None
        time.sleep(0.02)
    task.send_signal(signal.SIGINT)
    assert task.wait(30) == 130
    assert (tmp_path / "said").read_text().endswith("heard\n")


def test_without_a_number_it_stops(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash"], input=script(tmp_path), env=environment, text=True, capture_output=True)
    assert done.returncode != 0
    assert "SLURM_ARRAY_TASK_ID: unbound variable" in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"at_once": 0}, "at least 1 task at a time; found 0"),
        ({"time_limit": "1:00\nrm -r /"}, "no quote, backslash or line break"),
        ({"logs": Path('a"b')}, "no quote, backslash or line break"),
    ],
)
def test_what_slurm_cannot_read_is_refused(tmp_path: Path, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        script(tmp_path, **options)
    with pytest.raises(ConfigError, match="found none"):
        slurm_script(["wikirl"], [], Machine(), logs=tmp_path)
