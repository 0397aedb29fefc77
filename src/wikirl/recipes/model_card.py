"""The card that lies beside a pre-trained backbone: what it was made from, how, and what it came to."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

BITS = "held_out_bits_per_byte"
UNKNOWN = (
    "Source and licence of the training text are not known: nobody gave `--attribution`, and nothing was found beside "
    "the text. Find out before you pass this model on."
)


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
        attribution: Source and licence of the text, in Markdown; empty if nothing is known.
        summary: Held-out figures, tokens seen and minutes.
        provenance: Versions, machine and command.
    """

    config: dict[str, Any]
    architecture: dict[str, Any]
    corpus: str
    held_out: str
    vocab_size: int
    precision: str
    attribution: str
    summary: dict[str, Any]
    provenance: dict[str, Any]


def model_card(card: Card) -> str:
    """The card in Markdown."""
    config, shape, summary, machine = card.config, card.architecture, card.summary, card.provenance["machine"]
    rows = {
        "corpus": _plain(card.corpus),
        "tokens seen": f"{summary['num_tokens_seen']:,} in {config['num_steps']:,} steps of "
        f"{config['batch_size']} × {config['num_positions']}",
        **({"continued from": _plain(config["start"])} if config["start"] else {}),
        "held-out text": _plain(card.held_out),
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
    table = "\n".join(f"| {name} | {_cell(str(value))} |" for name, value in rows.items())
    return f"""# A language model pre-trained with wikirl

GPT-2 architecture: {shape["num_layers"]} layers, {shape["num_heads"]} head(s), width {shape["hidden_size"]},
{shape["activation"]}, {shape["num_positions"]} positions, a vocabulary of {card.vocab_size:,},
{summary["num_parameters"]:,} parameters, stored in float16. Made as a starting point for `wikirl finetune --backbone`,
not as a source of facts or of good prose.

| | |
|---|---|
{table}

{card.attribution or UNKNOWN}
"""


def as_quoted(notice: str) -> str:
    """Text of others as Markdown that shows it letter by letter; empty if there is none."""
    if not notice:
        return ""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", notice)), default=0))
    return f"Source and licence of the training text, as they were found with it:\n\n{fence}text\n{notice}\n{fence}"


def _plain(text: str) -> str:
    """Text of others, such as a file's name, as Markdown that shows it letter by letter."""
    return re.sub(r"([\\`*_<>\[\]])", r"\\\1", text)


def _cell(text: str) -> str:
    """Markdown that stays within its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _optimizer(config: dict[str, Any]) -> str:
    if config["optimizer"] == "adamw":
        return f"AdamW, peak rate {config['learning_rate']:g}"
    rates = f"peak rate {config['learning_rate']:g}; AdamW for the rest, peak rate {config['table_learning_rate']:g}"
    return f"Muon for the blocks' matrices, {rates}"
