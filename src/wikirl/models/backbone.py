"""Where backbones come from and go to: scratch, the shipped ChibiT, Hugging Face folders and ids.

Hugging Face's library reads and writes the files; the forward is ours (gpt.py). A backbone is a `GPT`: it owns its word
embeddings `[V,D]` and its position table. This file does not know trajectories.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel, GPT2Model
from transformers.utils import logging as transformers_logging

from wikirl.errors import BackboneError
from wikirl.kernels import Activation
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.perturbed import perturb, perturbation_of

# It would draw over our own bars.
transformers_logging.disable_progress_bar()
# Its report on loaded weights would follow our own one-line error.
transformers_logging.set_verbosity_error()

CHIBIT = Path(__file__).parents[1] / "assets" / "chibit"
# GPT-2 matrices are Conv1D (input × output) in Hugging Face's files, Linear (output × input) here.
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def load_backbone(name: str, seed: int | None = None) -> GPT:
    """A pre-trained backbone.

    Args:
        name: `chibit` (shipped), a folder in Hugging Face format, or a Hugging Face id of the GPT-2 family; or one of
            these disturbed, as perturbed.py spells it.
        seed: What disturbed weights are drawn from; of no effect on others.

    Raises:
        BackboneError: nothing is there, it cannot be read, it is not of the GPT-2 family, or it lacks a seed.
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
    source = CHIBIT if name == "chibit" else Path(name)
    config = _read_config(name, source)
    try:
        loaded: Any = GPT2Model.from_pretrained(
            source if source.is_dir() else name, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, ArithmeticError, SafetensorError, RuntimeError) as error:
        raise BackboneError(f"expected GPT-2 weights at {name!r}; found: {_first_line(error)}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # Hugging Face would draw them at random
        raise BackboneError(f"expected all GPT-2 weights at {name!r}; missing: {', '.join(missing[:4])}")
    gpt = GPT(from_hugging_face_config(config))
    gpt.load_state_dict(from_hugging_face(model.state_dict()))
    return gpt


def _read_config(name: str, source: Path) -> GPT2Config:
    if not source.is_dir() and (
        (os.sep in name.strip(os.sep) and name.count("/") > 1) or name.startswith((".", "/", "~"))
    ):
        raise BackboneError(f"expected a folder with config.json and model.safetensors; found no folder at {name!r}")
    try:
        config = AutoConfig.from_pretrained(source if source.is_dir() else name)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, StrictDataclassError) as error:
        raise BackboneError(
            "expected scratch, chibit, a Hugging Face folder or a Hugging Face id as backbone; "
            f"found {name!r}: {_first_line(error)}"
        ) from error
    if not isinstance(config, GPT2Config):
        raise BackboneError(f"expected a backbone of the GPT-2 family; {name!r} is of type {config.model_type!r}")
    return config


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


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


def with_dropout(gpt: GPT, *, embedding: float, attention: float, residual: float) -> GPT:
    """The same weights under other dropout rates."""
    config = replace(gpt.config, embedding_dropout=embedding, attention_dropout=attention, residual_dropout=residual)
    other = GPT(config)
    other.load_state_dict(gpt.state_dict())
    return other


def weights_fingerprint(gpt: GPT) -> str:
    """Hash of all weights, to tell what a run started from."""
    digest = hashlib.sha256()
    for name, value in sorted(gpt.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
