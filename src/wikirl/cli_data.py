"""`wikirl data`: where trajectories come from, what is in them, whether they are sound.

Each action is one function that adds its flags and says what runs. Nothing heavy is imported before one runs.
"""

import argparse

from wikirl.cli_parts import Result, finishing, lines, table


def add_actions(parser: argparse.ArgumentParser) -> None:
    """The actions of `wikirl data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="datasets at hand")
    finishing(listing, _list_datasets, lambda result: table(result["datasets"]))
    show = actions.add_parser("show", help="sizes, spaces and statistics of a dataset")
    show.add_argument("dataset", help="builtin:NAME, file:PATH, minari:ID or d4rl:NAME")
    finishing(show, _show_dataset, lines)
    _add_download(actions)


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
