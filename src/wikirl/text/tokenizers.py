"""Byte-level BPE: trained on a corpus, read from GPT-2's files or a Hugging Face folder, or bytes without any merges.

Any text can be encoded and comes back byte for byte; there is no unknown token. Every document ends with
`<|endoftext|>`.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from wikirl.errors import CorpusError

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocab_size` entries, `<|endoftext|>` first.

    Raises:
        CorpusError: `vocab_size` is below the 256 bytes and the end mark, or there is no text.
    """
    if vocab_size < 257:
        raise CorpusError(
            f"expected a vocabulary of at least 257 entries (256 bytes and {END_OF_TEXT}); found {vocab_size}"
        )
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    seen = 0

    def counted() -> Iterable[str]:
        nonlocal seen
        for document in documents:
            seen += 1
            yield document

    tokenizer.train_from_iterator(counted(), trainer)
    if not seen:
        raise CorpusError("expected text to learn a tokenizer from; found none")
    return tokenizer


def byte_tokenizer() -> Tokenizer:
    """A byte is a token, its value the id; `<|endoftext|>` is 256."""
    tokenizer = _byte_level(models.BPE({sign: byte for byte, sign in enumerate(_signs_of_bytes())}, []))
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def _signs_of_bytes() -> list[str]:
    """The visible character that stands for each byte in byte-level vocabularies.

    Source: openai/gpt-2 `src/encoder.py`, `bytes_to_unicode`.
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = itertools.count(256)
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


def state_tokenizer(num_states: int) -> Tokenizer:
    """Words s0, s1, … for the states of a synthetic corpus, ids from 1 on; `<|endoftext|>` is 0."""
    words = {END_OF_TEXT: 0} | {f"s{state}": state + 1 for state in range(num_states)}
    tokenizer = Tokenizer(models.WordLevel(words, END_OF_TEXT))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`, or GPT-2's files (`vocab.json` or `encoder.json`, and `merges.txt` or `vocab.bpe`).

    Raises:
        CorpusError: no such files, or they do not fit together.
    """
    fast = folder / "tokenizer.json"
    vocabulary = next((folder / name for name in ("vocab.json", "encoder.json") if (folder / name).exists()), None)
    merges = next((folder / name for name in ("merges.txt", "vocab.bpe") if (folder / name).exists()), None)
    if fast.exists():
        tokenizer = _from_tokenizer_json(fast)
    elif vocabulary and merges:
        tokenizer = _from_pair(vocabulary, merges)
    else:
        raise CorpusError(f"expected tokenizer.json, or GPT-2's vocab.json and merges.txt, in {folder}; found neither")
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise CorpusError(f"expected the tokenizer in {folder} to know {END_OF_TEXT}; it does not")
    return tokenizer


def tokenizer_of(backbone: str) -> Tokenizer:
    """The tokenizer that belongs to a backbone, given as a folder or a Hugging Face id.

    Raises:
        CorpusError: it has none that can be read.
    """
    if Path(backbone).is_dir():
        return load_tokenizer(Path(backbone))
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone).backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CorpusError(f"expected a tokenizer beside the backbone {backbone!r}; found: {reason}") from error
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


def _from_tokenizer_json(path: Path) -> Tokenizer:
    text = _read(path)
    model = content.get("model") if isinstance(content := _parse(path, text), dict) else None
    if not isinstance(model, dict):
        raise CorpusError(f"expected a tokenizer with a model in {path}; found JSON of another kind")
    if model.get("type") == "BPE" and not model.get("continuing_subword_prefix"):
        merges = model.get("merges")  # "a b" or ["a", "b"] each
        pairs = (
            [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
            if isinstance(merges, list)
            else []
        )
        _check_bpe(model.get("vocab"), pairs, path)
    try:
        return Tokenizer.from_str(text)
    except Exception as error:
        if type(error) is not Exception:  # the library raises the bare class for every field it does not know
            raise
        raise CorpusError(f"expected a tokenizer in {path}; found: {error}") from error


def _from_pair(vocabulary: Path, merges: Path) -> Tokenizer:
    vocab = _parse(vocabulary, _read(vocabulary))
    lines = [line for line in _read(merges).split("\n") if line and not line.startswith("#version")]
    pairs = [line.split(" ") for line in lines]
    _check_bpe(vocab, pairs, merges)
    tokenizer = _byte_level(models.BPE(vocab, [(first, second) for first, second in pairs]))
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"expected UTF-8 text in {path}; found: {error}") from error


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CorpusError(f"expected JSON in {path}; found: {error}; copy it again") from error


def _check_bpe(vocab: Any, pairs: Sequence[Any], path: Path) -> None:
    """See to it that every merge has two parts and, like its parts, an id; the library panics on some that have not.

    Raises:
        CorpusError: vocabulary or merges are something else.
    """
    if not isinstance(vocab, dict) or not all(type(number) is int and number >= 0 for number in vocab.values()):
        raise CorpusError(f"expected a vocabulary of words and ids beside the merges of {path}; found something else")
    for pair in pairs:
        whole = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not whole or not {*pair, "".join(pair)} <= vocab.keys():
            raise CorpusError(
                f"expected merges of two known words into a third in {path}; found {pair!r}; copy the files again"
            )


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write `tokenizer.json` and its configuration, so that `AutoTokenizer` finds them beside the model."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def num_ids(tokenizer: Tokenizer) -> int:
    """One more than the largest id: the rows that a table of words needs, also where ids were left out."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Sixteen hexadecimal digits that change whenever the ids of some text could."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16]


def end_token(tokenizer: Tokenizer) -> int:
    """Id of `<|endoftext|>`; every tokenizer of this module has it."""
    number = tokenizer.token_to_id(END_OF_TEXT)
    if number is None:
        raise CorpusError(f"expected a tokenizer that knows {END_OF_TEXT}; this one does not")
    return int(number)
