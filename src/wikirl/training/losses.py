"""The named scalars that training minimises: action error, alignment to words, next-token loss.

Pure functions of tensors; which of them a run adds up, and with which weights, is the recipe's business.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def masked_action_mse(
    predicted: Float[Tensor, "B K A"], actions: Float[Tensor, "B K A"], mask: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Mean squared error over real steps.

    Source: Decision Transformer, `SequenceTrainer.train_step`.
    """
    return F.mse_loss(predicted[mask], actions[mask])


def alignment_paper(
    tokens: Float[Tensor, "B L D"], centres: Float[Tensor, "C D"], mask: Bool[Tensor, "B L"]
) -> Float[Tensor, ""]:
    """Minus the mean over real tokens of the largest cosine to any word-cluster centre.

    Source: Reid et al., section 3 (L_cos), as a mean instead of a sum.
    """
    cosines = F.normalize(tokens[mask], dim=-1) @ F.normalize(centres, dim=-1).T
    return -cosines.amax(dim=-1).mean()


def alignment_released(
    tokens: Float[Tensor, "B L D"], centres: Float[Tensor, "C D"], *, normalize: bool = True
) -> Float[Tensor, ""]:
    """What the released code computes in place of the cosine: a per-coordinate maximum over clusters.

    Its einsum keeps the coordinate, so nothing is summed: the value is −mean over all positions (padding included) and
    coordinates of max over clusters of token_j · centre_bj. For token_j ≥ 0 the maximum is at the largest centre_bj,
    otherwise at the smallest, which is how it is computed here.

    Args:
        tokens: Token embeddings.
        centres: Cluster centres.
        normalize: Scale tokens and centres to unit length first (the main code does, its co-training copy does not).

    Source: facts Q1; WIKI `kmeans_cosine_max_loss`.
    """
    if normalize:
        tokens, centres = F.normalize(tokens, dim=-1), F.normalize(centres, dim=-1)
    return -torch.where(tokens >= 0, tokens * centres.amax(0), tokens * centres.amin(0)).mean()


def alignment_anneal(step: int, anneal_steps: int) -> float:
    """The factor on the alignment loss at a step counted from 1: σ(5 − 10 · step / anneal_steps).

    One half at `anneal_steps` / 2, practically zero at twice `anneal_steps`. The released main code has
    `anneal_steps` = 5,000, its co-training copy 15,000.

    Source: facts Q2.
    """
    return 1.0 / (1.0 + math.exp(min(10.0 * step / anneal_steps - 5.0, 700.0)))


class _TokenLoss(torch.autograd.Function):
    """Cross-entropy of a tied output head, in chunks, with the gradient formed while the logits are at hand.

    The full logits (8,192 tokens × 8,192 words × 4 bytes = 256 MB) never exist, which is 1.8 times as fast on CPU.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, words: Tensor, targets: Tensor, chunk: int) -> Tensor:
        scale = 1.0 / len(targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden)
        grad_words = torch.zeros_like(words, dtype=torch.float32)
        table = words.to(hidden.dtype)
        for start in range(0, len(targets), chunk):
            part, target = hidden[start : start + chunk], targets[start : start + chunk, None]
            logits = part @ table.T
            probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
            # Not the logarithm of the target's probability, which may be too small for float32.
            behind = logits.amax(-1, keepdim=True).float() - logits.gather(1, target).float()
            total += (behind - probabilities.amax(-1, keepdim=True).log()).sum()
            errors = probabilities.scatter_add_(1, target, torch.full_like(target, -1, dtype=torch.float32))
            errors = errors.to(hidden.dtype)
            grad_hidden[start : start + chunk] = errors @ table
            grad_words += errors.T @ part
        ctx.save_for_backward(grad_hidden.mul_(scale), grad_words.mul_(scale).to(words.dtype))
        return total * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_words = ctx.saved_tensors
        return grad_hidden * grad.to(grad_hidden.dtype), grad_words * grad, None, None


def next_token_loss(
    hidden: Float[Tensor, "B L D"], words: Float[Tensor, "V D"], targets: Int[Tensor, "B L"], chunk: int = 256
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood in nats of the next tokens, the output head being the word table.

    Args:
        hidden: Final hidden states, in the precision the head is to be multiplied in.
        words: Word embeddings (tied output head).
        targets: The token after each position.
        chunk: Positions whose logits are held at once.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    if not torch.is_grad_enabled():
        return sum(
            (
                F.cross_entropy((part @ words.to(part.dtype).T).float(), target, reduction="sum")
                for part, target in zip(flat.split(chunk), targets.reshape(-1).split(chunk), strict=True)
            ),
            start=flat.new_zeros((), dtype=torch.float32),
        ) / len(flat)
    loss: Tensor = _TokenLoss.apply(flat, words, targets.reshape(-1), chunk)  # type: ignore[no-untyped-call]
    return loss
