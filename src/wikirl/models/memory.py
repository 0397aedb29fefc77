"""Keys and values of past tokens, kept so that a step costs three tokens instead of a whole window.

Exact only while nothing has left the window: a key computed at step t − 1 has seen tokens that a window ending at t no
longer holds, so from t ≥ K on this is another policy (docs/differences.md). This file knows tokens and a `GPT`; it does
not know steps, returns or actions.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wikirl.kernels import layer_norm
from wikirl.models.gpt import GPT
from wikirl.models.sequence_model import EVERYTHING, LAST


class KeyValueMemory:
    """The last `capacity` tokens of E sequences as each block's keys and values.

    Token n lies in slot n mod capacity. Attention does not care about the order of slots, because whatever a token
    knows of its place is in its embedding.
    """

    def __init__(self, backbone: GPT, num_rows: int, capacity: int, device: str) -> None:
        """Begin `num_rows` empty sequences."""
        self._backbone = backbone
        self._rows = torch.arange(num_rows, device=device)
        self._pairs = [
            torch.zeros(num_rows, capacity, 2 * backbone.config.hidden_size, device=device) for _ in backbone.h
        ]
        self._capacity, self._num_tokens = capacity, 0

    def retain(self, rows: Int[Tensor, "E"]) -> None:
        """Forget all sequences but these, given by their first numbers in ascending order."""
        if len(rows) < len(self._rows):
            places = torch.searchsorted(self._rows, rows)
            self._rows, self._pairs = rows, [pairs[places] for pairs in self._pairs]

    def extend(self, tokens: Float[Tensor, "E L D"]) -> Float[Tensor, "E D"]:
        """Append L ≤ capacity tokens to every sequence; the hidden state at the last of them."""
        new = self._num_tokens + torch.arange(tokens.shape[1], device=tokens.device)
        self._num_tokens += tokens.shape[1]
        bias = self._bias(new, tokens)
        hidden = tokens
        for number, (block, pairs) in enumerate(zip(self._backbone.h, self._pairs, strict=True), start=1):

            def remember(key_value: Tensor, pairs: Tensor = pairs) -> Tensor:
                pairs[:, new % self._capacity] = key_value.to(pairs.dtype)
                return pairs.to(key_value.dtype)

            read = LAST if number == len(self._pairs) else EVERYTHING
            hidden = block(hidden, bias[:, :, read], read, remember)
        return layer_norm(hidden, self._backbone.ln_f)[:, -1]

    def _bias(self, new: Int[Tensor, "L"], tokens: Float[Tensor, "E L D"]) -> Float[Tensor, "1 1 L S"]:
        """0 for the slots each new token may look at, those filled up to its own; −inf for the others."""
        slots = torch.arange(self._capacity, device=new.device)
        newest = self._num_tokens - 1
        held = newest - (newest - slots) % self._capacity  # number of the token in each slot; negative: still empty
        allowed = (held >= 0) & (held <= new[:, None])
        return tokens.new_zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))[None, None]
