"""The training of a behaviour policy on disk: what each stretch played, and the policy after it.

    steps/N.safetensors       the episodes of stretch N, end to end
    snapshots/N.safetensors   the policy after it
    metrics.jsonl             its score
    checkpoints/step-N        networks and optimizers after stretch N − 1

This file knows the run folder. It deliberately knows neither algorithms nor datasets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from wikirl.evaluation.rollout import rollout
from wikirl.recipes.behaviour import Learner
from wikirl.recipes.collect_settings import CollectConfig
from wikirl.runs import Run, noting
from wikirl.types import Policy, RecordedEpisode

Episodes = list[RecordedEpisode]
_SCORE_SEED = 1  # apart from that of the data


def train_behaviour(run: Run, config: CollectConfig, learner: Learner, bar: Any) -> list[Episodes]:
    """Train to the end from wherever the run stands; gives back every stretch's episodes."""
    checkpoint = run.resume()
    first = checkpoint.step if checkpoint else 0
    played = [_read_steps(_file(run, "steps", number)) for number in range(first)]
    steps = config.num_steps // config.num_snapshots
    bar.update(first * steps)
    if checkpoint:
        learner.restore(checkpoint.tensors("learner"))
    for number in range(first, config.num_snapshots):
        episodes = learner.train(number, steps, [episode for stretch in played for episode in stretch])
        played.append(episodes)
        snapshot = learner.snapshot()
        reached = score(learner.policy(snapshot), config)
        _write_steps(_file(run, "steps", number), episodes)
        _save(_file(run, "snapshots", number), snapshot)
        run.log({"step": number + 1, "num_steps": (number + 1) * steps, "score": reached})
        run.save_checkpoint(number + 1, {"learner": learner.tensors()}, {})
        bar.set_postfix(score=f"{reached:.1f}")
    return played


def load_snapshot(run: Run, number: int) -> dict[str, torch.Tensor]:
    """The policy after stretch `number`, for `Learner.policy`."""
    tensors: dict[str, torch.Tensor] = load_file(_file(run, "snapshots", number))
    return tensors


def score(policy: Policy, config: CollectConfig) -> float:
    """Mean return of some episodes, played as the data are."""
    outcome = rollout(policy, config.environment, num_episodes=config.score_episodes, seed=_SCORE_SEED)
    return float(outcome.returns.mean())


def _file(run: Run, what: str, number: int) -> Path:
    return run.folder / what / f"{number:04d}.safetensors"


def _write_steps(path: Path, episodes: Episodes) -> None:
    """What a stretch played, end to end; each episode has an observation more than steps."""
    arrays = {
        "observations": np.concatenate([episode.observations for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]),
        "lengths": np.array([len(episode.rewards) for episode in episodes]),
        "terminated": np.array([episode.terminated for episode in episodes]),
    }
    _save(path, {key: torch.from_numpy(array) for key, array in arrays.items()})


def _read_steps(path: Path) -> Episodes:
    arrays = {key: tensor.numpy() for key, tensor in load_file(path).items()}
    ends = np.cumsum(arrays["lengths"])
    seen = np.split(arrays["observations"], (ends + np.arange(1, len(ends) + 1))[:-1])
    actions, rewards = (np.split(arrays[key], ends[:-1]) for key in ("actions", "rewards"))
    return [
        RecordedEpisode(*fields[:3], bool(fields[3]))
        for fields in zip(seen, actions, rewards, arrays["terminated"], strict=True)
    ]


def _save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    with noting(path):
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
        temporary.replace(path)
