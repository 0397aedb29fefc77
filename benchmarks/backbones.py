"""Every shipped backbone as a language model: bits per byte and perplexity per token on texts, as a Markdown table.

    python benchmarks/backbones.py TEXT [TEXT …] [--backbones NAME …]

TEXT is any corpus, read whole: files, shuffled:FILE, synthetic:markov:sequences=16. Blocks of 1,024 tokens move on by
half, so that every token but the first has at least 512 before it; float32.
"""

import argparse

from wikirl.models.backbone import SHIPPED, backbone_folder, load_gpt
from wikirl.recipes.language_probe import mean_nats
from wikirl.recipes.language_session import LanguageModel, language_figures
from wikirl.text.corpora import open_corpus
from wikirl.text.packing import pack_corpus
from wikirl.text.tokenizers import tokenizer_of


def figures(backbone: str, spec: str) -> str:
    """Bits per byte where there are bytes, and perplexity."""
    model = LanguageModel(load_gpt(backbone), None).eval()
    text = pack_corpus(open_corpus(spec), "whole", tokenizer_of(str(backbone_folder(backbone))))
    nats = mean_nats(
        lambda ids, first: model(ids, 0, first), text, model.gpt.config.num_positions, 4, model.gpt.ln_f.weight.device
    )
    found = language_figures(nats, text)
    bits = f"{found['held_out_bits_per_byte']:.4f} / " if text.num_bytes else ""
    return f"{bits}{found['held_out_perplexity']:,.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Backbones as language models.")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    parser.add_argument("--backbones", nargs="+", default=SHIPPED, metavar="NAME")
    options = parser.parse_args()
    print(f"| | {' | '.join(options.texts)} |")
    print(f"|---|{'---|' * len(options.texts)}")
    for backbone in options.backbones:
        print(f"| {backbone} | {' | '.join(figures(backbone, text) for text in options.texts)} |", flush=True)


if __name__ == "__main__":
    main()
