"""What a demo came to: figures from its run folders, their means over seeds, and what they allow to be said.

This file knows run folders and arithmetic. It deliberately knows no process, no picture and no HTML.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wikirl.evaluation.protocol import Protocol, require_same_protocol
from wikirl.evaluation.references import normalized_score
from wikirl.experiments.many_runs import RunPlan
from wikirl.reports.report_words import num_seeds
from wikirl.runs import read_json, read_metrics
from wikirl.trajectories.dataset import TrajectoryDataset

Json = dict[str, Any]

_LOSS_POINTS = 60
_FEWEST_SEEDS = 5  # the field's lower end for a claim about one task


def summarize_demo(plans: Sequence[RunPlan], dataset: TrajectoryDataset, environment: str) -> Json:
    """The figures of all runs by arm, the data's, the verdict and the table to be printed.

    Raises:
        ConfigError: the runs were scored under different protocols.
        RunError: a run folder is incomplete.
    """
    runs: dict[str, list[Json]] = {}
    for plan in plans:
        runs.setdefault(plan.arm, []).append(_read_run(plan))
    protocols = [Protocol.from_json(run["protocol"]) for found in runs.values() for run in found]
    require_same_protocol(protocols)
    arms = {name: _arm(found) for name, found in runs.items()}
    data = _data_card(dataset, environment)
    verdict = verdict_on(arms)
    return {
        "verdict": verdict,
        "table": f"{_text_table(arms, data)}\n\n{protocol_line(protocols[0].to_json())}\n{verdict}",
        "protocol": protocols[0].to_json(),
        "data": data,
        "arms": arms,
    }


def _read_run(plan: RunPlan) -> Json:
    scores, lines = read_json(plan.folder / "scores.json"), read_metrics(plan.folder)
    config, policy = read_json(plan.folder / "config.json"), read_json(plan.folder / "policy" / "config.json")
    (summary,), (protocol,) = scores["summary"], scores["protocols"]
    return {
        "seed": plan.config.seed,
        "run": plan.folder.name,
        "summary": summary,
        "protocol": protocol,
        "evaluations": [entry for line in lines for entry in line.get("evaluations", ())],
        "loss": _in_stretches(lines),
        "seconds": lines[-1]["seconds"],
        "num_parameters": scores["num_parameters"],
        "precision": config["precision"],
        "architecture": policy["backbone"],
        "backbone_fingerprint": config["backbone_fingerprint"],
    }


def _in_stretches(lines: Sequence[Mapping[str, Any]]) -> Json:
    """The training loss as means over equal stretches, because the loss of a single batch is noisy."""
    size = max(len(lines) // _LOSS_POINTS, 1)
    stretches = [lines[k : k + size] for k in range(0, len(lines) - size + 1, size)]
    return {
        "num_steps_averaged": size,
        "step": [stretch[-1]["step"] for stretch in stretches],
        "loss": [float(np.mean([line["loss"] for line in stretch])) for stretch in stretches],
    }


def _arm(runs: list[Json]) -> Json:
    """The runs of one starting point, and their means over seeds."""
    rules = [f"{rule}_{kind}" for rule in ("last", "mean_last_four", "best") for kind in ("normalized", "return")]
    return {
        "means": {rule: float(np.mean([run["summary"][rule] for run in runs])) for rule in rules},
        "score": _band([entry["step"] for entry in runs[0]["evaluations"]], [_scores(run) for run in runs]),
        "loss": _band(runs[0]["loss"]["step"], [run["loss"]["loss"] for run in runs]),
        "runs": runs,
    }


def _scores(run: Mapping[str, Any]) -> list[float]:
    return [entry["normalized_score"] for entry in run["evaluations"]]


def _band(steps: list[int], columns: list[list[float]]) -> Json:
    values = np.array(columns)
    middle, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    return {"step": steps, "mean": middle.tolist(), "low": low.tolist(), "high": high.tolist()}


def _data_card(dataset: TrajectoryDataset, environment: str) -> Json:
    statistics = dataset.statistics
    normalized = normalized_score(environment, np.array([statistics.return_mean, statistics.return_max]))
    names = (
        "return_mean",
        "return_std",
        "return_min",
        "return_max",
        "length_mean",
        "length_max",
        "terminated_fraction",
    )
    return {
        "name": dataset.name,
        "environment": dataset.environment,
        "num_steps": dataset.num_steps,
        "num_episodes": dataset.num_episodes,
        **{name: getattr(statistics, name) for name in names},
        "return_median": statistics.return_quantiles[0.5],
        "normalized_mean": float(normalized[0]),
        "normalized_max": float(normalized[1]),
        "fingerprint": dataset.fingerprint,
        "details": dict(dataset.details),
    }


def verdict_on(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """What the numbers allow to be said; the demo never says that one arm is better."""
    (one, first), (other, second) = arms.items()
    rule, n = "mean_last_four_normalized", len(first["runs"])
    gaps = [b["summary"][rule] - a["summary"][rule] for a, b in zip(first["runs"], second["runs"], strict=True)]
    swing = max(float(np.ptp(_scores(run))) for arm in arms.values() for run in arm["runs"])
    few = "" if n >= _FEWEST_SEEDS else f"{num_seeds(n)} per arm and "
    numbers = ", ".join(f"{gap:+.1f}".replace("-", "−") for gap in gaps)
    parts = [
        f"No difference can be claimed from {few}short runs on one task.",
        f"Difference, {other} minus {one}, {_last_few(first)}: {numbers} points, by seed.",
    ]
    if n > 1 and (min(gaps) > 0 or max(gaps) < 0):
        chance = f"1 of {2 ** (n - 1)} demos"
        parts.append(f"All seeds point the same way, as they do by chance in {chance} with two equal arms.")
    elif n > 1:
        parts.append("The seeds do not agree which arm is ahead.")
    parts.append(f"Within a single run the score moves by up to {swing:.0f} points between checkpoints.")
    return " ".join(parts)


def _last_few(arm: Mapping[str, Any]) -> str:
    return f"mean of last {arm['runs'][0]['summary']['num_in_last_four']}"


def score_rows(arms: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table of scores: a row per arm and one for the data."""
    columns = {
        "last": "last checkpoint",
        "mean_last_four": _last_few(next(iter(arms.values()))),
        "best": "best (chosen by score)",
    }

    def cell(normalized: float, mean_return: float) -> str:
        return f"{normalized:.1f} ({mean_return:.0f})"

    rows = [
        {"": name}
        | {
            title: cell(arm["means"][f"{rule}_normalized"], arm["means"][f"{rule}_return"])
            for rule, title in columns.items()
        }
        for name, arm in arms.items()
    ]
    reference = cell(data["normalized_mean"], data["return_mean"])
    return [
        *rows,
        {"": "data's mean"} | {title: reference if rule == "last" else "" for rule, title in columns.items()},
    ]


def score_caption(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """What the numbers of `score_rows` are."""
    runs = next(iter(arms.values()))["runs"]
    return f"Normalised score and, in brackets, return; means over {num_seeds(len(runs))}"


def _text_table(arms: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any]) -> str:
    rows = score_rows(arms, data)
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([score_caption(arms), *text])


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """How the scores were made, in one line."""
    parts = [
        f"{protocol['environment_id']} (Gymnasium {protocol['gymnasium']}, MuJoCo {protocol['mujoco']})",
        f"target return {protocol['target_return']:g}",
        f"{protocol['num_episodes']} episodes a score from seed {', '.join(map(str, protocol['seeds']))}",
        f"0 and 100 are {protocol['reference']}",
        f"data from {protocol['dataset_environment'] or 'an unknown environment'}",
    ]
    if protocol["version_warning"]:
        parts.append(protocol["version_warning"])
    return f"Protocol: {'; '.join(parts)}."
