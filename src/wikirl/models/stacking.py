"""Several Decision Transformers as one: their parameters side by side, so that they train in the same operations.

Row r of every parameter `[R,…]` is run r's; kernels.py multiplies row by row. The models that were stacked live on as
views of the rows, so that whoever holds one of them (its policy, its checkpoints) sees it train.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from wikirl.errors import ConfigError
from wikirl.kernels import Dropout
from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.models.gpt import GPT


def stack(models: Sequence[DecisionTransformer]) -> DecisionTransformer:
    """One model that computes all of `models`, on batches in which the rows of each model follow those of the last.

    The parameters and statistics of `models` become views into it. Dropout of run r draws from the generators of model
    r, so that it drops what model r alone would drop.

    Raises:
        ConfigError: the models differ in architecture, options or what is frozen, or their backbones are no `GPT`.
    """
    first = models[0]
    shapes = [{name: (p.shape, p.requires_grad) for name, p in model.named_parameters()} for model in models]
    if any(shape != shapes[0] for shape in shapes) or any(model.config != first.config for model in models):
        raise ConfigError("expected models of one architecture with the same options and frozen parts, to stack them")
    if not isinstance(first.backbone, GPT):
        raise ConfigError("expected models with backbones of the GPT-2 family, to stack them; train these one by one")
    stacked = copy.deepcopy(first)
    for name, parameter in list(stacked.named_parameters()):
        rows = torch.stack([model.get_parameter(name).detach() for model in models])
        _put(stacked, name, nn.Parameter(rows, requires_grad=parameter.requires_grad))
        for model, row in zip(models, rows, strict=True):
            model.get_parameter(name).data = row
    for name, _ in list(stacked.named_buffers()):
        rows = torch.stack([model.get_buffer(name) for model in models])
        _put(stacked, name, rows[:, None, None])  # statistics meet [R,B,K,·]
        for model, row in zip(models, rows, strict=True):
            _put(model, name, row)
    for name, module in stacked.named_modules():
        if isinstance(module, Dropout):
            own = [model.get_submodule(name) for model in models]
            module.generators = [g for alone in own if isinstance(alone, Dropout) for g in alone.generators]
    return stacked


def _put(model: nn.Module, name: str, value: torch.Tensor) -> None:
    """Replace a parameter or buffer by its full name."""
    *path, last = name.split(".")
    setattr(model.get_submodule(".".join(path)), last, value)
