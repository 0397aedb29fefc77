"""Does the policy forget language? Perplexity of its backbone on text, before and after fine-tuning.

A policy without co-training has left its word and position tables behind; the probe keeps copies of them, which are
never trained, and reads with whatever of the two the backbone still has itself.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from wikirl.models.gpt import GPT
from wikirl.text.corpora import open_corpus
from wikirl.text.packing import PackedText, evaluation_blocks, pack_corpus
from wikirl.training.losses import next_token_loss

# Enough for three digits, and a quarter of a minute of ChibiT on a CPU core.
MOST_TOKENS, BLOCK, BATCH_SIZE = 2**17, 1024, 4


@torch.no_grad()
def mean_nats(
    loss: Callable[[Tensor, int], Tensor], text: PackedText, block_length: int, batch_size: int, device: torch.device
) -> float:
    """Mean nats per token over a whole text.

    Args:
        loss: Mean nats of a batch of blocks `[B,L]` over the targets from a number on.
        text: What is read, each token once.
        block_length: Tokens a block.
        batch_size: Blocks at a time.
        device: Where the blocks go.
    """
    nats, count = 0.0, 0
    for ids, first in evaluation_blocks(text, block_length, batch_size):
        targets = ids[:, 1 + first :].numel()
        nats += loss(ids.to(device), first).item() * targets
        count += targets
    return nats / count


class LanguageProbe:
    """Text, and the tables to read it with."""

    def __init__(self, spec: str, tokenizer: Tokenizer, gpt: GPT) -> None:
        """Pack the text, copy the tables of a model that has both, and measure it as it is.

        Raises:
            CorpusError: the text cannot be read.
        """
        assert gpt.wte is not None
        assert gpt.wpe is not None
        whole = pack_corpus(open_corpus(spec), "whole", tokenizer)
        self.spec, self.text = spec, replace(whole, ids=whole.ids[:MOST_TOKENS])
        self.words, self.positions = gpt.wte.weight.detach().clone(), gpt.wpe.weight.detach().clone()
        self.before = self.perplexity(gpt)

    @torch.no_grad()
    def perplexity(self, gpt: GPT) -> float:
        """Exp of the mean nats per token, in float32 and without dropout."""
        device = gpt.ln_f.weight.device
        words = (self.words if gpt.wte is None else gpt.wte.weight).to(device)
        positions = (self.positions if gpt.wpe is None else gpt.wpe.weight).to(device)
        training = gpt.training
        gpt.eval()

        def loss(ids: Int[Tensor, "B L"], first: int) -> Tensor:
            hidden = gpt(words[ids[:, :-1]] + positions[: ids.shape[1] - 1])
            return next_token_loss(hidden[:, first:], words, ids[:, 1 + first :])

        nats = mean_nats(loss, self.text, min(BLOCK, len(self.positions)), BATCH_SIZE, device)
        gpt.train(training)
        return math.exp(nats)

    def result(self, gpt: GPT) -> dict[str, Any]:
        """What scores.json keeps."""
        return {"text": self.spec, "perplexity_before": self.before, "perplexity_after": self.perplexity(gpt)}
