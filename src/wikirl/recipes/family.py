"""A family of datasets on its way out: figures of each, Minari folders, D4RL files, and the card.

This file knows what is written where, once. It deliberately does not know who played.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.evaluation.environments import EnvironmentSpec, versions
from wikirl.recipes.collect_settings import CollectConfig, Kind
from wikirl.recipes.data_card import data_card
from wikirl.runs import Run, write_json
from wikirl.trajectories.minari import minari_root
from wikirl.trajectories.minari_writing import Attribution, write_minari
from wikirl.trajectories.writing import write_d4rl
from wikirl.types import RecordedEpisode


@dataclass(frozen=True, eq=False)
class Part:
    """One dataset of the family.

    Attributes:
        episodes: What was played.
        policy: Who played, in words.
        role: Why this policy, in words; empty where that is plain.
    """

    episodes: list[RecordedEpisode]
    policy: str
    role: str = ""


def refuse_existing(run: Run, ids: Mapping[Kind, str]) -> None:
    """Refuse before hours of training rather than after.

    Raises:
        DatasetError: a Minari dataset of that name exists, and this run did not write it.
    """
    for kind, dataset_id in ids.items():
        if (minari_root() / dataset_id).exists() and not _receipt(run, f"minari-{kind}").exists():
            raise DatasetError(
                f"minari:{dataset_id} exists already in {minari_root()}; choose another --name or delete it first"
            )


def describe(
    config: CollectConfig, spec: EnvironmentSpec, name: str, parts: Mapping[Kind, Part], run: Run
) -> dict[str, Any]:
    """The card as a JSON object; random and expert data are its reference scores."""
    minimum, maximum = (float(_returns(parts[kind].episodes).mean()) for kind in ("random", "expert"))
    warnings = []
    if maximum <= minimum:
        warnings.append(
            f"the best behaviour policy ({maximum:.1f}) is no better than random actions ({minimum:.1f}): train it "
            "longer (--num-steps), or with other --options"
        )
    if "medium" in parts and parts["medium"].policy == parts["expert"].policy:
        warnings.append("medium and expert are the same policy: nothing after it was better")
    return {
        "name": name,
        "environment": config.environment,
        "max_episode_steps": spec.max_episode_steps,
        "behaviour": config.behaviour,
        "seed": config.seed,
        "reference": {
            "name": f"{name} family",
            "minimum": minimum,
            "maximum": maximum,
            "source": "mean return of the family's own random and expert data, as wikirl collected them",
        },
        "datasets": {kind: _figures(parts[kind]) for kind in config.kinds},
        "scores": [[line["num_steps"], line["score"]] for line in run.metrics()],
        "warnings": warnings,
        "versions": versions(),
        "provenance": json.loads((run.folder / "provenance.json").read_text()),
    }


def write_family(
    run: Run,
    card: dict[str, Any],
    parts: Mapping[Kind, Part],
    spec: EnvironmentSpec,
    ids: Mapping[Kind, str],
    files: Mapping[Kind, Path],
) -> None:
    """Write what is not yet written, each with a receipt, and the card."""
    seen = replace(spec.observation_space, dtype=_stored(spec.observation_space.dtype))
    for kind, dataset_id in ids.items():
        with _once(run, f"minari-{kind}", minari_root() / dataset_id) as wanted:
            if wanted:
                about = Attribution(
                    algorithm_name=f"{card['behaviour']} ({card['datasets'][kind]['policy']})",
                    description=f"{kind} data of the {card['name']} family, collected with wikirl",
                    reference=card["reference"],
                    extra={"seed": card["seed"], "versions": card["versions"], **card["datasets"][kind]},
                )
                write_minari(
                    parts[kind].episodes,
                    dataset_id,
                    observation_space=seen,
                    action_space=spec.action_space,
                    environment=card["environment"],
                    attribution=about,
                )
        card["datasets"][kind]["minari"] = f"minari:{dataset_id}"
    for kind, path in files.items():
        with _once(run, f"d4rl-{kind}", path) as wanted:
            if wanted:
                write_d4rl(
                    parts[kind].episodes,
                    path,
                    observation_space=seen,
                    action_space=spec.action_space,
                    environment=card["environment"],
                    note=f"{card['name']} {kind}: {card['datasets'][kind]['policy']}",
                    reference=card["reference"],
                )
        card["datasets"][kind]["d4rl"] = str(path)
    write_json(run.folder / "card.json", card)
    (run.folder / "README.md").write_text(data_card(card))


def _figures(part: Part) -> dict[str, Any]:
    returns = _returns(part.episodes)
    return {
        "policy": f"{part.policy}, {part.role}" if part.role else part.policy,
        "num_steps": sum(len(episode.rewards) for episode in part.episodes),
        "num_episodes": len(part.episodes),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "terminated_fraction": float(np.mean([episode.terminated for episode in part.episodes])),
    }


def _returns(episodes: Sequence[RecordedEpisode]) -> npt.NDArray[np.float64]:
    return np.array([episode.rewards.sum() for episode in episodes])


def _stored(dtype: str) -> str:
    return "float32" if dtype == "float64" else dtype


@contextmanager
def _once(run: Run, what: str, place: Path) -> Iterator[bool]:
    """Whether to write something; a receipt in the run tells that it was, as long as it is still there."""
    receipt = _receipt(run, what)
    yield not (receipt.exists() and place.exists())
    receipt.parent.mkdir(exist_ok=True)
    write_json(receipt, {"written": str(place)})


def _receipt(run: Run, what: str) -> Path:
    return run.folder / "written" / f"{what}.json"
