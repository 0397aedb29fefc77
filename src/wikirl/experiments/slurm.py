"""A suite as a Slurm array: a script for sbatch in which every task makes, or goes on with, one run.

A pure function. Which run a number means is for the command to know that the script calls; it must mean the same run
today and when the script is submitted again.
"""

import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from wikirl.errors import ConfigError
from wikirl.experiments.worker import Machine

# Slurm sends the signal this long before it kills a task, for one step and its checkpoint.
_SECONDS_AHEAD = 60


def slurm_script(
    command: Sequence[str],
    jobs: Sequence[int],
    machine: Machine,
    *,
    logs: Path,
    at_once: int | None = None,
    time_limit: str | None = None,
) -> str:
    """The script; submitted once more, it goes on where tasks were cut short.

    The process that makes the run takes the shell's place (exec), so that it hears Slurm's signals itself: SIGINT a
    minute before the time limit, SIGTERM when it is cancelled or has to make room.

    Args:
        command: Words before `--job N`, as in `wikirl suite run NAME --out S`.
        jobs: Numbers of the runs to make.
        machine: Cores of a task; with device cuda (not auto) each asks for a GPU.
        logs: Folder for what tasks print, N.log each. Slurm does not make it: it must be there when tasks start.
        at_once: Most tasks at a time; default: as many as there is room for.
        time_limit: As Slurm reads it, such as 2:00:00; default: the cluster's.

    Raises:
        ConfigError: no runs; less than one at a time; a time or a folder that Slurm cannot read.
    """
    if not jobs:
        raise ConfigError("expected runs to put in the array; found none: all are finished, or the suite has none")
    if at_once is not None and at_once < 1:
        raise ConfigError(f"expected at least 1 task at a time; found {at_once}")
    for value in (time_limit or "", str(logs)):
        if set(value) & set('\n"\\'):
            raise ConfigError(f"expected no quote, backslash or line break in a line that Slurm reads; found {value!r}")
    limit = "" if at_once is None else f"%{at_once}"
    options = [
        "--job-name=wikirl",
        f"--array={_ranges(jobs)}{limit}",
        "--ntasks=1",
        f"--cpus-per-task={machine.num_threads}",
        *(["--gres=gpu:1"] if machine.device.startswith("cuda") else []),
        *([f"--time={time_limit}"] if time_limit else []),
        f'--output="{str(logs).replace("%", "%%")}/%a.log"',
        "--open-mode=append",
        "--requeue",
        f"--signal=B:INT@{_SECONDS_AHEAD}",
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "",
            "set -euo pipefail",
            f"export OMP_NUM_THREADS={machine.num_threads}",
            f'exec {shlex.join(command)} --job "$SLURM_ARRAY_TASK_ID"',
            "",
        ]
    )


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as Slurm writes them: 0-3,7,9-10."""
    ordered = enumerate(sorted(set(numbers)))
    runs = [[number for _, number in run] for _, run in groupby(ordered, lambda item: item[1] - item[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
