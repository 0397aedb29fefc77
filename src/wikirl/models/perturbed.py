"""Backbones with their weights disturbed: what of a pre-trained start is its statistics, and how exact must it be?

    moments:B      every tensor drawn anew, normal with the mean and the standard deviation of B's
    permuted:B     every tensor's own entries in random order
    noised:B@s     B plus normal noise of s times each tensor's standard deviation

B is any backbone's name. None of them needs training. This file disturbs modules; it does not know architectures, and
where weights come from only by name (backbone.py loads them).
"""

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wikirl.errors import BackboneError
from wikirl.reproducibility import generator

Kind = Literal["moments", "permuted", "noised"]


@dataclass(frozen=True)
class Perturbation:
    """What is done to which backbone.

    Attributes:
        kind: How every tensor is disturbed.
        backbone: Name of the backbone whose tensors these are.
        scale: With `noised`, standard deviation of the noise in units of the tensor's own; else 0.
    """

    kind: Kind
    backbone: str
    scale: float = 0.0


def perturbation_of(name: str) -> Perturbation | None:
    """What a backbone's name asks for; None for a backbone as it is.

    Raises:
        BackboneError: no backbone behind the prefix or one that is disturbed already, or no usable number behind @.
    """
    kind, _, backbone = name.partition(":")
    if kind not in get_args(Kind):
        return None
    scale = 0.0
    if kind == "noised":
        backbone, _, number = backbone.rpartition("@")
        scale = _scale(number, name)
    if backbone in ("", "scratch"):
        raise BackboneError(
            f"expected a backbone with weights behind {kind}:, as in {_example(kind)}; found {name!r}; name one"
        )
    if backbone.partition(":")[0] in get_args(Kind):
        raise BackboneError(
            f"expected a backbone as it is behind {kind}:, as in {_example(kind)}; found {name!r}; use one prefix"
        )
    return Perturbation(cast(Kind, kind), backbone, scale)


def _scale(number: str, name: str) -> float:
    try:
        scale = float(number)
    except ValueError:
        scale = math.nan
    if not 0 <= scale < math.inf:
        raise BackboneError(
            f"expected noised:B@s with a number s of at least 0, as in {_example('noised')}; found {name!r}; "
            "say how much noise"
        )
    return scale


def _example(kind: str) -> str:
    return f"{kind}:chibit" + "@0.1" * (kind == "noised")


@torch.no_grad()
def perturb(module: nn.Module, perturbation: Perturbation, seed: int) -> None:
    """Disturb every parameter of a module in place.

    Tensors are taken in the order of their names, so the draw does not depend on the order of modules. A constant
    tensor has no spread and stays as it is. Under one seed `noised` adds the same noise at every scale, larger or
    smaller. Buffers, which are not learnt, are left alone.

    Args:
        module: What to change.
        perturbation: How.
        seed: Of the draw; the streams of other draws under the same seed are others.

    Source: facts, section 5, point 2; the weight perturbations of Wang et al. 2024 (Pre-training with Synthetic Data
        Helps Offline RL), `--perturb*`.
    """
    random = torch.Generator().manual_seed(int(generator(seed, "perturbed weights").integers(2**63)))
    for _, parameter in sorted(module.named_parameters()):
        values = parameter.detach().cpu()
        if values.min() < values.max():
            parameter.copy_(_disturbed(values, perturbation, random))


def _disturbed(
    values: Float[Tensor, "*shape"], perturbation: Perturbation, random: torch.Generator
) -> Float[Tensor, "*shape"]:
    """A tensor of the same shape and type; `values` are not all the same."""
    if perturbation.kind == "permuted":
        return values.flatten()[torch.randperm(values.numel(), generator=random)].view_as(values)
    exact = values.double()
    noise = torch.randn(values.shape, generator=random, dtype=torch.float64) * exact.std(correction=0)
    if perturbation.kind == "moments":
        return (exact.mean() + noise).to(values.dtype)
    return (exact + perturbation.scale * noise).to(values.dtype) if perturbation.scale else values
