"""Logits, loss and every gradient of a Decision Transformer of choices, against one written out token by token.

The authors' released code has no discrete case, so the other side is plain PyTorch in float64: one row at a time, its
padding cut off, one query at a time, a choice's token as a one-hot vector times the table.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers import NUM_CHOICES, TINY, random_batch, tiny_transformer
from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.training.losses import action_loss
from wikirl.types import TrajectoryBatch

Weights = dict[str, Tensor]


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def affine(w: Weights, name: str, x: Tensor) -> Tensor:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def block(w: Weights, name: str, tokens: list[Tensor]) -> list[Tensor]:
    """One GPT-2 block, a position at a time."""
    size = TINY.hidden_size // TINY.num_heads
    triples = [
        affine(w, f"{name}.attn.c_attn", norm(w, f"{name}.ln_1", token)).split(TINY.hidden_size) for token in tokens
    ]
    found = []
    for place, token in enumerate(tokens):
        heads = []
        for head in range(TINY.num_heads):
            part = slice(head * size, (head + 1) * size)
            scores = [triples[place][0][part] @ triples[seen][1][part] / math.sqrt(size) for seen in range(place + 1)]
            shares = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            heads.append(sum((shares[seen] * triples[seen][2][part] for seen in range(place + 1)), torch.zeros(size)))
        after = token + affine(w, f"{name}.attn.c_proj", torch.cat(heads))
        inner = affine(w, f"{name}.mlp.c_fc", norm(w, f"{name}.ln_2", after))
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        found.append(after + affine(w, f"{name}.mlp.c_proj", inner))
    return found


def slow_logits(w: Weights, batch: TrajectoryBatch, row: int, *, shared: bool) -> Tensor:
    """Logits `[T,n]` of the real steps of a row."""
    mean, std = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.5, 2.0, 1.0]) + 1e-6
    tokens = []
    for step in batch.mask[row].nonzero().flatten().tolist():
        time = w["embed_timestep.weight"][batch.timesteps[row, step]]
        one_hot = F.one_hot(batch.actions[row, step], NUM_CHOICES).double()
        for token in (
            affine(w, "embed_return", batch.returns_to_go[row, step].double() / 2.0),
            affine(w, "embed_observation", (batch.observations[row, step].double() - mean) / std),
            one_hot @ w["embed_action.weight"],
        ):
            tokens.append(norm(w, "embed_norm", token + time))
    for layer in range(TINY.num_layers):
        tokens = block(w, f"backbone.h.{layer}", tokens)
    hidden = [norm(w, "backbone.ln_f", token) for token in tokens[1::3]]
    if shared:
        return torch.stack([w["embed_action.weight"] @ state for state in hidden])
    return torch.stack([affine(w, "predict_action", state) for state in hidden])


def slow_loss(logits: list[Tensor], batch: TrajectoryBatch) -> Tensor:
    """Minus the mean logarithm of the probabilities of the choices that were made."""
    nats = []
    for row, of_row in enumerate(logits):
        for scores, choice in zip(of_row, batch.actions[row][batch.mask[row]].tolist(), strict=True):
            nats.append(scores.exp().sum().log() - scores[choice])
    return torch.stack(nats).sum() / len(nats)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_loss_and_gradients(shared: bool, seed: int) -> None:
    model: DecisionTransformer = tiny_transformer(seed=seed, choices=True, share_projection=shared)
    batch = random_batch((4, 2, 1), seed=seed, choices=True)
    logits = model(batch).actions
    loss = action_loss(logits, batch.actions, batch.mask)
    loss.backward()

    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    expected = [slow_logits(weights, batch, row, shared=shared) for row in range(3)]
    expected_loss = slow_loss(expected, batch)
    expected_loss.backward()
    for row, of_row in enumerate(expected):
        torch.testing.assert_close(logits[row][batch.mask[row]].double(), of_row, rtol=1e-4, atol=1e-4)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for name, value in model.named_parameters():
        theirs = weights[name].grad
        if value.grad is None:  # words and positions, which are not used
            assert theirs is None, name
            continue
        assert theirs is not None, name
        torch.testing.assert_close(value.grad.double(), theirs, rtol=1e-3, atol=1e-5, msg=name)
