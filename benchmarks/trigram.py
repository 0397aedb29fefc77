"""How many bits per byte an interpolated trigram model needs: the bar that a pre-trained backbone has to clear.

    python benchmarks/trigram.py --backbone FOLDER --corpus TEXT --held-out TEXT [--max-tokens N]

Counts token trigrams of the packed corpus, mixes p(w|uv), p(w|v), p(w) and the uniform distribution with weights chosen
by expectation-maximisation (Jelinek–Mercer), per bucket of how often the context was seen, on the last 2 % of the
corpus, which is left out of the counts, and scores the held-out text under the same tokens and bytes as
`wikirl pretrain`.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wikirl.text.corpora import open_corpus
from wikirl.text.packing import PackedText, pack_corpus
from wikirl.text.tokenizers import load_tokenizer

Ids = npt.NDArray[np.int64]
BUCKETS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024])


class Counts:
    """How often each n-gram occurs, looked up by binary search in its sorted codes."""

    def __init__(self, codes: Ids) -> None:
        self.codes, self.counts = np.unique(codes, return_counts=True)

    def __call__(self, codes: Ids) -> npt.NDArray[np.float64]:
        """Counts of n-grams given by code."""
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[places] == codes, self.counts[places], 0).astype(np.float64)


class Trigram:
    """Maximum-likelihood estimates of all orders, to be mixed."""

    def __init__(self, ids: Ids, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        pairs = ids[:-1] * vocab_size + ids[1:]
        self.three = Counts(pairs[:-1] * vocab_size + ids[2:])
        self.two, self.two_context = Counts(pairs), np.bincount(ids, minlength=vocab_size)
        self.one = np.bincount(ids, minlength=vocab_size) / len(ids)

    def estimates(self, ids: Ids) -> tuple[npt.NDArray[np.float64], Ids]:
        """Probabilities of ids[2:] under order 3, 2, 1, 0 as `[n, 4]`, and the bucket of each context."""
        pairs = ids[:-1] * self.vocab_size + ids[1:]
        context = self.two(pairs[:-1])
        three = np.divide(
            self.three(pairs[:-1] * self.vocab_size + ids[2:]),
            context,
            where=context > 0,
            out=np.zeros_like(context),
        )
        two = self.two(pairs[1:]) / np.maximum(self.two_context[ids[1:-1]], 1)
        columns = [three, two, self.one[ids[2:]], np.full(len(three), 1 / self.vocab_size)]
        return np.stack(columns, 1), np.searchsorted(BUCKETS, context, side="right") - 1


def mixture_weights(estimates: npt.NDArray[np.float64], buckets: Ids, rounds: int = 30) -> npt.NDArray[np.float64]:
    """Weights `[buckets, 4]` that maximise the likelihood of a tuning text."""
    weights = np.full((len(BUCKETS), 4), 0.25)
    for _ in range(rounds):
        shares = weights[buckets] * estimates
        shares /= shares.sum(1, keepdims=True)
        sums = np.stack([np.bincount(buckets, shares[:, k], len(BUCKETS)) for k in range(4)], 1)
        weights = (sums + 1e-3) / (sums + 1e-3).sum(1, keepdims=True)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--max-tokens", type=int)
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.backbone)

    def packed(path: str) -> PackedText:
        corpus = open_corpus(path)
        return pack_corpus(corpus, "whole", tokenizer)

    held_out = packed(options.held_out)
    ids = packed(options.corpus).ids[: options.max_tokens].astype(np.int64)
    tuning = len(ids) * 98 // 100
    model = Trigram(ids[:tuning], tokenizer.get_vocab_size())
    weights = mixture_weights(*model.estimates(ids[tuning:]))
    estimates, buckets = model.estimates(held_out.ids.astype(np.int64))
    nats = -np.log((weights[buckets] * estimates).sum(1)).mean()
    result = {
        "num_tokens_counted": tuning,
        "held_out_loss": nats,
        "held_out_perplexity": math.exp(nats),
        "held_out_bits_per_byte": nats * held_out.num_tokens / math.log(2) / held_out.num_bytes,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
