"""Tiny models, batches and text for tests of several folders."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import ActionChoices, ActionScaler
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.sequence_model import Backbone
from wikirl.types import ActionSelection, Space, TrajectoryBatch

OBSERVATION_SIZE, ACTION_SIZE, MAX_TIMESTEPS = 3, 2, 12
LOW, HIGH = (-1.0, 0.5), (3.0, 0.75)
NUM_CHOICES = 4

TINY = GPTConfig(
    num_layers=2,
    num_heads=2,
    hidden_size=16,
    inner_size=24,
    num_positions=8,
    vocab_size=30,
    activation="gelu_new",
    embedding_dropout=0.0,
    attention_dropout=0.0,
    residual_dropout=0.0,
)


@torch.no_grad()
def randomize(module: nn.Module, seed: int = 0, std: float = 0.3) -> None:
    """Draw every parameter, biases and layer norms too, so that none can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        centre = 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0
        parameter.copy_(centre + std * torch.randn(parameter.shape, generator=generator))


def tiny_gpt(seed: int = 0, **changes: Any) -> GPT:
    """A GPT with random weights everywhere, without dropout unless asked for."""
    gpt = GPT(replace(TINY, **changes)).eval()
    randomize(gpt, seed)
    return gpt


def tiny_transformer(
    gpt: Backbone | None = None, seed: int = 0, *, choices: bool = False, **options: Any
) -> DecisionTransformer:
    """A Decision Transformer over `OBSERVATION_SIZE` observations; `ACTION_SIZE` actions in LOW … HIGH, or choices."""
    given = {"return_scale": 2.0, "max_timesteps": MAX_TIMESTEPS} | options
    config = DecisionTransformerConfig(OBSERVATION_SIZE, NUM_CHOICES if choices else ACTION_SIZE, **given)
    normalizer = Normalizer(torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.5, 2.0, 1.0]))
    codec = ActionChoices(NUM_CHOICES) if choices else ActionScaler(torch.tensor(LOW), torch.tensor(HIGH))
    model = DecisionTransformer(config, gpt or tiny_gpt(seed), normalizer, codec).eval()
    randomize(model, seed)
    return model


def tiny_policy(
    context_length: int = 3,
    target_return: float = 5.0,
    action_selection: ActionSelection | None = None,
    **options: Any,
) -> DecisionTransformerPolicy:
    """A policy around `tiny_transformer`; of choices if it is said how to select them."""
    choices = action_selection is not None
    return DecisionTransformerPolicy(
        tiny_transformer(choices=choices, **options),
        Space.box(-torch.inf, torch.inf, (OBSERVATION_SIZE,)),
        Space.discrete(NUM_CHOICES) if choices else Space.box(np.array(LOW), np.array(HIGH), (ACTION_SIZE,)),
        context_length=context_length,
        target_return=target_return,
        action_selection=action_selection,
    )


def random_batch(
    lengths: Sequence[int] = (4, 2, 1), context_length: int = 4, seed: int = 0, *, choices: bool = False
) -> TrajectoryBatch:
    """Random windows; row b holds `lengths[b]` real steps at its end, zeros before them."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    mask = torch.arange(context_length) >= context_length - torch.tensor(lengths)[:, None]
    first = torch.randint(MAX_TIMESTEPS - context_length + 1, (rows, 1), generator=generator)
    timesteps = (first + mask.long().cumsum(1) - 1) * mask

    def real(size: int) -> Tensor:
        return torch.randn(rows, context_length, size, generator=generator) * mask[..., None]

    actions = (real(ACTION_SIZE).tanh() * torch.tensor([2.0, 0.125]) + torch.tensor([1.0, 0.625])) * mask[..., None]
    if choices:
        actions = torch.randint(NUM_CHOICES, mask.shape, generator=generator) * mask
    return TrajectoryBatch(real(OBSERVATION_SIZE), actions, real(1), timesteps, mask)


def rows_of(batch: TrajectoryBatch, rows: slice, steps: slice = slice(None)) -> TrajectoryBatch:
    """Some rows, and some steps of them."""
    return TrajectoryBatch(*(getattr(batch, name)[rows, steps] for name in batch.__dataclass_fields__))


def toy_documents(number: int = 12) -> list[str]:
    """Short texts that repeat words, with accents and another script among them."""
    words = ["the", "whale", "café", "hopper", "leaps", "海", "and", "falls", "1905", "naïve"]
    return [" ".join(words[(i * k + k) % len(words)] for k in range(1, 6 + i)) for i in range(number)]


def write_corpus(folder: Path, documents: Sequence[str] | None = None) -> Path:
    """A folder with one text file of documents."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.txt").write_text("\n\n".join(documents or toy_documents()), encoding="utf-8")
    return folder
