"""Tiny decoders of many architectures, saved as a user would find them: random weights, a language-model head."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 30
_ENDS: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_SIZES: dict[str, Any] = _ENDS | {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip
_GATED = _SIZES | {"intermediate_size": 24, "num_key_value_heads": 1}
_OPT = _SIZES | {"ffn_dim": 24, "pad_token_id": 1}

ARCHITECTURES: dict[str, Any] = {
    "gpt_neox": lambda: GPTNeoXConfig(**_SIZES, intermediate_size=24),
    "opt": lambda: OPTConfig(**_OPT, word_embed_proj_dim=16),
    # As OPT-350m: words narrower than the model, layer norms after the sublayers.
    "opt, narrow words": lambda: OPTConfig(**_OPT, word_embed_proj_dim=8, do_layer_norm_before=False),
    "llama": lambda: LlamaConfig(**_GATED),
    "qwen2": lambda: Qwen2Config(**_GATED),
    "qwen3": lambda: Qwen3Config(**_GATED, head_dim=8),
    # Attention that does not reach the beginning of the window.
    "mistral": lambda: MistralConfig(**_GATED, sliding_window=4),
    "gemma": lambda: GemmaConfig(**_GATED, head_dim=8),
    "gemma2": lambda: Gemma2Config(**_GATED, head_dim=8, sliding_window=4),
    "gemma3": lambda: Gemma3TextConfig(**_GATED, head_dim=8, sliding_window=4),
    # Positions as a bias of attention, and none at all.
    "bloom": lambda: BloomConfig(**_ENDS, hidden_size=16, n_layer=2, n_head=2),
    "mamba": lambda: MambaConfig(**_ENDS, hidden_size=16, num_hidden_layers=2, state_size=4),
}


@torch.no_grad()
def write_decoder(folder: Path, architecture: str, seed: int = 0) -> str:
    """A Hugging Face folder of random weights, none of them at its initial value."""
    model: Any = AutoModelForCausalLM.from_config(ARCHITECTURES[architecture]())
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return str(folder)
