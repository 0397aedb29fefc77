"""Which documents are trained on and which are held out, where a corpus does not say so itself."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Literal

from wikirl.errors import CorpusError

Part = Literal["whole", "training", "held-out"]
HELD_OUT_EVERY = 100
BY_NUMBER = f"every {HELD_OUT_EVERY}th document"


def part_of(documents: Iterable[str], part: Part, name: str) -> Iterator[str]:
    """The documents of a part, every 100th being held out.

    Raises:
        CorpusError: there are fewer than 100.
    """
    every = iter(documents)
    if part == "whole":
        yield from every
        return
    beginning = list(islice(every, HELD_OUT_EVERY))
    if len(beginning) < HELD_OUT_EVERY:
        raise CorpusError(
            f"expected at least {HELD_OUT_EVERY} documents in {name} (blank lines separate those of a text file), so "
            f"that every {HELD_OUT_EVERY}th can be held out; found {len(beginning)}; give other text with --held-out"
        )
    held_out = part == "held-out"
    for number, document in enumerate(chain(beginning, every), start=1):
        if (number % HELD_OUT_EVERY == 0) == held_out:
            yield document
