"""What stands in for text: sequences of states, such as random draws (synthetic.py) or pixels (images.py).

State i is token id i + 1 in any vocabulary, whose id 0 is left to the end mark.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

SEQUENCE_LENGTH = 1024


class StateCorpus(ABC):
    """Sequences of 1,024 states under a name.

    A class to inherit from and no protocol: to ask whether something fits a protocol, Python would read all its
    properties, and a fingerprint takes reading every file.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in cards and messages."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that decides its sequences."""

    @property
    @abstractmethod
    def states(self) -> int:
        """Number of different states."""

    @property
    @abstractmethod
    def num_held_out(self) -> int:
        """Sequences kept out of training."""

    @property
    @abstractmethod
    def held_out_name(self) -> str:
        """Which those are, in words."""

    @property
    @abstractmethod
    def attribution(self) -> str:
        """Source and licence as far as they are known; else empty."""

    @property
    @abstractmethod
    def num_sequences(self) -> int:
        """Sequences in all."""

    @abstractmethod
    def chunks(self, *, held_out: bool, skip: int = 0) -> Iterator[Int[np.ndarray, "N T"]]:
        """The sequences of training, or those held out, as states from 0, some at a time, in a fixed order.

        Args:
            held_out: Which of the two.
            skip: Number of sequences to leave out at the beginning.

        Raises:
            CorpusError: they cannot be made.
        """
