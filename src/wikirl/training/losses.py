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

from wikirl.kernels import product


def masked_action_mse(
    predicted: Float[Tensor, "*R B K A"], actions: Float[Tensor, "*R B K A"], mask: Bool[Tensor, "*R B K"]
) -> Float[Tensor, "*R"]:
    """Mean squared error over real steps, of each run if runs are stacked.

    Source: Decision Transformer, `SequenceTrainer.train_step`.
    """
    errors = (predicted - actions).masked_fill(~mask[..., None], 0.0).square().sum((-3, -2, -1))
    loss: Tensor = errors / (mask.sum((-2, -1)) * actions.shape[-1])
    return loss


def masked_choice_loss(
    logits: Float[Tensor, "*R B K n"], actions: Int[Tensor, "*R B K"], mask: Bool[Tensor, "*R B K"]
) -> Float[Tensor, "*R"]:
    """Mean negative log-likelihood in nats of the choices of real steps, of each run if runs are stacked.

    Source: Decision Transformer, `atari/mingpt/model_atari.py`, whose batches have no padding.
    """
    nothing = -100  # such targets count nothing and get no gradient
    targets = actions.masked_fill(~mask, nothing)
    nats = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none", ignore_index=nothing)
    loss: Tensor = nats.view(mask.shape).sum((-2, -1)) / mask.sum((-2, -1))
    return loss


def masked_choice_accuracy(
    logits: Float[Tensor, "*R B K n"], actions: Int[Tensor, "*R B K"], mask: Bool[Tensor, "*R B K"]
) -> Float[Tensor, "*R"]:
    """Share of real steps whose choice is the likeliest, of each run if runs are stacked."""
    right = (logits.argmax(-1) == actions) & mask
    return right.sum((-2, -1)) / mask.sum((-2, -1))


def action_loss(
    predicted: Float[Tensor, "*R B K P"],
    actions: Float[Tensor, "*R B K A"] | Int[Tensor, "*R B K"],
    mask: Bool[Tensor, "*R B K"],
) -> Float[Tensor, "*R"]:
    """`masked_action_mse` of vectors, `masked_choice_loss` of choices."""
    compare = masked_action_mse if actions.is_floating_point() else masked_choice_loss
    return compare(predicted, actions, mask)


class _BestCosine(torch.autograd.Function):
    """The largest cosine to any centre of unit length.

    Two things make it cheap: lengths are divided out after the maximum, and the gradient, (centre − cosine · direction)
    / length, looks its centre up where autograd would multiply by a matrix of zeros and ones.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, centres: Tensor) -> Tensor:
        cosines = product(tokens, centres) if tokens.ndim == 2 else tokens @ centres.mT
        best, which = cosines.max(-1)
        lengths: Tensor = torch.linalg.vector_norm(tokens, dim=-1).clamp_min(1e-12)
        best = best / lengths
        ctx.save_for_backward(tokens, centres, which, lengths, best)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        tokens, centres, which, lengths, best = ctx.saved_tensors
        if centres.ndim == 3:
            which = which + (torch.arange(len(centres), device=which.device) * centres.shape[1])[:, None]
        chosen = F.embedding(which, centres.flatten(0, -2))
        return chosen.addcmul_(tokens, (best / lengths)[..., None], value=-1).mul_((grad / lengths)[..., None]), None


def alignment_paper(
    tokens: Float[Tensor, "*R B L D"], centres: Float[Tensor, "*R C D"], mask: Bool[Tensor, "*R B L"]
) -> Float[Tensor, "*R"]:
    """Minus the mean over real tokens of the largest cosine to any word-cluster centre.

    Source: Reid et al., section 3 (L_cos), as a mean instead of a sum.
    """
    best: Tensor = _BestCosine.apply(  # type: ignore[no-untyped-call]
        tokens.flatten(-3, -2), F.normalize(centres, dim=-1)
    )
    real = mask.flatten(-2)
    return -best.masked_fill(~real, 0.0).sum(-1) / real.sum(-1)


class _PerCoordinate(torch.autograd.Function):
    """Mean of token_j · bound_j; the bound is the largest centre_bj for token_j ≥ 0 and the smallest otherwise."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, centres: Tensor) -> Tensor:
        high, low = centres.amax(-2, keepdim=True), centres.amin(-2, keepdim=True)
        bounds = torch.where(tokens >= 0, high, low).div_(tokens[0].numel() if centres.ndim == 3 else tokens.numel())
        ctx.save_for_backward(bounds)
        return (tokens * bounds).sum((-2, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (bounds,) = ctx.saved_tensors
        return bounds * grad[..., None, None], None


def alignment_released(
    tokens: Float[Tensor, "*R B L D"], centres: Float[Tensor, "*R C D"], *, normalize: bool = True
) -> Float[Tensor, "*R"]:
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
    tokens = tokens.flatten(-3, -2)
    if normalize:
        tokens, centres = F.normalize(tokens, dim=-1), F.normalize(centres, dim=-1)
    value: Tensor = _PerCoordinate.apply(tokens, centres)  # type: ignore[no-untyped-call]
    return -value


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
            logits = product(part, table)
            errors = torch.softmax(logits, dim=-1)  # probabilities, until 1 is taken from those of the targets
            # Not the logarithm of the target's probability, which may be too small for the precision.
            behind = logits.amax(-1, keepdim=True).float() - logits.gather(1, target).float()
            total += (behind - errors.amax(-1, keepdim=True).float().log()).sum()
            errors.scatter_add_(1, target, torch.full_like(target, -1, dtype=errors.dtype))
            grad_hidden[start : start + chunk] = product(errors, table.T)
            if errors.dtype == torch.float32:
                grad_words.addmm_(errors.T, part)
            else:  # summed in float32
                grad_words += (errors.T @ part).float()
        ctx.save_for_backward(grad_hidden.mul_(scale), grad_words.mul_(scale).to(words.dtype))
        return total * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_words = ctx.saved_tensors
        return grad_hidden * grad.to(grad_hidden.dtype), grad_words * grad, None, None


def next_token_loss(
    hidden: Float[Tensor, "B L D"], words: Float[Tensor, "V D"], targets: Int[Tensor, "B L"], chunk: int | None = None
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood in nats of the next tokens, the output head being the word table.

    Args:
        hidden: Final hidden states, in the precision the head is to be multiplied in.
        words: Word embeddings (tied output head).
        targets: The token after each position.
        chunk: Positions whose logits are held at once; default: as many as make 4 M logits, from 128 to 512.
    """
    chunk = chunk or min(max(2**22 // len(words), 128), 512)
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
