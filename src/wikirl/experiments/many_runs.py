"""Several fine-tuning runs at once: each a `wikirl finetune` in a process of its own, or all stacked on a GPU.

This file knows processes, signals and bars. It deliberately knows nothing of arms, scores or pages.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wikirl.errors import ConfigError, RunError
from wikirl.experiments.progress import Follower
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import available_cpus, choose_device
from wikirl.runs import interruptible, read_json

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 120.0  # one step, or one score on a busy machine, before a stopped run has saved itself


@dataclass(frozen=True)
class RunPlan:
    """One run to be made.

    Attributes:
        arm: What it is compared as.
        config: What to fine-tune, or which baseline to train; a run folder of another configuration is an error.
        folder: The run folder; what the command prints goes to a `.log` beside it.
        flags: More words for the command: device, precision.
    """

    arm: str
    config: FinetuneConfig | BaselineConfig
    folder: Path
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its bar says."""
        return f"{self.arm}, seed {self.config.seed}"

    def command(self, num_threads: int) -> list[str]:
        """The command line after `wikirl`: backbone or algorithm, and whatever is not at its default."""
        flags: list[str] = []
        for field in fields(self.config):
            value = getattr(self.config, field.name)
            if value != field.default or field.name in ("backbone", "algorithm"):
                flags += _flag(field.name.replace("_", "-"), value)
        verb = "finetune" if isinstance(self.config, FinetuneConfig) else "baseline"
        return [verb, *flags, "--num-threads", str(num_threads), *self.flags, "--out", str(self.folder)]

    def shell_command(self, num_threads: int) -> str:
        """The same to be copied into a shell."""
        return shlex.join(["wikirl", *self.command(num_threads)])

    @property
    def log(self) -> Path:
        """Where the process writes what it prints."""
        return self.folder.with_name(f"{self.folder.name}.log")


def _flag(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}={value}"]  # in one word, so that a value may begin with a dash


def finetune_seeds(
    config: FinetuneConfig,
    out: Path,
    seeds: Sequence[int],
    *,
    device: str = "auto",
    precision: str = "auto",
    num_threads: int | None = None,
) -> list[dict[str, Any]]:
    """The same run under several seeds, in `out`/seed-N each, at once.

    On a CPU each is a process with `num_threads` threads (default: one), as many at a time as there are cores; on a GPU
    all are stacked in one.

    Returns:
        The content of each run's `scores.json`, with its folder.

    Raises:
        ConfigError: a seed twice, or none.
        WikiRLError: as `finetune`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"expected different seeds; found {' '.join(map(str, seeds)) or 'none'}")
    configs = {out / f"seed-{seed}": replace(config, seed=seed) for seed in seeds}
    out.mkdir(parents=True, exist_ok=True)
    if choose_device(device) == "cpu":
        flags = ("--device", "cpu", "--precision", precision)
        plans = [RunPlan("finetune", one, folder, flags) for folder, one in configs.items()]
        threads = num_threads or 1
        make_runs(plans, num_parallel=max(available_cpus() // threads, 1), num_threads=threads)
    else:
        from wikirl.recipes.together import finetune_together

        finetune_together([(one, folder) for folder, one in configs.items()], device=device, precision=precision)
    return [
        {"run": str(folder), "seed": one.seed, **read_json(folder / "scores.json")} for folder, one in configs.items()
    ]


def make_runs(plans: Sequence[RunPlan], *, num_parallel: int, num_threads: int) -> None:
    """Make or finish all runs, `num_parallel` at a time, in their order.

    Ctrl-C or SIGTERM stops every run after its present step with a checkpoint; the next call goes on from
    there. A second one does not wait for that.

    Raises:
        RunError: a run ended badly; the others are stopped first. The message repeats the run's own.
        KeyboardInterrupt: as asked for.
    """
    waiting = list(plans)  # finished ones too: they return at once, and refuse if they are of another configuration
    running: dict[RunPlan, subprocess.Popen[bytes]] = {}
    with interruptible() as stopped, _Bars(waiting) as bars:
        try:
            while waiting or running:
                while waiting and len(running) < num_parallel:
                    plan = waiting.pop(0)
                    running[plan] = _start(plan, num_threads)
                time.sleep(_POLL_SECONDS)
                for plan in list(running):
                    bars.update(plan)
                    if running[plan].poll() is not None:
                        _check_ended_well(plan, running.pop(plan).returncode)
                if stopped():
                    raise KeyboardInterrupt
        finally:
            stop_all(running.values())


def _start(plan: RunPlan, num_threads: int) -> "subprocess.Popen[bytes]":
    with plan.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "wikirl.cli", *plan.command(num_threads), "--json"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": str(num_threads), "TQDM_MININTERVAL": "60"},
            # Away from the terminal's Ctrl-C: a run must hear of it once, from us, as twice means "at once".
            start_new_session=True,
        )


def _check_ended_well(plan: RunPlan, status: int) -> None:
    if status == 0:
        return
    lines = plan.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    said = lines[-1].removeprefix("wikirl: ")
    if status == 2:
        raise RunError(f"{plan.name}: {said}")
    if status < 0:
        raise RunError(
            f"{plan.name} was ended by signal {-status} (is memory short?); the same command goes on where it stopped"
        )
    raise RuntimeError(f"{plan.name} ended with status {status} ({said}); all of it is in {plan.log}")


def stop_all(processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    """Ask all to save themselves, and see to it that none survives."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    until = time.monotonic() + _PATIENCE_SECONDS
    try:
        for process in processes:
            process.wait(max(until - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        pass  # killing it costs the steps since its last checkpoint, nothing else
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


class _Bars:
    """One bar per run, fed from its metrics.jsonl; one line per score where stderr is no terminal."""

    def __init__(self, plans: Sequence[RunPlan]) -> None:
        self.is_terminal = sys.stderr.isatty()
        width = max((len(plan.name) for plan in plans), default=0)
        self.followers = {plan: Follower(plan.folder) for plan in plans}
        self.bars: dict[RunPlan, tqdm[Any]] = {
            plan: tqdm(
                total=plan.config.num_steps,
                initial=self.followers[plan].step,
                desc=plan.name.ljust(width),
                unit="step",
                position=position,
                dynamic_ncols=True,
                disable=not self.is_terminal,
            )
            for position, plan in enumerate(plans)
        }

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self.bars.values():
            bar.close()

    def update(self, plan: RunPlan) -> None:
        """Show what a run has written since."""
        follower = self.followers[plan]
        scores = follower.update()
        follower.show(self.bars[plan])
        if not self.is_terminal:
            for score in scores:
                tqdm.write(f"{plan.name}, {score}", file=sys.stderr)
