"""`wikirl data`: where trajectories come from, what is in them, whether they are sound.

Each action is one function that adds its flags and says what runs. Nothing heavy is imported before one runs.
"""

import argparse
from pathlib import Path
from typing import Any

from wikirl.cli_check import add_check
from wikirl.cli_import import add_import
from wikirl.cli_parts import Result, add_fields, finishing, lines, table


def add_actions(parser: argparse.ArgumentParser) -> None:
    """The actions of `wikirl data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="datasets at hand")
    finishing(listing, _list_datasets, lambda result: table(result["datasets"]))
    show = actions.add_parser("show", help="sizes, spaces and statistics of a dataset")
    show.add_argument("dataset", help="builtin:NAME, file:PATH, minari:ID or d4rl:NAME")
    finishing(show, _show_dataset, lines)
    add_import(
        actions.add_parser("import", help="own logs to a dataset: CSV, JSONL, Parquet, .npz, HDF5, pickles, Minari")
    )
    add_check(actions.add_parser("check", help="is a dataset sound, and what to ask of it; leaves an HTML page"))
    _add_collect(actions)
    _add_download(actions)
    _add_transform(actions)


def _add_collect(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from wikirl.recipes.collect_settings import CollectConfig

    def run(out: Path | None, name: str | None, minari: bool, d4rl: bool, **options: Any) -> Result:
        from wikirl.recipes.collect import collect

        out = out or Path("runs/collect") / options["environment"].rpartition("/")[2]
        return {"folder": str(out), **collect(CollectConfig(**options), out, name=name, minari=minari, d4rl=d4rl)}

    def show(result: Result) -> str:
        rows = [{"dataset": kind, **figures} for kind, figures in result["datasets"].items()]
        warnings = [f"warning: {warning}" for warning in result["warnings"]]
        return "\n".join([table(rows), "", *warnings, f"card: {result['folder']}/README.md"])

    parser = actions.add_parser("collect", help="make a D4RL-style family of datasets in an environment")
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


def _add_download(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    def run(dataset: str, mirror: str | None) -> Result:
        from wikirl.trajectories.sources import download_dataset

        sums = download_dataset(dataset, mirror=mirror)
        files = [{"path": str(path), "bytes": path.stat().st_size, "sha256": sums[path]} for path in sums]
        return {"dataset": dataset, "files": files}

    download = actions.add_parser("download", help="fetch minari:ID or d4rl:NAME, or the rest of it")
    download.add_argument("dataset", help="minari:ID, minari:hf://ORG/ID or d4rl:NAME")
    download.add_argument(
        "--mirror",
        metavar="PLACE",
        help="folder, or for d4rl: http(s)://…, for minari: hf://ORG (default: WIKIRL_D4RL_MIRROR or MINARI_REMOTE, "
        "else where each is kept)",
    )
    finishing(download, run, lambda result: table(result["files"]))


def _add_transform(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "cut, mix and change datasets, in this order: mixture, delayed reward, top, random, reward scale"
    transform = actions.add_parser("transform", help="mixtures, cuts and other rewards", description=about)
    transform.add_argument("datasets", nargs="+", metavar="DATASET", help="one, or several to put one after the other")
    transform.add_argument("--to", required=True, metavar="file:DIR", help="folder for the new dataset")
    transform.add_argument(
        "--fractions", type=float, nargs="+", metavar="X", help="random share of the episodes of each dataset"
    )
    transform.add_argument("--delayed-reward", action="store_true", help="move an episode's reward to its last step")
    transform.add_argument(
        "--top-fraction", type=float, metavar="X", help="best episodes, up to this share of all steps"
    )
    transform.add_argument("--random-fraction", type=float, metavar="X", help="random share of the episodes")
    transform.add_argument("--seed", type=int, default=0, help="seed of random shares (default: 0)")
    transform.add_argument("--reward-scale", type=float, metavar="X", help="multiply every reward")
    transform.add_argument("--reward-shift", type=float, default=0.0, metavar="X", help="then add this to every reward")
    finishing(transform, _transform, lines)


def _transform(
    datasets: list[str],
    to: str,
    fractions: list[float] | None,
    seed: int,
    **options: Any,
) -> Result:
    from dataclasses import replace

    import numpy as np

    from wikirl.errors import ConfigError
    from wikirl.trajectories import transforms
    from wikirl.trajectories.sources import load_trajectories
    from wikirl.trajectories.storage import require_free, save_dataset

    if not to.startswith("file:") or to == "file:":
        raise ConfigError(f"expected --to file:DIR; found {to}")
    if seed < 0:
        raise ConfigError(f"expected a seed of at least 0; found {seed}")
    folder = Path(to.removeprefix("file:")).expanduser()
    require_free(folder)
    generator = np.random.default_rng(seed)
    parts = [load_trajectories(dataset) for dataset in datasets]
    made = parts[0]
    if len(parts) > 1 or fractions:
        name = "+".join(part.name for part in parts)
        made = transforms.mixture(parts, fractions or [1.0] * len(parts), generator, name)
    if options["delayed_reward"]:
        made = transforms.delayed_reward(made)
    if options["top_fraction"] is not None:
        made = transforms.top_fraction(made, options["top_fraction"])
    if options["random_fraction"] is not None:
        made = transforms.random_fraction(made, options["random_fraction"], generator)
    if options["reward_scale"] is not None or options["reward_shift"]:
        factor = 1.0 if options["reward_scale"] is None else options["reward_scale"]
        made = transforms.scale_rewards(made, factor, options["reward_shift"])
    if made is parts[0]:
        raise ConfigError("expected several datasets or at least one change; see wikirl data transform --help")
    if fractions or options["random_fraction"] is not None:
        made = replace(made, details={**made.details, "transform_seed": seed})
    save_dataset(made, folder)
    kept = ("return_mean", "return_std", "return_min", "return_max")
    return {
        "dataset": to,
        "name": made.name,
        "num_steps": made.num_steps,
        "num_episodes": made.num_episodes,
        **{key: getattr(made.statistics, key) for key in kept},
        "parts": [part["name"] for part in made.details.get("parts", [])],
        "transforms": made.details.get("transforms", []),
        "fingerprint": made.fingerprint,
    }


def _list_datasets() -> Result:
    from dataclasses import asdict

    from wikirl.trajectories.sources import list_datasets

    return {"datasets": [asdict(entry) for entry in list_datasets()]}


def _show_dataset(dataset: str) -> Result:
    from dataclasses import asdict

    import numpy as np

    from wikirl.evaluation.references import choose_reference
    from wikirl.trajectories.sources import load_trajectories

    found = load_trajectories(dataset)
    statistics = asdict(found.statistics)
    for name in ("observation_mean", "observation_std"):
        statistics[name] = statistics[name].ravel().tolist()
    environment, own = found.environment, found.details.get("reference")
    reference = choose_reference(environment, own=own, own_environment=environment)
    # Scaled rewards are no returns of the environment, which a reference is about.
    normalized = None
    if reference is not None and "reward_scale" not in found.details:
        normalized = float(reference.normalize(np.array([found.statistics.return_mean]))[0])
    return {
        "name": found.name,
        "environment": found.environment,
        "num_steps": found.num_steps,
        "num_episodes": found.num_episodes,
        "observation_space": found.observation_space.to_json(),
        "action_space": found.action_space.to_json(),
        **statistics,
        "reference": None if reference is None else reference.to_json(),
        "return_mean_normalized": normalized,
        "fingerprint": found.fingerprint,
        "details": dict(found.details),
    }
