"""The policy bundle: a folder that holds everything needed to act, and nothing that can run code.

    model.safetensors   weights, observation statistics and action bounds
    config.json         architecture, options, spaces, context length, default target return, how choices are made

That is a Decision Transformer's. A baseline's, of another format, has no architecture but the sizes of its layers, and
neither context nor target return. A loaded policy acts on raw observations. A bundle without its statistics does not
load.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from wikirl.errors import BundleError, ConfigError
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import action_codec
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.perceptron import Perceptron, PerceptronPolicy, fresh_layers
from wikirl.models.sequence_model import Backbone
from wikirl.runs import replacing_folder, write_json
from wikirl.types import Space

FORMAT = "wikirl policy 1"
PERCEPTRON = "wikirl perceptron 1"

AnyPolicy = DecisionTransformerPolicy | PerceptronPolicy


def save_policy(policy: DecisionTransformerPolicy, folder: Path, details: dict[str, Any]) -> None:
    """Write a bundle, replacing an older one in one move.

    Args:
        policy: What to save.
        folder: Where to.
        details: JSON kept beside it: where it comes from.
    """
    config = {
        "format": FORMAT,
        "backbone": policy.model.backbone.to_json(),
        "decision_transformer": asdict(policy.model.config),
        **_spaces(policy),
        "context_length": policy.context_length,
        "target_return": policy.target_return,
        "action_selection": policy.action_selection,
        "details": details,
    }
    _write(policy.model, folder, config)


def save_perceptron(policy: PerceptronPolicy, folder: Path, details: dict[str, Any]) -> None:
    """`save_policy` of a baseline."""
    layers = [layer.out_features for layer in policy.model.hidden if isinstance(layer, nn.Linear)]
    config = {
        "format": PERCEPTRON,
        "hidden_size": layers[0],
        "num_layers": len(layers),
        "outputs": policy.outputs,
        **_spaces(policy),
        "details": details,
    }
    _write(policy.model, folder, config)


def _spaces(policy: AnyPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name).to_json() for name in ("observation_space", "action_space")}


def _write(model: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    with replacing_folder(folder) as temporary:
        tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        save_file(tensors, temporary / "model.safetensors", metadata={"format": config["format"]})
        write_json(temporary / "config.json", config)


def load_policy(folder: Path | str, device: str = "cpu") -> DecisionTransformerPolicy:
    """Read the bundle of a Decision Transformer.

    Raises:
        BundleError: a file is missing or damaged, or does not hold all weights and statistics; or it is a baseline's.
    """
    policy = load_any_policy(folder, device)
    if isinstance(policy, PerceptronPolicy):
        raise BundleError(
            f"expected the policy of a Decision Transformer at {folder}; found that of a baseline; load it with "
            "load_any_policy"
        )
    return policy


def load_any_policy(folder: Path | str, device: str = "cpu") -> AnyPolicy:
    """Read a bundle, whosever it is.

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
    found = config.get("format") if isinstance(config, dict) else None
    if found not in (FORMAT, PERCEPTRON):
        raise BundleError(
            f"expected a policy bundle of format {FORMAT!r} or {PERCEPTRON!r} at {folder}; found another config.json"
        )
    try:
        policy = _decision_transformer(config, device) if found == FORMAT else _perceptron(config, device)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise BundleError(f"expected a complete config.json in {folder}; found: {error!r}") from error
    _fill(policy.model, tensors, folder)
    policy.model.eval()
    return policy


def _decision_transformer(config: dict[str, Any], device: str) -> DecisionTransformerPolicy:
    """The policy that left this description, with fresh weights."""
    options = DecisionTransformerConfig(**config["decision_transformer"])
    backbone = _build(config["backbone"])
    spaces = [Space.from_json(config[key]) for key in ("observation_space", "action_space")]
    context_length, target_return = int(config["context_length"]), float(config["target_return"])
    if context_length < 1:
        raise ConfigError(f"expected context_length of at least 1; found {context_length}")
    normalizer = _blank_normalizer(options.observation_size)
    model = DecisionTransformer(options, backbone, normalizer, action_codec(spaces[1])).to(device)
    return DecisionTransformerPolicy(
        model, *spaces, context_length=context_length, target_return=target_return,
        action_selection=config.get("action_selection"),
    )  # fmt: skip


def _perceptron(config: dict[str, Any], device: str) -> PerceptronPolicy:
    """The policy that left this description, with fresh weights."""
    observation_space, action_space = (Space.from_json(config[key]) for key in ("observation_space", "action_space"))
    codec = action_codec(action_space)
    sizes = [observation_space.size, int(config["hidden_size"]), int(config["num_layers"]), codec.size]
    if min(sizes) < 1:
        raise ConfigError(f"expected sizes of at least 1; found {sizes}")
    model = Perceptron(fresh_layers(*sizes), _blank_normalizer(observation_space.size), codec).to(device)
    return PerceptronPolicy(model, observation_space, action_space, predicts_values=config["outputs"] == "values")


def _blank_normalizer(size: int) -> Normalizer:
    return Normalizer(torch.zeros(size), torch.ones(size))


def _build(description: dict[str, Any]) -> Backbone:
    """The backbone that left this description, with fresh weights."""
    if "hugging_face" not in description:
        return GPT(GPTConfig(**description))
    from wikirl.models.hugging_face import HuggingFaceBackbone  # its library takes seconds to import

    return HuggingFaceBackbone.from_json(description)


def _fill(model: nn.Module, tensors: dict[str, torch.Tensor], folder: Path) -> None:
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
