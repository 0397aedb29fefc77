"""`wikirl pretrain`: text → byte-level BPE → packed ids → GPT-2-architecture language model → Hugging Face folder.

The folder holds the model, its tokenizer and a model card; `pretraining/` inside it is the run folder.

The file is longer than others so that the road from text to model can be read in one go.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from wikirl.errors import ConfigError, RunError
from wikirl.kernels import draw_dropout_from, keep_freed_memory
from wikirl.models.backbone import CHIBIT, load_backbone, save_backbone, with_dropout
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.recipes.model_card import Card, model_card
from wikirl.recipes.settings import PretrainConfig, check_pretraining
from wikirl.reproducibility import (
    choose_device,
    choose_precision,
    precision_name,
    provenance,
    seed_everything,
)
from wikirl.runs import Run, interruptible, replacing_folder, write_json
from wikirl.text.corpora import HELD_OUT_EVERY, Corpus, open_corpus
from wikirl.text.packing import BlockSampler, PackedText, evaluation_blocks, pack_corpus
from wikirl.text.states import StateCorpus
from wikirl.text.tokenizers import (
    end_token,
    load_tokenizer,
    save_tokenizer,
    state_tokenizer,
    tokenizer_of,
    train_tokenizer,
)
from wikirl.training.loop import StepMetrics, Term, train
from wikirl.training.losses import next_token_loss
from wikirl.training.optimizer import (
    MuonAndAdamW,
    Optimizer,
    linear_decay_after_warmup,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    parameter_groups,
)


def pretrain(
    config: PretrainConfig, out: Path | str, *, device: str = "auto", precision: str = "auto"
) -> dict[str, Any]:
    """Train a language model and leave a Hugging Face folder at `out`; continues a run that was cut short.

    Returns:
        The held-out figures and what was spent.

    Raises:
        ConfigError: a setting that cannot work.
        CorpusError: text or tokenizer cannot be read.
        RunError: `out` holds something else.
    """
    keep_freed_memory()
    check_pretraining(config)
    out = Path(out)
    device = choose_device(device)
    autocast = choose_precision(precision, device)
    corpus = open_corpus(config.corpus)
    resolved = {
        **asdict(config),
        "kind": "pretrain",
        "corpus_fingerprint": corpus.fingerprint,
        "precision": precision_name(autocast),
    }
    if (out / "config.json").exists() and not (out / "pretraining" / "config.json").exists():
        raise RunError(
            f"expected a new folder, or one that pretrain made; {out} holds another model; choose another --out"
        )
    with Run(out / "pretraining", resolved, provenance(config.seed)) as run:
        tokenizer = _tokenizer(config, corpus, run)
        text, held_out = _packed(config, corpus, tokenizer)
        seed_everything(config.seed)
        session = _Session(config, run, tokenizer, text, held_out, device, autocast)
        with interruptible() as stopped:
            for metrics in session.steps():
                session.record(metrics)
                if stopped():
                    session.checkpoint(metrics.step)
                    raise KeyboardInterrupt
        return _finish(session, corpus, out)


def _tokenizer(config: PretrainConfig, corpus: Corpus, run: Run) -> Tokenizer:
    """The tokenizer asked for, kept in the run so that a resumed one has the same."""
    folder = run.folder / "tokenizer"
    if folder.is_dir():
        return load_tokenizer(folder)
    if config.start:
        tokenizer = tokenizer_of(str(CHIBIT) if config.start == "chibit" else config.start)
    elif config.tokenizer:
        tokenizer = load_tokenizer(CHIBIT if config.tokenizer == "chibit" else Path(config.tokenizer))
    elif isinstance(corpus, StateCorpus):
        tokenizer = state_tokenizer(corpus.states)
    else:
        documents = iter(tqdm(corpus.documents(), desc="learning the tokenizer", unit=" documents", leave=False))
        tokenizer = train_tokenizer(documents, config.vocab_size)
    with replacing_folder(folder) as temporary:
        save_tokenizer(tokenizer, temporary, config.num_positions)
    return tokenizer


def _packed(config: PretrainConfig, corpus: Corpus, tokenizer: Tokenizer) -> tuple[PackedText, PackedText]:
    """Training and held-out ids, from the cache if they were made before."""
    if config.held_out:
        return pack_corpus(corpus, "whole", tokenizer), pack_corpus(open_corpus(config.held_out), "whole", tokenizer)
    return pack_corpus(corpus, "training", tokenizer), pack_corpus(corpus, "held-out", tokenizer)


class _Session:
    """One process's share of a pre-training run: the objects that live as long as it does."""

    def __init__(
        self,
        config: PretrainConfig,
        run: Run,
        tokenizer: Tokenizer,
        text: PackedText,
        held_out: PackedText,
        device: str,
        autocast: torch.dtype | None,
    ) -> None:
        self.config, self.run, self.tokenizer, self.text, self.held_out = (
            config,
            run,
            tokenizer,
            text,
            held_out,
        )
        self.device, self.autocast = device, autocast
        self.model = _model(config, tokenizer.get_vocab_size()).to(device)
        self.blocks = BlockSampler(text, config.num_positions, config.batch_size, config.seed)
        self.optimizer = _optimizer(config, self.model)
        self.dropout = torch.Generator(device).manual_seed(config.seed)
        draw_dropout_from(self.model, [self.dropout])
        self.done, self.seconds_before = 0, 0.0
        self.figures: dict[str, float] = {}
        if saved := run.resume():
            self.model.load_state_dict(saved.tensors("model"))
            load_optimizer_tensors(self.optimizer, saved.tensors("optimizer"))
            self.dropout.set_state(saved.tensors("random")["dropout"])
            self.done, self.seconds_before = saved.step, saved.state["seconds"]
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this run, over all its processes."""
        return self.seconds_before + time.monotonic() - self.started

    def loss(self, ids: Int[Tensor, "B L"], first_position: int = 0, first_scored: int = 0) -> Tensor:
        """Mean nats per token of a batch of blocks, over the targets from `first_scored` on."""
        ids = ids.to(self.device)
        with torch.autocast(torch.device(self.device).type, self.autocast, enabled=self.autocast is not None):
            hidden = self.model(self.model.embed_tokens(ids[:, :-1], first_position))
            assert self.model.wte is not None
            scored = hidden[:, first_scored:].to(self.autocast or hidden.dtype)
            return next_token_loss(scored, self.model.wte.weight, ids[:, 1 + first_scored :])

    def objective(self, step: int) -> dict[str, Term]:
        """Next-token loss of a step's blocks; short ones take the parts of the position table in turn.

        Source: Press et al. 2021 (Shortformer), section 3: short inputs first, full length at the end.
        """
        config = self.config
        ids = self.blocks.batch(step - 1)
        if config.short_blocks == 1 or step > config.short_share * config.num_steps:
            return {"language_loss": Term(self.loss(ids))}
        length = config.num_positions // config.short_blocks
        short = ids.unfold(1, length + 1, length).flatten(0, 1)
        return {"language_loss": Term(self.loss(short, step % config.short_blocks * length))}

    def steps(self) -> Iterator[StepMetrics]:
        """Train from where the run stands to its end, under a progress bar."""
        config = self.config
        self.model.train()
        schedule = linear_decay_after_warmup(math.ceil(0.05 * config.num_steps), config.num_steps)
        steps = train(
            self.objective, self.optimizer, schedule,
            num_steps=config.num_steps, first_step=self.done + 1, clip_norm=config.clip_norm,
        )  # fmt: skip
        with tqdm(
            steps, total=config.num_steps, initial=self.done, desc="pretrain", unit="step", dynamic_ncols=True
        ) as bar:
            for metrics in bar:
                bar.set_postfix(loss=f"{metrics.loss:.3f}", refresh=False)
                yield metrics

    def record(self, metrics: StepMetrics) -> None:
        """Log the step; evaluate and save when it is time."""
        config = self.config
        line: dict[str, Any] = {
            "step": metrics.step,
            "language_loss": metrics.loss,
            "gradient_norm": metrics.gradient_norm,
            "learning_rate": metrics.learning_rate,
            "num_tokens": metrics.step * config.batch_size * config.num_positions,
            "seconds": round(self.seconds, 3),
        }
        if metrics.step % config.eval_every == 0 or metrics.step == config.num_steps:
            self.figures = self.evaluate()
            line |= self.figures
        self.run.log(line)
        if metrics.step % config.checkpoint_every == 0 or metrics.step == config.num_steps:
            self.checkpoint(metrics.step)

    def checkpoint(self, step: int) -> None:
        """Save everything a later process needs to continue."""
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "random": {"dropout": self.dropout.get_state()},
        }
        self.run.save_checkpoint(step, tensors, {"seconds": self.seconds})

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out figures: nats and perplexity per token, bits per byte of UTF-8 text."""
        self.model.eval()
        nats, tokens = 0.0, 0
        for ids, first in evaluation_blocks(self.held_out, self.config.num_positions, self.config.batch_size):
            count = ids[:, 1 + first :].numel()
            nats += self.loss(ids, first_scored=first).item() * count
            tokens += count
        self.model.train()
        per_token = nats / tokens
        figures = {"held_out_loss": per_token, "held_out_perplexity": math.exp(per_token)}
        if self.held_out.num_bytes:
            bits = per_token * self.held_out.num_tokens / math.log(2)
            figures["held_out_bits_per_byte"] = bits / self.held_out.num_bytes
        return figures


def _optimizer(config: PretrainConfig, model: GPT) -> Optimizer:
    if config.optimizer == "adamw":
        groups = parameter_groups(
            "uniform", list(model.parameters()), [], None,
            learning_rate=config.learning_rate, backbone_learning_rate=None, weight_decay=config.weight_decay,
        )  # fmt: skip
        return make_optimizer(groups, betas=(0.9, 0.95))
    matrices = [parameter for parameter in model.h.parameters() if parameter.ndim == 2]
    chosen = {id(parameter) for parameter in matrices}
    return MuonAndAdamW(
        matrices, [parameter for parameter in model.parameters() if id(parameter) not in chosen],
        learning_rate=config.learning_rate, others_learning_rate=config.table_learning_rate,
        weight_decay=config.weight_decay,
    )  # fmt: skip


def _model(config: PretrainConfig, vocab_size: int) -> GPT:
    """A model of the sizes asked for, or the one to go on from."""
    if config.start is None:
        return GPT(
            GPTConfig(
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                hidden_size=config.hidden_size,
                inner_size=4 * config.hidden_size,
                num_positions=config.num_positions,
                vocab_size=vocab_size,
                activation=config.activation,
                embedding_dropout=config.dropout,
                attention_dropout=config.dropout,
                residual_dropout=config.dropout,
            )
        )
    model = with_dropout(
        load_backbone(config.start), embedding=config.dropout, attention=config.dropout, residual=config.dropout
    )
    if model.config.num_positions < config.num_positions or model.config.vocab_size < vocab_size:
        raise ConfigError(
            f"expected {config.start} to have at least {config.num_positions} positions and {vocab_size} words; "
            f"found {model.config.num_positions} and {model.config.vocab_size}; give a smaller --num-positions"
        )
    return model


def _finish(session: _Session, corpus: Corpus, out: Path) -> dict[str, Any]:
    """Write the Hugging Face folder, its card and the figures."""
    config, run_folder = session.config, session.run.folder
    summary = {
        **(session.figures or session.evaluate()),
        "num_parameters": sum(parameter.numel() for parameter in session.model.parameters()),
        "num_tokens_seen": config.num_steps * config.batch_size * config.num_positions,
        "num_tokens_corpus": session.text.num_tokens,
        "num_bytes_held_out": session.held_out.num_bytes,
        "minutes": round(session.seconds / 60, 1),
    }
    card = Card(
        config=asdict(config),
        architecture=asdict(session.model.config),
        corpus=f"{corpus.name} (fingerprint {corpus.fingerprint}): {_size(session.text)}",
        held_out=f"{_held_out_name(config, corpus)}: {_size(session.held_out)}",
        vocab_size=session.tokenizer.get_vocab_size(),
        precision=precision_name(session.autocast),
        summary=summary,
        provenance=provenance(config.seed),
    )
    # Made whole beside its place, then moved, config.json last: without it nothing takes the folder for a model.
    with TemporaryDirectory(dir=run_folder) as temporary:
        made = Path(temporary)
        save_backbone(session.model.cpu(), made, end_token(session.tokenizer), torch.float16)
        save_tokenizer(session.tokenizer, made, config.num_positions)
        (made / "README.md").write_text(model_card(card))
        for file in sorted(made.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(out / file.name)
    write_json(run_folder / "summary.json", summary)
    return summary


def _held_out_name(config: PretrainConfig, corpus: Corpus) -> str:
    if config.held_out:
        return open_corpus(config.held_out).name
    return corpus.held_out_name if isinstance(corpus, StateCorpus) else f"every {HELD_OUT_EVERY}th document"


def _size(text: PackedText) -> str:
    size = f", {text.num_bytes / 1e6:,.2f} MB" if text.num_bytes else ""
    return f"{text.num_documents:,} documents{size}, {text.num_tokens:,} tokens"
