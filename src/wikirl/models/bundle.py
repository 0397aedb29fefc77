"""The policy bundle: a folder that holds everything needed to act, and nothing that can run code.

    model.safetensors   weights, observation statistics and action bounds
    config.json         architecture, options, spaces, context length, default target return, how choices are made

A loaded policy acts on raw observations. A bundle without its statistics does not load.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wikirl.errors import BundleError, ConfigError
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import action_codec
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.sequence_model import Backbone
from wikirl.runs import replacing_folder, write_json
from wikirl.types import Space

FORMAT = "wikirl policy 1"


def save_policy(policy: DecisionTransformerPolicy, folder: Path, details: dict[str, Any]) -> None:
    """Write a bundle, replacing an older one in one move.

    Args:
        policy: What to save.
        folder: Where to.
        details: JSON kept beside it: where it comes from.
    """
    model = policy.model
    with replacing_folder(folder) as temporary:
        tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        save_file(tensors, temporary / "model.safetensors", metadata={"format": FORMAT})
        config = {
            "format": FORMAT,
            "backbone": model.backbone.to_json(),
            "decision_transformer": asdict(model.config),
            "observation_space": policy.observation_space.to_json(),
            "action_space": policy.action_space.to_json(),
            "context_length": policy.context_length,
            "target_return": policy.target_return,
            "action_selection": policy.action_selection,
            "details": details,
        }
        write_json(temporary / "config.json", config)


def load_policy(folder: Path | str, device: str = "cpu") -> DecisionTransformerPolicy:
    """Read a bundle.

    Raises:
        BundleError: a file is missing or damaged, or does not hold all weights and statistics.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError) as error:
        raise BundleError(
            f"expected a policy bundle (config.json, model.safetensors) at {folder}; found: {error}"
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise BundleError(f"expected a policy bundle of format {FORMAT!r} at {folder}; found another config.json")
    try:
        options = DecisionTransformerConfig(**config["decision_transformer"])
        backbone = _build(config["backbone"])
        spaces = [Space.from_json(config[key]) for key in ("observation_space", "action_space")]
        context_length, target_return = int(config["context_length"]), float(config["target_return"])
        if context_length < 1:
            raise ConfigError(f"expected context_length of at least 1; found {context_length}")
        statistics = [torch.zeros(options.observation_size), torch.ones(options.observation_size)]
        model = DecisionTransformer(options, backbone, Normalizer(*statistics), action_codec(spaces[1])).to(device)
        policy = DecisionTransformerPolicy(
            model, *spaces, context_length=context_length, target_return=target_return,
            action_selection=config.get("action_selection"),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise BundleError(f"expected a complete config.json in {folder}; found: {error!r}") from error
    _fill(model, tensors, folder)
    model.eval()
    return policy


def _build(description: dict[str, Any]) -> Backbone:
    """The backbone that left this description, with fresh weights."""
    if "hugging_face" not in description:
        return GPT(GPTConfig(**description))
    from wikirl.models.hugging_face import HuggingFaceBackbone  # its library takes seconds to import

    return HuggingFaceBackbone.from_json(description)


def _fill(model: DecisionTransformer, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    missing = sorted(model.state_dict().keys() - tensors.keys())
    if missing:
        what = (
            "the observation statistics are missing"
            if any(k.startswith("normalizer") for k in missing)
            else "weights are missing"
        )
        raise BundleError(
            f"expected all tensors of the policy in {folder / 'model.safetensors'}; {what}: {', '.join(missing[:4])}"
        )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"expected weights that fit config.json in {folder}; found: {reason}") from error
