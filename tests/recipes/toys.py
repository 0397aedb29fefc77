"""A tiny corpus, backbone and dataset that recipes can be run on in a second."""

from pathlib import Path
from typing import Any

import numpy as np

from wikirl.recipes.pretrain import pretrain
from wikirl.recipes.pretrain_settings import PretrainConfig
from wikirl.recipes.settings import FinetuneConfig
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.storage import save_dataset

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "one",
    "dog",
    "ran",
    "to",
    "see",
    "its",
    "old",
    "red",
    "hat",
    "fall",
    "down",
    "again",
]


def corpus(folder: Path, num_documents: int = 200) -> Path:
    generator = np.random.default_rng(0)
    lines = [" ".join(generator.choice(WORDS, 30)) for _ in range(num_documents)]
    path = folder / "corpus.txt"
    path.write_text("\n\n".join(lines))
    return path


def pretrain_config(text: Path, **options: Any) -> PretrainConfig:
    small = {
        "vocab_size": 300,
        "hidden_size": 16,
        "num_positions": 32,
        "num_layers": 2,
        "num_heads": 2,
        "batch_size": 4,
    }
    return PretrainConfig(str(text), **(small | {"num_steps": 8, "eval_every": 4, "checkpoint_every": 4} | options))


def backbone(folder: Path) -> str:
    """A pre-trained toy in Hugging Face format."""
    pretrain(pretrain_config(corpus(folder)), folder / "backbone", precision="float32")
    return str(folder / "backbone")


def trajectories(
    num_episodes: int = 12, *, bounds: float = 1.0, seed: int = 0, choices: bool = False
) -> TrajectoryDataset:
    """Episodes of 5 to 30 steps in which the action copies the observation, or is its largest coordinate's number."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 31, num_episodes)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    observations = generator.normal(size=(starts[-1], 3)).astype(np.float32)
    vectors = np.clip(observations[:, :2], -1, 1) * np.float32(bounds)
    actions = observations.argmax(axis=1) if choices else vectors
    rewards = generator.normal(size=starts[-1]).astype(np.float32)
    terminated = generator.random(num_episodes) < 0.5
    return build_dataset("toy", observations, actions, rewards, starts, terminated)


def dataset(folder: Path, **options: Any) -> str:
    save_dataset(trajectories(**options), folder / "data")
    return f"file:{folder / 'data'}"


def finetune_config(data: str, start: str = "scratch", **options: Any) -> FinetuneConfig:
    small: dict[str, Any] = {
        "num_steps": 8,
        "batch_size": 4,
        "context_length": 5,
        "eval_every": 4,
        "num_clusters": 10,
        "architecture": "dt",
    }
    return FinetuneConfig(data, backbone=start, **(small | options))
