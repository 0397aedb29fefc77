"""Byte-level BPE: trained on a corpus, or read from GPT-2's files or a Hugging Face folder.

Any text can be encoded and comes back byte for byte; there is no unknown token. Every document ends with
`<|endoftext|>`.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from wikirl.errors import CorpusError

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocab_size` entries, `<|endoftext|>` first.

    Raises:
        CorpusError: `vocab_size` is below the 256 bytes and the end mark, or there is no text.
    """
    if vocab_size < 257:
        raise CorpusError(f"expected a vocabulary of at least 257 entries (256 bytes and {END_OF_TEXT}); found {vocab_size}")
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


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`, or GPT-2's pair of files (`vocab.json` or `encoder.json`, and `merges.txt` or `vocab.bpe`).

    Raises:
        CorpusError: no such files, or they do not fit together.
    """
    fast = folder / "tokenizer.json"
    vocabulary = next((folder / name for name in ("vocab.json", "encoder.json") if (folder / name).exists()), None)
    merges = next((folder / name for name in ("merges.txt", "vocab.bpe") if (folder / name).exists()), None)
    try:
        if fast.exists():
            tokenizer = Tokenizer.from_file(str(fast))
        elif vocabulary and merges:
            tokenizer = _byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
            tokenizer.add_special_tokens([END_OF_TEXT])
        else:
            raise CorpusError(f"expected tokenizer.json, or GPT-2's vocab.json and merges.txt, in {folder}; found neither")
    except CorpusError:
        raise
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises bare Exception for every bad file
        raise CorpusError(f"expected a tokenizer in {folder}; found files that cannot be read: {error}") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise CorpusError(f"expected the tokenizer in {folder} to know {END_OF_TEXT}; it does not")
    return tokenizer


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
