"""The card that lies beside a pre-trained backbone: what it was made from, how, and what it came to."""

import shlex
from dataclasses import dataclass
from typing import Any

BITS = "held_out_bits_per_byte"


@dataclass(frozen=True)
class Card:
    """What a model card reports.

    Attributes:
        config: The resolved `PretrainConfig`.
        architecture: The model's `GPTConfig`.
        corpus: One line on the training text.
        held_out: Name of the text that the figures are on.
        vocab_size: Entries of the tokenizer.
        precision: Autocast type.
        summary: Held-out figures, tokens seen and minutes.
        provenance: Versions, machine and command.
    """

    config: dict[str, Any]
    architecture: dict[str, Any]
    corpus: str
    held_out: str
    vocab_size: int
    precision: str
    summary: dict[str, Any]
    provenance: dict[str, Any]


def model_card(card: Card) -> str:
    """The card in Markdown."""
    config, shape, summary, machine = card.config, card.architecture, card.summary, card.provenance["machine"]
    rows = {
        "corpus": card.corpus,
        "tokens seen": f"{summary['num_tokens_seen']:,} in {config['num_steps']:,} steps of "
        f"{config['batch_size']} × {config['num_positions']}",
        **({"continued from": config["start"]} if config["start"] else {}),
        "held-out text": card.held_out,
        **({"held-out bits per byte": f"{summary[BITS]:.4f}"} if BITS in summary else {}),
        "held-out perplexity per token": f"{summary['held_out_perplexity']:.2f} (of this vocabulary; "
        "does not compare with others)",
        "minutes": summary["minutes"],
        "machine": f"{machine['processor']}, {machine['num_threads']} thread(s), {card.precision}, "
        f"PyTorch {card.provenance['versions']['torch']}",
        "optimizer": f"{_optimizer(config)}, 5 % warm-up, then linear to zero, "
        f"weight decay {config['weight_decay']:g}, clip {config['clip_norm']:g}, dropout {config['dropout']:g}, "
        f"seed {config['seed']}",
        "block length": f"{config['num_positions']}; cut in {config['short_blocks']} for the first "
        f"{config['short_share']:.0%} of the steps",
        "command": f"`{shlex.join(card.provenance['command'])}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# A language model pre-trained with wikirl

GPT-2 architecture: {shape["num_layers"]} layers, {shape["num_heads"]} head(s), width {shape["hidden_size"]},
{shape["activation"]}, {shape["num_positions"]} positions, a vocabulary of {card.vocab_size:,},
{summary["num_parameters"]:,} parameters, stored in float16. Made as a starting point for `wikirl finetune --backbone`,
not as a source of facts or of good prose.

| | |
|---|---|
{table}

{config["attribution"]}
"""


def _optimizer(config: dict[str, Any]) -> str:
    if config["optimizer"] == "adamw":
        return f"AdamW, peak rate {config['learning_rate']:g}"
    rates = f"peak rate {config['learning_rate']:g}; AdamW for the rest, peak rate {config['table_learning_rate']:g}"
    return f"Muon for the blocks' matrices, {rates}"
