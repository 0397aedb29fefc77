"""Puts the released code's weights and inputs (data/, made by the authors' own code) into our classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from wikirl.models.actions import ActionScaler
from wikirl.models.backbone import TRANSPOSED, load_gpt
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.types import TrajectoryBatch

DATA = Path(__file__).parent / "data"
SHARED = "pretrained_shared_positions_shared_projection_alignment"
CASES = ("scratch", SHARED, "pretrained_frozen")
OBSERVATION_SIZE, ACTION_SIZE, HORIZON = 11, 3, 1000
NAMES = {
    "embed_state": "embed_observation",
    "embed_ln": "embed_norm",
    "predict_action.0": "predict_action",
    "transformer": "backbone",
}
# Heads that the released code builds and never trains; we do not have them.
UNTRAINED = ("predict_state", "predict_return")


def our_name(theirs: str) -> str:
    """Our name for one of their parameters."""
    for old, new in NAMES.items():
        if theirs.startswith(old + "."):
            return new + theirs.removeprefix(old)
    return theirs


def load_case(case: str) -> dict[str, Any]:
    """All arrays of a case."""
    with np.load(DATA / f"{case}.npz") as arrays:
        return dict(arrays)


def annealing() -> dict[str, list[float]]:
    """The annealing factors."""
    values: dict[str, list[float]] = json.loads((DATA / "alignment_anneal.json").read_text())
    return values


def build(case: str) -> DecisionTransformer:
    """Our model with their weights, options as the case has them and no dropout."""
    backbone = GPT(_scratch()) if case == "scratch" else load_gpt(str(DATA / "language_model"))
    shared = case == SHARED
    config = DecisionTransformerConfig(
        OBSERVATION_SIZE, ACTION_SIZE, HORIZON,
        share_positions=shared, share_projection=shared, timestep_placement="after_norm",
    )  # fmt: skip
    size, actions = OBSERVATION_SIZE, ACTION_SIZE
    normalizer = Normalizer(torch.zeros(size), torch.ones(size) - 1e-6)
    model = DecisionTransformer(config, backbone, normalizer, ActionScaler(-torch.ones(actions), torch.ones(actions)))
    weights = {
        our_name(name): value.T if name.endswith(TRANSPOSED) else value
        for name, value in load_file(DATA / f"{case}.weights.safetensors").items()
        if not name.startswith(UNTRAINED)
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    # Attention biases start at zero and were left out; buffers are ours alone.
    assert all(name.endswith("c_attn.bias") or name.startswith(("normalizer", "scaler")) for name in missing), missing
    if case == "pretrained_frozen":
        model.freeze("blocks")
    return model.eval()


def _scratch() -> GPTConfig:
    return GPTConfig(hidden_size=64, inner_size=256, embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)


def batch_of(arrays: dict[str, Any], prefix: str = "") -> TrajectoryBatch:
    """Inputs of a training step; the released arrays hold one return-to-go more than there are steps."""

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[prefix + name])

    return TrajectoryBatch(
        tensor("observations"),
        tensor("actions"),
        tensor("returns_to_go")[:, :-1],
        tensor("timesteps"),
        tensor("mask").bool(),
    )


def history_of(arrays: dict[str, Any], n: int, context_length: int) -> TrajectoryBatch:
    """The last `context_length` of `n` steps, as a window without padding."""

    def tail(name: str) -> Tensor:
        return torch.from_numpy(arrays[f"history{n}_{name}"])[-context_length:][None]

    timesteps = tail("timesteps")
    return TrajectoryBatch(
        tail("observations"),
        tail("actions"),
        tail("returns_to_go")[..., None],
        timesteps,
        torch.ones_like(timesteps).bool(),
    )
