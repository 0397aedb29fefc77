"""Language-model pre-training of a 3 × 128 model with 50,257 words: ours against the Hugging Face Trainer.

    .venv-extras/bin/python benchmarks/pretraining.py [--rounds 3] [--num-threads 1] [--smoke]

Two blocks of 512 tokens a step, dropout 0.1, AdamW, clipping at 1. Ours is the recipe's own session; the line with Muon
is its default optimizer. The Trainer's rounds contain its start, a few hundredths of them at most, because it cannot be
asked for single steps.
"""

from typing import Any, Literal

import numpy as np
import torch
import transformers
from shapes import DECISION_TRANSFORMER
from steps import Precision, Step, temporary_folder
from timing import (
    Contender,
    Options,
    Timing,
    matrix_products,
    measure_with_floors,
    parse_options,
    per_second,
    repeated,
    table,
)

from wikirl.recipes.language_session import LanguageSession, Texts
from wikirl.recipes.pretrain import make_gpt
from wikirl.recipes.pretrain_settings import PretrainConfig
from wikirl.reproducibility import choose_precision
from wikirl.text.packing import PackedText
from wikirl.training.processes import Processes

VOCAB_SIZE, BATCH_SIZE, LENGTH = 50_257, 2, 512
NUM_BLOCKS = 200


def random_text(vocab_size: int) -> PackedText:
    """Token ids; their order does not matter to speed."""
    ids = np.random.default_rng(0).integers(vocab_size, size=NUM_BLOCKS * LENGTH + 1, dtype=np.uint16)
    return PackedText(ids, np.array([0, len(ids)]), len(ids))


def our_step(precision: Precision, vocab_size: int, optimizer: Literal["adamw", "muon"] = "adamw") -> Step:
    """A step of `wikirl pretrain`, on whole blocks from the start."""
    config = PretrainConfig(
        corpus="", dropout=0.1, batch_size=BATCH_SIZE, num_positions=LENGTH, short_blocks=1, optimizer=optimizer
    )
    texts = Texts(random_text(vocab_size), random_text(vocab_size), None)
    session = LanguageSession(
        config, make_gpt(config, vocab_size), texts, Processes(), "cpu", choose_precision(precision, "cpu")
    )
    steps = session.steps()
    return lambda: next(steps)


def trainer_rounds(num_steps: int, vocab_size: int) -> Contender:
    """Hugging Face's GPT2LMHeadModel under its Trainer, for `num_steps` a round."""
    shape = DECISION_TRANSFORMER
    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_positions=LENGTH, n_embd=shape.hidden_size, n_layer=shape.num_layers,
        n_head=shape.num_heads, activation_function=shape.activation, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    arguments = transformers.TrainingArguments(
        output_dir=str(temporary_folder()), max_steps=num_steps, per_device_train_batch_size=BATCH_SIZE, use_cpu=True,
        max_grad_norm=1.0, weight_decay=0.01, learning_rate=4e-3, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    blocks = torch.from_numpy(random_text(vocab_size).ids[:-1].astype(np.int64)).view(NUM_BLOCKS, LENGTH)
    dataset: Any = [{"input_ids": block, "labels": block} for block in blocks]
    trainer = transformers.Trainer(transformers.GPT2LMHeadModel(config), arguments, train_dataset=dataset)
    trainer.remove_callback(transformers.PrinterCallback)

    def run() -> float:
        trainer.train()
        return num_steps * BATCH_SIZE * LENGTH

    return run


def training(options: Options) -> dict[str, Timing]:
    """Seconds a token."""
    num_steps, vocab_size = (1, 1000) if options.smoke else (6, VOCAB_SIZE)

    def tokens(step: Step) -> Contender:
        run = repeated(step, num_steps)
        return lambda: run() * BATCH_SIZE * LENGTH

    contenders = {
        "ours float32": tokens(our_step("float32", vocab_size)),
        "ours bfloat16": tokens(our_step("bfloat16", vocab_size)),
        "Hugging Face Trainer": trainer_rounds(num_steps, vocab_size),
        "ours bfloat16, Muon": tokens(our_step("bfloat16", vocab_size, "muon")),
    }
    width = DECISION_TRANSFORMER.hidden_size
    gflop = DECISION_TRANSFORMER.language_gflop(LENGTH, vocab_size)
    # 128 rows: results over 32 MB get fresh pages from the system each time, a quarter to a half of the float32 time.
    products = matrix_products(128, width, vocab_size, smoke=options.smoke)
    return measure_with_floors(contenders, products, gflop, options)


def main() -> None:
    options = parse_options("Language-model pre-training.")
    print(f"## Language-model pre-training\n\n3 × 128, {VOCAB_SIZE:,} words, {BATCH_SIZE} × {LENGTH} tokens a step.\n")
    ours = "ours float32", "ours bfloat16"
    print(table(training(options), options, unit="tokens/s", show=per_second, ours=ours))


if __name__ == "__main__":
    main()
