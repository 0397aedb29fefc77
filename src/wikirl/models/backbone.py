"""Where backbones come from and go to: scratch, the shipped ChibiT, Hugging Face folders and ids.

Hugging Face's library reads and writes the files. A GPT-2 becomes a `GPT`, whose forward is ours (gpt.py); any other
causal decoder a `HuggingFaceBackbone` (hugging_face.py). This file does not know trajectories.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, cast, get_args

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor
from transformers import AutoModel, GPT2Config, GPT2LMHeadModel, GPT2Model, PreTrainedConfig

from wikirl.errors import BackboneError
from wikirl.kernels import Activation
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.hugging_face import (
    SAFELY,
    UNUSABLE,
    as_backbone,
    first_line,
    read_config,
    require_decoder,
)
from wikirl.models.perturbed import perturb, perturbation_of
from wikirl.models.sequence_model import Backbone

# Base of what the hub's HTTP library raises, whichever it is: httpx, or httpx2 in newer versions.
_HTTP_ERROR = cast(type[Exception], HfHubHTTPError.__base__)

ASSETS = Path(__file__).parents[1] / "assets"
# ChibiT, and what compares with it: itself after the controls' number of tokens, and the controls.
SHIPPED = ("chibit", "chibit-28m", "chibit-shuffled", "chibit-markov", "chibit-iid")
# GPT-2 matrices are Conv1D (input × output) in Hugging Face's files, Linear (output × input) here.
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def backbone_folder(name: str) -> Path:
    """Where a backbone's files would be: of a shipped one in this package, of others at the path that is their name."""
    return ASSETS / name if name in SHIPPED else Path(name)


def load_backbone(name: str, seed: int | None = None) -> Backbone:
    """A pre-trained backbone.

    Args:
        name: one of `SHIPPED`, a folder in Hugging Face format, or a Hugging Face id; or one of these disturbed, as
            perturbed.py spells it.
        seed: What disturbed weights are drawn from; of no effect on others.

    Raises:
        BackboneError: nothing is there, it cannot be read, it is no causal decoder, or it lacks a seed.
    """
    if perturbation := perturbation_of(name):
        if seed is None:
            raise BackboneError(
                f"expected a seed to draw the weights of {name!r} from; found none; use it as --backbone, "
                f"or {perturbation.backbone!r} here"
            )
        disturbed = load_backbone(perturbation.backbone)
        perturb(disturbed, perturbation, seed)
        return disturbed
    config = _read_config(name)
    if isinstance(config, GPT2Config):
        return _load_gpt(name, config)
    require_decoder(config, name)
    return as_backbone(_read_weights(AutoModel, name, config), name)


def check_at_hand(name: str) -> None:
    """Refuse a backbone that is not on this machine, or that its configuration alone rules out; no network is asked.

    Raises:
        BackboneError: says why, and how to get it.
    """
    if perturbation := perturbation_of(name):
        return check_at_hand(perturbation.backbone)
    place = _place(name)
    if isinstance(place, str):
        try:
            cached = try_to_load_from_cache(place, "config.json")
        except UNUSABLE as error:
            raise BackboneError(f"expected a folder or a Hugging Face id; found {name!r}") from error
        if not isinstance(cached, str):
            raise BackboneError(
                f"{name!r} is neither a folder nor in Hugging Face's cache; hf download {name} brings it here"
            )
    config = _read_config(name)
    if not isinstance(config, GPT2Config):
        require_decoder(config, name)
    return None


def load_gpt(name: str) -> GPT:
    """`load_backbone` where nothing but the GPT-2 family will do.

    Raises:
        BackboneError: as `load_backbone`, or it is of another family.
    """
    config = _read_config(name)
    if not isinstance(config, GPT2Config):
        raise BackboneError(f"expected a backbone of the GPT-2 family; {name!r} is of type {config.model_type!r}")
    return _load_gpt(name, config)


def _load_gpt(name: str, config: GPT2Config) -> GPT:
    model = _read_weights(GPT2Model, name, config)
    gpt = GPT(from_hugging_face_config(config))
    gpt.load_state_dict(from_hugging_face(model.state_dict()))
    return gpt


def _place(name: str) -> Path | str:
    """A folder, or the id of a model on the hub."""
    folder = backbone_folder(name)
    return folder if folder.is_dir() else name


def _read_config(name: str) -> PreTrainedConfig:
    place = _place(name)
    if isinstance(place, str) and (
        (os.sep in name.strip(os.sep) and name.count("/") > 1) or name.startswith((".", "/", "~"))
    ):
        raise BackboneError(f"expected a folder with config.json and model.safetensors; found no folder at {name!r}")
    try:
        return read_config(place)
    except UNUSABLE as error:
        raise BackboneError(
            "expected scratch, chibit, a Hugging Face folder or a Hugging Face id as backbone; "
            f"found {name!r}: {first_line(error)}"
        ) from error


def _read_weights(kind: Any, name: str, config: PreTrainedConfig) -> Any:
    """The model of one of Hugging Face's classes, in float32."""
    try:
        model, report = kind.from_pretrained(_place(name), config=config, output_loading_info=True, **SAFELY)
    except UNUSABLE as error:
        raise BackboneError(f"expected the weights of a model at {name!r}; found: {first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):  # Hugging Face would draw them at random
        raise BackboneError(f"expected all weights of the model at {name!r}; missing: {', '.join(missing[:4])}")
    return model


def from_hugging_face_config(config: GPT2Config) -> GPTConfig:
    """Translate the architecture.

    Raises:
        BackboneError: an activation this forward does not have, or unscaled attention.
    """
    activation = {"gelu_pytorch_tanh": "gelu_new"}.get(config.activation_function, config.activation_function)
    if activation not in get_args(Activation):
        raise BackboneError(f"expected an activation of {', '.join(get_args(Activation))}; found {activation!r}")
    if not config.scale_attn_weights:
        raise BackboneError("expected scaled attention (scale_attn_weights true); found a GPT-2 without it")
    if config.add_cross_attention:
        raise BackboneError("expected a GPT-2 without cross-attention; found one with it")
    return GPTConfig(
        num_layers=config.n_layer,
        num_heads=config.n_head,
        hidden_size=config.n_embd,
        inner_size=config.n_inner or 4 * config.n_embd,
        num_positions=config.n_positions,
        vocab_size=config.vocab_size,
        activation=cast(Activation, activation),
        layer_norm_epsilon=config.layer_norm_epsilon,
        initializer_range=config.initializer_range,
        scale_by_inverse_layer=config.scale_attn_by_inverse_layer_idx,
        embedding_dropout=config.embd_pdrop,
        attention_dropout=config.attn_pdrop,
        residual_dropout=config.resid_pdrop,
    )


def to_hugging_face_config(config: GPTConfig, end_token: int) -> GPT2Config:
    """The inverse of `from_hugging_face_config`."""
    return GPT2Config(
        n_layer=config.num_layers,
        n_head=config.num_heads,
        n_embd=config.hidden_size,
        n_inner=None if config.inner_size == 4 * config.hidden_size else config.inner_size,
        n_positions=config.num_positions,
        vocab_size=config.vocab_size,
        activation_function=config.activation,
        layer_norm_epsilon=config.layer_norm_epsilon,
        initializer_range=config.initializer_range,
        scale_attn_by_inverse_layer_idx=config.scale_by_inverse_layer,
        embd_pdrop=config.embedding_dropout,
        attn_pdrop=config.attention_dropout,
        resid_pdrop=config.residual_dropout,
        bos_token_id=end_token,
        eos_token_id=end_token,
    )


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's GPT-2 state under our layout; buffers and prefixes fall away."""
    named = {key.removeprefix("transformer."): value for key, value in state.items()}
    return {
        key: value.T.contiguous() if key.endswith(TRANSPOSED) else value
        for key, value in named.items()
        if not key.endswith((".attn.bias", ".attn.masked_bias", "lm_head.weight"))
    }


def save_backbone(gpt: GPT, folder: Path, end_token: int, dtype: torch.dtype = torch.float32) -> None:
    """Write a Hugging Face folder that `GPT2LMHeadModel.from_pretrained` and `load_backbone` read.

    Args:
        gpt: A model with word and position tables.
        folder: Where to; created if need be.
        end_token: Id of `<|endoftext|>`.
        dtype: Type of the stored weights.
    """
    model = GPT2LMHeadModel(to_hugging_face_config(gpt.config, end_token))
    state: dict[str, Any] = {
        f"transformer.{key}": value.T if key.endswith(TRANSPOSED) else value for key, value in gpt.state_dict().items()
    }
    state["lm_head.weight"] = state["transformer.wte.weight"]
    model.load_state_dict(state)
    model.to(dtype=dtype)  # type: ignore[call-arg]  # its decorator hides the signature
    model.save_pretrained(folder)


def push_backbone(folder: Path, repository: str) -> None:
    """Upload a folder that `pretrain` left to the Hugging Face hub, without its run folder and kept steps.

    Raises:
        BackboneError: not logged in, no network, or no such owner.
    """
    try:
        hub = HfApi()
        hub.create_repo(repository, exist_ok=True)
        hub.upload_folder(folder_path=folder, repo_id=repository, ignore_patterns=["pretraining/*", "steps/*"])
    except (OSError, ValueError, _HTTP_ERROR) as error:
        raise BackboneError(
            f"expected to be able to upload {folder} to {repository!r}; found: {first_line(error)}; log in with "
            "`hf auth login` and ask again: the model is whole, and will not be trained anew"
        ) from error


def weights_fingerprint(backbone: Backbone) -> str:
    """Hash of all weights, to tell what a run started from."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
