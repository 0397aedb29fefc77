"""One frozen value that fully describes a pre-training run, and presets for it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wikirl.errors import ConfigError
from wikirl.kernels import Activation
from wikirl.models.perturbed import perturbation_of
from wikirl.recipes.fields import require, setting

Preset = Literal["small", "chibit", "chibit-4x256", "chibit-6x512", "gpt2-small"]


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides what `pretrain` makes."""

    corpus: str = field(
        metadata={
            "help": "a file or folder of text, hf:ID, wikitext-103, wikipedia, shuffled:TEXT, images:DIR, "
            "synthetic:iid, :markov, :brackets"
        }
    )
    held_out: str | None = setting(None, "text for the held-out figures; default: a part of the corpus")
    start: str | None = setting(None, "go on from this backbone, with its tokenizer and sizes; default: random weights")
    tokenizer: str | None = setting(
        None, "chibit, bytes, or a folder (tokenizer.json or GPT-2's files); default: learnt"
    )
    vocab_size: int = setting(8192, "entries of the BPE that is learnt")
    num_layers: int = setting(3, "transformer blocks")
    num_heads: int = setting(1, "attention heads per block")
    hidden_size: int = setting(128, "width of the residual stream")
    num_positions: int = setting(1024, "context length and rows of the position table")
    activation: Activation = setting("relu", "non-linearity of the feed-forward layers")
    dropout: float = setting(0.0, "all three dropout rates")
    batch_size: int = setting(4, "blocks of num_positions tokens a step, of all processes together")
    num_microbatches: int = setting(1, "parts of a batch whose gradients are added up, to save memory")
    short_blocks: int = setting(4, "cut each block into this many at first, which is faster; 1 for never")
    short_share: float = setting(0.8, "share of the steps on short blocks")
    num_steps: int = setting(7000, "updates")
    optimizer: Literal["muon", "adamw"] = setting("muon", "muon: for the blocks' matrices, with adamw for the rest")
    learning_rate: float = setting(
        4e-3, "peak rate of matrices, or of all with adamw; warm-up over 5 %% of the steps, then linear to zero"
    )
    table_learning_rate: float = setting(6e-3, "peak rate of all else under muon")
    adam_beta2: float = setting(0.95, "decay of adamw's second moment")
    weight_decay: float = setting(0.01, "decoupled weight decay")
    clip_norm: float = setting(1.0, "largest gradient norm")
    eval_every: int = setting(1000, "steps between held-out figures and sampled lines")
    checkpoint_every: int = setting(200, "steps between checkpoints to go on from")
    keep_every: int | None = setting(None, "steps between backbones kept in OUT/steps; default: only the last")
    seed: int = setting(0, "seed of weights and block order")
    attribution: str = setting("", "source and licence of the text, for the model card; default: what is found")


# What the synthetic-pre-training paper's authors used to make ChibiT again; the original's settings are not known.
# Facts 1.3, SYNOLD `pretrain.py`: 64 blocks of 1,024 tokens, AdamW 3e-4, decay 1e-2, 80,000 updates, 10,000 of warm-up
# (here never more than 5 %). It wants GPT-2's own tokenizer: --tokenizer FOLDER.
_CHIBIT: dict[str, Any] = {
    "vocab_size": 50_257, "dropout": 0.1, "batch_size": 64, "short_blocks": 1, "num_steps": 80_000,
    "optimizer": "adamw", "learning_rate": 3e-4, "adam_beta2": 0.999,
}  # fmt: skip
PRESETS: dict[Preset, dict[str, Any]] = {
    "small": {},
    "chibit": _CHIBIT,
    # The sizes between, with the heads of the same authors' size-matched Decision Transformers (facts 4.2).
    "chibit-4x256": {**_CHIBIT, "num_layers": 4, "hidden_size": 256, "num_heads": 4},
    "chibit-6x512": {**_CHIBIT, "num_layers": 6, "hidden_size": 512, "num_heads": 8, "num_microbatches": 4},
    # GPT-2's architecture; half a million tokens a step at 6e-4, as is usual for it.
    "gpt2-small": {
        "vocab_size": 50_257, "num_layers": 12, "hidden_size": 768, "num_heads": 12, "activation": "gelu_new",
        "batch_size": 480, "num_microbatches": 40, "short_blocks": 1, "num_steps": 600_000, "optimizer": "adamw",
        "learning_rate": 6e-4, "weight_decay": 0.1,
    },
}  # fmt: skip


def from_preset(preset: Preset, **options: Any) -> PretrainConfig:
    """The settings of a preset, except for the options given."""
    return PretrainConfig(**{**PRESETS[preset], **options})


def warmup_steps(num_steps: int) -> int:
    """5 % of the steps, at most the published 10,000."""
    return min(-(-num_steps // 20), 10_000)


def check_pretraining(config: PretrainConfig, num_processes: int = 1) -> None:
    """Refuse settings that cannot work.

    Raises:
        ConfigError: names the setting.
    """
    counts = ("num_layers", "num_heads", "hidden_size", "num_positions", "batch_size", "num_steps", "eval_every")
    more = ("checkpoint_every", "keep_every", "num_microbatches")
    require(config, (*counts, *more), lambda value: value >= 1, "of at least 1")
    if config.hidden_size % config.num_heads:
        raise ConfigError(
            f"expected hidden_size to be a multiple of num_heads; found {config.hidden_size} and {config.num_heads}"
        )
    if config.short_blocks < 1 or config.num_positions % config.short_blocks:
        raise ConfigError(f"expected short_blocks to divide num_positions; found {config.short_blocks}")
    if config.batch_size % (config.num_microbatches * num_processes):
        raise ConfigError(
            f"expected batch_size to be a multiple of {config.num_microbatches} microbatches × {num_processes} "
            f"process(es); found {config.batch_size}"
        )
    require(config, ("start",), lambda name: perturbation_of(name) is None, "with undisturbed weights")
    require(config, ("seed", "weight_decay", "clip_norm"), lambda value: value >= 0, "of at least 0")
    require(config, ("learning_rate", "table_learning_rate"), lambda value: value > 0, "above 0")
    require(config, ("dropout", "short_share"), lambda value: 0 <= value <= 1, "from 0 to 1")
    require(config, ("adam_beta2",), lambda value: 0 <= value < 1, "from 0 up to, not including, 1")
