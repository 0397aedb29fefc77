"""Sequences without meaning: the controls that tell what of a language model matters for decisions.

    synthetic:iid        states drawn uniformly, each on its own
    synthetic:markov     each state drawn from a fixed random row that depends on the last ones
    synthetic:brackets   whole nested brackets: every closing state answers the last open one

Options follow a colon: `synthetic:markov:states=10,order=2,temperature=0.5`. This file makes numbers; it does not know
tokenizers or files.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

import numpy as np
from jaxtyping import Float, Int

from wikirl.errors import CorpusError
from wikirl.text.states import SEQUENCE_LENGTH, StateCorpus

Process = Literal["iid", "markov", "brackets"]
# Sequences made at a time; a chunk depends on the seed and its number alone.
CHUNK = 1000
# Rows of a transition table held at once.
MOST_CONTEXTS = 100_000
# A quarter of a million tokens, which is enough for three digits of a loss.
MOST_HELD_OUT = 256
# Below one half, so that brackets close soon: the depth is geometric, 2 on average.
OPEN_PROBABILITY = 0.4


@dataclass(frozen=True)
class SyntheticCorpus(StateCorpus):
    """Random sequences of 1,024 states.

    The defaults are the published ones: 100 states, rows softmax(u / T) with T = 1 and u uniform in [0, 1), 128,000
    sequences, seed 666. The last 256 are held out (a sixteenth of few), where the source holds out 8,000.

    Source: Wang et al. 2024 (Pre-training with Synthetic Data Helps Offline RL), `syn_pretraining/ngram_generator.py`
    and `generate_data.py`; nested brackets after Papadimitriou & Jurafsky 2020, probabilities our own.

    Attributes:
        process: What decides the next state.
        states: Number of different states.
        order: With `markov`, how many last states the next one depends on.
        temperature: With `markov`, T; large is near uniform, small is near deterministic.
        sequences: Sequences in all.
        seed: Seed of the rows and of the sequences.
    """

    process: Process
    states: int = 100
    order: int = 1
    temperature: float = 1.0
    sequences: int = 128_000
    seed: int = 666

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            CorpusError: names the option.
        """
        if self.states < 2 or self.order < 1 or not self.temperature > 0 or self.sequences < 16 or self.seed < 0:
            raise CorpusError(
                "expected at least 2 states, order 1, a temperature above 0, 16 sequences and a seed of at least 0; "
                f"found {self}"
            )
        if self.process == "brackets" and self.states % 2:
            raise CorpusError(f"expected an even number of states, half of them closing; found {self.states}")
        if self.process == "markov" and self.states**self.order > MOST_CONTEXTS:
            raise CorpusError(
                f"expected at most {MOST_CONTEXTS:,} contexts; {self.states} states of order {self.order} have "
                f"{self.states**self.order:,}; choose fewer states or a lower order"
            )

    @property
    def name(self) -> str:
        """The name that opens it again."""
        options = [
            f"{option.name}={getattr(self, option.name)}"
            for option in fields(self)
            if option.name != "process" and getattr(self, option.name) != option.default
        ]
        return ":".join(["synthetic", self.process, *([",".join(options)] if options else [])])

    @property
    def fingerprint(self) -> str:
        """Hash of all options."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    @property
    def num_held_out(self) -> int:
        """Sequences kept out of training, the last ones."""
        return min(self.sequences // 16, MOST_HELD_OUT)

    @property
    def held_out_name(self) -> str:
        """Which those are."""
        return "its last sequences"

    @property
    def attribution(self) -> str:
        """Random numbers have no author."""
        return f"{self.name}: random numbers made by wikirl; no licence applies."

    @property
    def num_sequences(self) -> int:
        """Sequences in all."""
        return self.sequences

    def chunks(self, *, held_out: bool, skip: int = 0) -> Iterator[Int[np.ndarray, "N T"]]:
        """The sequences of training, or those held out, as states from 0, some at a time, without the first `skip`."""
        border = self.sequences - self.num_held_out
        first, end = (border + skip, self.sequences) if held_out else (skip, border)
        if first >= end:
            return
        rows = self.transitions() if self.process == "markov" else None
        for number in range(first // CHUNK, -(-end // CHUNK)):
            made = self._make(np.random.default_rng([self.seed, number]), rows)
            start = number * CHUNK
            yield made[max(first - start, 0) : end - start]

    def transitions(self) -> Float[np.ndarray, "R S"]:
        """Probabilities of the next state after each context: the last states as digits, the newest the lowest."""
        draws = np.stack(
            [
                np.random.default_rng(self.seed + context + 1).random(self.states)
                for context in range(self.states**self.order)
            ]
        )
        return _softmax(draws / self.temperature)

    def initial(self) -> Float[np.ndarray, "S"]:
        """Probabilities of the first states of a sequence."""
        return _softmax(np.random.default_rng(self.seed).random(self.states) / self.temperature)

    def _make(self, random: np.random.Generator, rows: Float[np.ndarray, "R S"] | None) -> Int[np.ndarray, "N T"]:
        match self.process:
            case "iid":
                return random.integers(self.states, size=(CHUNK, SEQUENCE_LENGTH))
            case "brackets":
                return _brackets(random, self.states // 2)
            case "markov":
                assert rows is not None
                return self._chains(random, rows.cumsum(axis=1))

    def _chains(self, random: np.random.Generator, cumulative: Float[np.ndarray, "R S"]) -> Int[np.ndarray, "N T"]:
        """Sequences by inverse transform, all at once; the first `order` states are drawn from `initial`."""
        draws = random.random((SEQUENCE_LENGTH, CHUNK, 1))
        chains = np.empty((CHUNK, SEQUENCE_LENGTH), dtype=np.int64)
        context = np.zeros(CHUNK, dtype=np.int64)
        first = self.initial().cumsum()
        for time, draw in enumerate(draws):
            bounds = cumulative[context] if time >= self.order else first
            # The last bound may be 1 − 1e-16; whatever lies above it is the last state too.
            chains[:, time] = (draw > bounds[..., :-1]).sum(axis=1)
            context = (context * self.states + chains[:, time]) % len(cumulative)
        return chains


def _brackets(random: np.random.Generator, kinds: int) -> Int[np.ndarray, "N T"]:
    """Nested brackets of `kinds` kinds: opening k is state k, its closing is kinds + k; all closed at the end."""
    opens = random.random((SEQUENCE_LENGTH, CHUNK)) < OPEN_PROBABILITY
    chosen = random.integers(kinds, size=(SEQUENCE_LENGTH, CHUNK))
    made = np.empty((CHUNK, SEQUENCE_LENGTH), dtype=np.int64)
    stack = np.zeros((CHUNK, SEQUENCE_LENGTH // 2 + 1), dtype=np.int64)
    depth, every = np.zeros(CHUNK, dtype=np.int64), np.arange(CHUNK)
    for time in range(SEQUENCE_LENGTH):
        opening = (opens[time] | (depth == 0)) & (depth < SEQUENCE_LENGTH - time)
        stack[every[opening], depth[opening]] = chosen[time, opening]
        made[:, time] = np.where(opening, chosen[time], kinds + stack[every, depth - 1])
        depth += np.where(opening, 1, -1)
    return made


def _softmax(logits: Float[np.ndarray, "*R S"]) -> Float[np.ndarray, "*R S"]:
    exponentials: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalized: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return normalized


def open_synthetic(spec: str) -> SyntheticCorpus:
    """What follows `synthetic:`, as in `markov:states=10,order=2`.

    Raises:
        CorpusError: an unknown process or option, or a value that cannot be.
    """
    process, _, rest = spec.partition(":")
    if process not in get_args(Process):
        raise CorpusError(f"expected synthetic:{' or synthetic:'.join(get_args(Process))}; found 'synthetic:{spec}'")
    kinds = {option.name: cast(type, option.type) for option in fields(SyntheticCorpus) if option.name != "process"}
    options: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        try:
            options[name] = kinds[name](value)
        except (KeyError, ValueError) as error:
            raise CorpusError(
                f"expected options like states=100, of {', '.join(kinds)}; found {part!r} in 'synthetic:{spec}'"
            ) from error
    return SyntheticCorpus(cast(Process, process), **options)  # type: ignore[arg-type]  # each of its field's kind
