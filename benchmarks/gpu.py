"""What this project wants from one GPU, most important first, in calls of minutes that go on where the last ended.

    python benchmarks/gpu.py --out DIR [--runs FOLDER] [--minutes 25] [--data ID=ENVIRONMENT …] [--smoke]

First the floor: the measured matrix rate, then steps a second of one run and of many stacked ones, with and without
a CUDA graph. Then runs with `--recipe paper` from scratch and from ChibiT on each dataset, 100,000 steps, scored every
10,000 on 20 episodes; seeds outermost, so that whatever is finished when the time is up compares all datasets. Run
folders stay in FOLDER; DIR gets benchmark.json, scores.json and metrics.tar.gz, written as it goes. `--device cpu
--smoke` tries it without a GPU; tests marked `gpu` (`pytest -m gpu`) should pass there first.
"""

import argparse
import json
import os
import signal
import statistics
import tarfile
import time
from pathlib import Path
from typing import Any

import torch
from steps import DATASET, temporary_folder

from wikirl.recipes.finetune import Session, prepare
from wikirl.recipes.settings import FinetuneConfig
from wikirl.recipes.together import Group, finetune_together
from wikirl.reproducibility import choose_precision
from wikirl.runs import Run, read_metrics

DATA = (f"builtin:{DATASET}=Hopper-v5", "builtin:hopper-medium=Hopper-v5")
SEEDS_AT_ONCE, NUM_BLOCKS = 4, 3


def steps_per_second(num_runs: int, device: str, seconds: float, *, graph: bool) -> float:
    """Updates a second of all runs together, sampling included; a run alone is not stacked."""
    config = FinetuneConfig(dataset=f"builtin:{DATASET}", environment="Hopper-v5", backbone="scratch", eval_every=10**9)
    prepared = prepare(config, choose_precision("auto", device))
    folders = [Run(temporary_folder(), {}, {}) for _ in range(num_runs)]
    training = Session(prepared, folders[0], device) if num_runs == 1 else Group([prepared] * num_runs, folders, device)
    if not graph:
        training.recorded = None
    steps: Any = training.steps()
    for _ in range(3):
        next(steps)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        next(steps)  # ends with the loss on the CPU, so nothing is pending on the GPU
        count += 1
    return num_runs * count / (time.perf_counter() - started)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The floor and the speed of stacking."""
    device: str = options.device
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    result: dict[str, Any] = {"device": name, "torch": torch.__version__}
    if device == "cuda":
        a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
        times = []
        for _ in range(10):
            torch.cuda.synchronize()
            started = time.perf_counter()
            a @ a
            torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        result["bfloat16_tflops"] = round(2 * 8192**3 / statistics.median(times) / 1e12, 1)
    for name, graph in (("run_steps_per_second", True), ("run_steps_per_second_without_graph", False)):
        result[name] = {
            num_runs: round(steps_per_second(num_runs, device, 0.5 if options.smoke else 10, graph=graph), 1)
            for num_runs in ((1, 2) if options.smoke else (1, 8) if not graph else (1, 4, 8, 16, 32))
        }
    return result


def plan(options: argparse.Namespace) -> list[list[tuple[FinetuneConfig, Path]]]:
    """Groups to be stacked: both backbones × some seeds of one dataset; seeds outermost."""
    num_steps, episodes, blocks, seeds = (4, 2, 1, 1) if options.smoke else (100_000, 20, NUM_BLOCKS, SEEDS_AT_ONCE)
    groups = []
    for block in range(blocks):
        for entry in options.data:
            dataset, environment = entry.rsplit("=", 1)
            folder = options.runs / Path(dataset.split(":", 1)[1]).stem
            groups.append(
                [
                    (
                        FinetuneConfig(
                            dataset=dataset, environment=environment, backbone=backbone, recipe="paper", seed=seed,
                            num_steps=num_steps, eval_every=num_steps // 10 or 2, eval_episodes=episodes,
                        ),
                        folder / f"{backbone}-seed-{seed}",
                    )
                    for backbone in ("scratch", "chibit")
                    for seed in range(block * seeds, (block + 1) * seeds)
                ]
            )  # fmt: skip
    return groups


def collect(options: argparse.Namespace) -> None:
    """All scores so far, and the metrics of all runs, into the output folder."""
    scores, packed = {}, options.out / "metrics.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        for metrics in sorted(options.runs.rglob("metrics.jsonl")):
            name = str(metrics.parent.relative_to(options.runs))
            archive.add(metrics, arcname=f"{name}/metrics.jsonl")
            lines = read_metrics(metrics.parent)
            scores[name] = [entry for line in lines for entry in line.get("evaluations", ())]
    (options.out / "scores.json").write_text(json.dumps(scores, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description="What this project wants from one GPU.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("/tmp/wikirl-gpu"), help="run folders, kept between calls")
    parser.add_argument("--minutes", type=float, default=25.0, help="stop after this long, with checkpoints")
    parser.add_argument("--data", nargs="+", default=DATA, metavar="ID=ENVIRONMENT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, to see that it runs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    # The recipes know what to do at Ctrl-C: finish the step, save, stop.
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 60 * options.minutes)
    try:
        if not (options.runs / "benchmark.json").exists():
            options.runs.mkdir(parents=True, exist_ok=True)
            (options.runs / "benchmark.json").write_text(json.dumps(measure(options), indent=1))
        print((options.runs / "benchmark.json").read_text())
        for group in plan(options):
            finetune_together(group, device=options.device)
            collect(options)
    except KeyboardInterrupt:
        print("the time is up; the same command goes on from here")
    collect(options)
    (options.out / "benchmark.json").write_bytes((options.runs / "benchmark.json").read_bytes())


if __name__ == "__main__":
    main()
