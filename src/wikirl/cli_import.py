"""`wikirl data import`: somebody's own logs.

Nothing heavy is imported before it runs.
"""

import argparse
from pathlib import Path

from wikirl.cli_parts import Result, finishing, lines


def add_import(parser: argparse.ArgumentParser) -> None:
    """Flags of `wikirl data import`, and what runs."""
    parser.description = (
        "Own logs to a dataset folder. A row is a step: observation, action, and the reward that the action earned. "
        "Columns that are not named are guessed by their names, and what was used is shown."
    )
    parser.add_argument(
        "source",
        metavar="FILE",
        help=".csv, .tsv, .jsonl (also .gz), .parquet, .npz, .hdf5, .pkl, a folder in Minari's layout, minari:ID",
    )
    parser.add_argument("--to", required=True, metavar="file:DIR", help="folder to write; must be empty or not exist")
    for role in ("observation", "action"):
        parser.add_argument(
            f"--{role}",
            dest=f"{role}_columns",  # `action` is the action of `wikirl data`
            nargs="+",
            default=[],
            metavar="COL",
            help="names, globs ('obs_*') or ranges (first:last)",
        )
    parser.add_argument("--reward", metavar="COL", help="what the action of the row earned")
    parser.add_argument("--episode", metavar="COL", help="same value, same episode; here and below also 'none'")
    parser.add_argument("--terminated", metavar="COL", help="true at the last row of an episode that ended by itself")
    parser.add_argument("--truncated", metavar="COL", help="true at the last row of an episode that was cut")
    parser.add_argument("--timestep", metavar="COL", help="counts the steps of an episode; gaps are refused")
    parser.add_argument("--environment", metavar="ID", help="Gymnasium id the data was made with, if there is one")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--discrete", action="store_true", default=None, help="actions are choices (default: if whole numbers or words)"
    )
    kind.add_argument("--continuous", dest="discrete", action="store_false", help="actions are numbers")
    parser.add_argument("--name", help="what to call it (default: file:DIR)")
    finishing(parser, _import, _show_import)


def _import(
    source: str,
    to: str,
    name: str | None,
    environment: str | None,
    discrete: bool | None,
    observation_columns: list[str],
    action_columns: list[str],
    **single: str | None,
) -> Result:
    from wikirl.errors import DatasetError
    from wikirl.trajectories.columns import ColumnMapping
    from wikirl.trajectories.importing import ImportOptions, import_trajectories

    if to.split(":")[0] in ("builtin", "minari", "d4rl") or not to.removeprefix("file:"):
        raise DatasetError(f"--to is a folder: file:DIR or DIR; found {to}")
    folder = Path(to.removeprefix("file:")).expanduser()
    mapping = ColumnMapping(tuple(observation_columns), tuple(action_columns), **single)
    dataset = import_trajectories(source, mapping, folder, ImportOptions(name, environment, discrete))
    notes = dataset.details["import"]
    finetune = f"wikirl finetune --dataset file:{folder} --out runs/{folder.name}"
    return {
        "dataset": f"file:{folder}",
        "mapping": notes["mapping"],
        "num_steps": dataset.num_steps,
        "num_episodes": dataset.num_episodes,
        "num_terminated": int(dataset.terminated.sum()),
        "episode_lengths": [int(dataset.lengths.min()), int(dataset.lengths.max())],
        "episode_returns": [float(dataset.returns.min()), float(dataset.returns.max())],
        "observation_shape": list(dataset.observation_space.shape),
        "action_space": dataset.action_space.to_json(),
        "choices": notes.get("choices"),
        "environment": dataset.environment,
        "warnings": notes["warnings"],
        "next": [
            f"wikirl data check file:{folder}",
            f"{finetune} --environment {dataset.environment}" if dataset.environment else finetune,
        ],
    }


def _show_import(result: Result) -> str:
    mapping, space, choices = result["mapping"], result["action_space"], result["choices"]
    used = (
        {role: value for role, value in mapping.items() if value} if mapping else {"columns": "the file's own layout"}
    )
    kind = f"continuous, {space['shape'][0]} a step" if space["n"] is None else f"discrete, {space['n']} choices"
    if choices:
        kind += ": " + ", ".join(f"{number} = {choice}" for number, choice in enumerate(choices[:12]))
        kind += ", …" * (len(choices) > 12)
    sizes = {
        "dataset": result["dataset"],
        "steps": result["num_steps"],
        "episodes": f"{result['num_episodes']:,}, of which {result['num_terminated']:,} terminated",
        "lengths": f"{result['episode_lengths'][0]:,} to {result['episode_lengths'][1]:,}",
        "returns": f"{result['episode_returns'][0]:,.5g} to {result['episode_returns'][1]:,.5g}",
        "actions": kind,
    }
    warnings = "".join(f"\nwarning: {text}" for text in result["warnings"])
    commands = "".join(f"\n  {command}" for command in result["next"])
    return f"{lines(used)}\n\n{lines(sizes)}\n{warnings}\nnext:{commands}"
