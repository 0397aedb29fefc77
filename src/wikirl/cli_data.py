"""`wikirl data`: where trajectories come from, what is in them, whether they are sound.

Each action is one function that adds its flags and says what runs. Nothing heavy is imported before one runs.
"""

import argparse
from pathlib import Path
from typing import Any

from wikirl.cli_parts import Result, add_fields, finishing, lines, table


def add_actions(parser: argparse.ArgumentParser) -> None:
    """The actions of `wikirl data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="datasets at hand")
    finishing(listing, _list_datasets, lambda result: table(result["datasets"]))
    show = actions.add_parser("show", help="sizes, spaces and statistics of a dataset")
    show.add_argument("dataset", help="builtin:NAME, file:PATH, minari:ID or d4rl:NAME")
    finishing(show, _show_dataset, lines)
    collect = actions.add_parser("collect", help="make a D4RL-style family of datasets in an environment")
    _collect(collect)


def _collect(parser: argparse.ArgumentParser) -> None:
    from wikirl.recipes.collect_settings import CollectConfig

    def run(out: Path | None, name: str | None, minari: bool, d4rl: bool, **options: Any) -> Result:
        from wikirl.recipes.collect import collect

        out = out or Path("runs/collect") / options["environment"].rpartition("/")[2]
        return {"folder": str(out), **collect(CollectConfig(**options), out, name=name, minari=minari, d4rl=d4rl)}

    def show(result: Result) -> str:
        rows = [{"dataset": kind, **figures} for kind, figures in result["datasets"].items()]
        warnings = [f"warning: {warning}" for warning in result["warnings"]]
        return "\n".join([table(rows), "", *warnings, f"card: {result['folder']}/README.md"])

    parser.add_argument("environment", metavar="ENV", help="Gymnasium id, e.g. Hopper-v5")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/collect/ENV); run again to continue")
    parser.add_argument("--name", help="name of the family (default: the environment's)")
    add_fields(parser, CollectConfig, skip=("environment",))
    parser.add_argument(
        "--minari",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write Minari datasets NAME/KIND-v0 (default: yes)",
    )
    parser.add_argument("--d4rl", action="store_true", help="write OUT/d4rl/NAME-KIND.hdf5 in D4RL's layout as well")
    finishing(parser, run, show)


def _list_datasets() -> Result:
    from dataclasses import asdict

    from wikirl.trajectories.sources import list_datasets

    return {"datasets": [asdict(entry) for entry in list_datasets()]}


def _show_dataset(dataset: str) -> Result:
    from dataclasses import asdict

    from wikirl.trajectories.sources import load_trajectories

    found = load_trajectories(dataset)
    statistics = asdict(found.statistics)
    for name in ("observation_mean", "observation_std"):
        statistics[name] = statistics[name].ravel().tolist()
    return {
        "name": found.name,
        "environment": found.environment,
        "num_steps": found.num_steps,
        "num_episodes": found.num_episodes,
        "observation_space": found.observation_space.to_json(),
        "action_space": found.action_space.to_json(),
        **statistics,
        "fingerprint": found.fingerprint,
        "details": dict(found.details),
    }
