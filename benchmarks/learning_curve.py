"""Score against training steps from run folders: a table in Markdown on stdout and a chart.

python benchmarks/learning_curve.py NAME=RUN[,RUN…] … --out CHART.png

Runs of one name are seeds: their mean is drawn as a line, their range as a band.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from wikirl.charts import Chart, Series, png_line_chart
from wikirl.evaluation.references import normalized_score
from wikirl.runs import read_json, read_metrics
from wikirl.trajectories.sources import load_trajectories


def scores_of(run: Path) -> dict[int, float]:
    """Mean normalised score at each step that was scored, at the run's first target return."""
    lines: list[dict[str, Any]] = [line for line in read_metrics(run) if "evaluations" in line]
    return {line["step"]: line["evaluations"][0]["normalized_score"] for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description="Score against training steps from run folders.")
    parser.add_argument("arms", nargs="+", metavar="NAME=RUN[,RUN…]")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    arms = {name: [Path(run) for run in runs.split(",")] for name, runs in (arm.split("=", 1) for arm in options.arms)}
    config = read_json(next(iter(arms.values()))[0] / "config.json")
    mean_return = load_trajectories(config["dataset"]).statistics.return_mean
    data_mean = float(normalized_score(config["environment"], np.array([mean_return]))[0])
    tables = {name: [scores_of(run) for run in runs] for name, runs in arms.items()}
    steps = sorted(next(iter(tables.values()))[0])
    lines = []
    for name, seeds in tables.items():
        values = np.array([[seed[step] for step in steps] for seed in seeds])
        low, high = (values.min(0).tolist(), values.max(0).tolist()) if len(seeds) > 1 else (None, None)
        lines.append(Series(name, [float(step) for step in steps], values.mean(0).tolist(), low, high))
    chart = Chart(
        title=f"{config['environment']}, {config['dataset'].removeprefix('builtin:')}",
        x_label="training steps",
        y_label="normalised score",
        series=lines,
        references={"mean of the data": data_mean},
    )
    options.out.write_bytes(png_line_chart(chart))
    print("| step | " + " | ".join(tables) + " |")
    print("|" + "---|" * (1 + len(tables)))
    for number, step in enumerate(steps):
        print(f"| {step} | " + " | ".join(f"{line.y[number]:.1f}" for line in lines) + " |")
    print(f"\nMean of the data: {data_mean:.1f}")


if __name__ == "__main__":
    main()
