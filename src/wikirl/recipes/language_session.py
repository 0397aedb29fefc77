"""One process's share of a pre-training run: the objects that live as long as it does."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from wikirl.kernels import draw_dropout_from
from wikirl.models.gpt import GPT
from wikirl.models.sequence_model import LAST
from wikirl.recipes.language_probe import mean_nats
from wikirl.recipes.pretrain_settings import PretrainConfig, warmup_steps
from wikirl.runs import Checkpoint, Run
from wikirl.text.packing import BlockSampler, PackedText
from wikirl.text.tokenizers import end_token
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
from wikirl.training.processes import Processes, without_averaging
from wikirl.training.throughput import language_model_gflop, matrix_gflops

NUM_SAMPLES, SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 3, 40, 0.8


@dataclass(frozen=True)
class Texts:
    """Ids to train on and to score on, and the tokenizer they come from; None if they never were text."""

    training: PackedText
    held_out: PackedText
    tokenizer: Tokenizer | None


class LanguageModel(nn.Module):
    """A GPT with its loss, in one forward, as averaging over processes needs it."""

    def __init__(self, gpt: GPT, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.gpt, self.autocast = gpt, autocast

    def forward(self, ids: Int[Tensor, "B L"], first_position: int = 0, first_scored: int = 0) -> Tensor:
        """Mean nats per token of a batch of blocks, over the targets from `first_scored` on."""
        with torch.autocast(ids.device.type, self.autocast, enabled=self.autocast is not None):
            hidden = self.gpt(self.gpt.embed_tokens(ids[:, :-1], first_position))
            assert self.gpt.wte is not None
            scored = hidden[:, first_scored:].to(self.autocast or hidden.dtype)
            return next_token_loss(scored, self.gpt.wte.weight, ids[:, 1 + first_scored :])


class LanguageSession:
    """Trains, scores, samples and saves."""

    def __init__(
        self,
        config: PretrainConfig,
        gpt: GPT,
        texts: Texts,
        processes: Processes,
        device: str,
        autocast: torch.dtype | None,
    ) -> None:
        """Build everything, as new."""
        self.config, self.texts, self.processes, self.device = config, texts, processes, device
        self.gpt = gpt.to(device)
        self.model = LanguageModel(gpt, autocast)
        self.blocks = BlockSampler(texts.training, config.num_positions, config.batch_size, config.seed)
        self.optimizer = _optimizer(config, gpt)
        self.dropout = torch.Generator(device)
        draw_dropout_from(gpt, [self.dropout])
        self.done, self.seconds_before, self.started = 0, 0.0, time.monotonic()
        self.figures: dict[str, float] = {}
        shape = gpt.config
        self.gflop_per_token = language_model_gflop(
            shape.num_layers, shape.hidden_size, shape.inner_size, shape.vocab_size, config.num_positions
        )
        self.peak_gflops = processes.size * matrix_gflops(device, autocast or torch.float32)
        self._training_seconds, self._training_tokens = 0.0, 0

    def resume(self, saved: Checkpoint | None) -> None:
        """Continue from a checkpoint, the same in every process."""
        if saved:
            self.gpt.load_state_dict(saved.tensors("model"))
            load_optimizer_tensors(self.optimizer, saved.tensors("optimizer"))
            self.done, self.seconds_before = saved.step, saved.state["seconds"]

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this run, over all its starts."""
        return self.seconds_before + time.monotonic() - self.started

    def objective(self, step: int) -> Mapping[str, Term]:
        """Next-token loss of a step's blocks; short ones take the parts of the position table in turn.

        Source: Press et al. 2021 (Shortformer), section 3: short inputs first, full length at the end.
        """
        config, mine = self.config, self.processes
        # A function of the step, so that there is no state to save.
        self.dropout.manual_seed(int(np.random.SeedSequence([config.seed, mine.rank, step]).generate_state(1)[0]))
        ids, position = self.blocks.batch(step - 1).chunk(mine.size)[mine.rank], 0
        if config.short_blocks > 1 and step <= config.short_share * config.num_steps:
            length = config.num_positions // config.short_blocks
            ids, position = ids.unfold(1, length + 1, length).flatten(0, 1), step % config.short_blocks * length
        ids = ids.to(self.device)
        if mine.size == config.num_microbatches == 1:
            return {"language_loss": Term(self.model(ids, position))}
        return {"language_loss": Term(self._in_parts(ids, position))}

    def _in_parts(self, ids: Int[Tensor, "B L"], position: int) -> Float[Tensor, ""]:
        """The loss of all processes' batches, its gradient added up part by part and already in place."""
        for parameter in self.gpt.parameters():
            parameter.grad = None
        parts = ids.chunk(self.config.num_microbatches)
        losses = []
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else without_averaging(self.shared):
                loss = self.shared(part, position) / len(parts)
                loss.backward()
            losses.append(loss.detach())
        return self.processes.mean(torch.stack(losses).sum())

    def steps(self) -> Iterator[StepMetrics]:
        """Train from where the run stands to its end, under a progress bar."""
        config = self.config
        self.shared = self.processes.share(self.model)
        self.model.train()
        schedule = linear_decay_after_warmup(warmup_steps(config.num_steps), config.num_steps)
        steps = train(
            self.objective, self.optimizer, schedule,
            num_steps=config.num_steps, first_step=self.done + 1, clip_norm=config.clip_norm,
        )  # fmt: skip
        with tqdm(
            total=config.num_steps, initial=self.done, desc="pretrain", unit="step", dynamic_ncols=True,
            disable=not self.processes.is_first,
        ) as bar:  # fmt: skip
            self.bar: tqdm[Any] = bar
            began = time.monotonic()
            for metrics in steps:
                self._training_seconds += time.monotonic() - began
                self._training_tokens += config.batch_size * config.num_positions
                bar.set_postfix(loss=f"{metrics.loss:.3f}", refresh=False)
                bar.update()
                yield metrics
                began = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether held-out figures are due after this step."""
        return step % self.config.eval_every == 0 or step == self.config.num_steps

    def figures_line(self, metrics: StepMetrics) -> dict[str, Any]:
        """What metrics.jsonl keeps of a step; the first process's business, as scoring and sampling are."""
        config = self.config
        line: dict[str, Any] = {
            "step": metrics.step,
            "language_loss": metrics.loss,
            "gradient_norm": metrics.gradient_norm,
            "learning_rate": metrics.learning_rate,
            "num_tokens": metrics.step * config.batch_size * config.num_positions,
            "seconds": round(self.seconds, 3),
        }
        if self.is_due(metrics.step):
            self.figures = self.evaluate()
            line |= self.figures | self.speed()
            if self.texts.tokenizer:
                line["samples"] = self.samples(self.texts.tokenizer, metrics.step)
                for sample in line["samples"]:
                    self.bar.write(f"step {metrics.step}: {sample}", file=sys.stderr)
        return line

    def speed(self) -> dict[str, float]:
        """Tokens a second of training alone since the last call, and the share of the machine's matrix rate."""
        rate = self._training_tokens / max(self._training_seconds, 1e-9)
        self._training_seconds, self._training_tokens = 0.0, 0
        share = rate * self.gflop_per_token / self.peak_gflops
        return {"tokens_per_second": round(rate, 1), "matrix_rate_share": round(share, 4)}

    def checkpoint(self, run: Run, step: int) -> None:
        """Save everything a later process needs to continue."""
        tensors = {"model": self.gpt.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        run.save_checkpoint(step, tensors, {"seconds": self.seconds})

    def evaluate(self) -> dict[str, float]:
        """Held-out figures: nats and perplexity per token, bits per byte of UTF-8 text."""
        config = self.config
        self.model.eval()
        nats = mean_nats(
            lambda ids, first: self.model(ids, 0, first),
            self.texts.held_out, config.num_positions, config.batch_size, torch.device(self.device),
        )  # fmt: skip
        self.model.train()
        return language_figures(nats, self.texts.held_out)

    @torch.no_grad()
    def samples(self, tokenizer: Tokenizer, seed: int) -> list[str]:
        """A few lines in the model's own words, each from the start of a document."""
        assert self.gpt.wte is not None
        self.model.eval()
        draw = torch.Generator(self.device).manual_seed(seed)
        ids = torch.full((NUM_SAMPLES, 1), end_token(tokenizer), device=self.device)
        for _ in range(min(SAMPLE_LENGTH, self.config.num_positions)):
            hidden = self.gpt(self.gpt.embed_tokens(ids), read=LAST)[:, 0]
            logits = hidden @ self.gpt.wte.weight.T
            chosen = torch.multinomial((logits / SAMPLE_TEMPERATURE).softmax(-1), 1, generator=draw)
            ids = torch.cat([ids, chosen], dim=1)
        self.model.train()
        return [" ".join(line.split()) for line in tokenizer.decode_batch(ids[:, 1:].tolist())]


def language_figures(nats_per_token: float, text: PackedText) -> dict[str, float]:
    """Loss and perplexity per token and, of what was once text, bits per byte."""
    figures = {"held_out_loss": nats_per_token, "held_out_perplexity": math.exp(nats_per_token)}
    if text.num_bytes:
        figures["held_out_bits_per_byte"] = nats_per_token * text.num_tokens / math.log(2) / text.num_bytes
    return figures


def _optimizer(config: PretrainConfig, gpt: GPT) -> Optimizer:
    betas = (0.9, config.adam_beta2)
    if config.optimizer == "adamw":
        groups = parameter_groups(
            "uniform", list(gpt.parameters()), [], None,
            learning_rate=config.learning_rate, backbone_learning_rate=None, weight_decay=config.weight_decay,
        )  # fmt: skip
        return make_optimizer(groups, betas=betas)
    matrices = [parameter for parameter in gpt.h.parameters() if parameter.ndim == 2]
    chosen = {id(parameter) for parameter in matrices}
    return MuonAndAdamW(
        matrices, [parameter for parameter in gpt.parameters() if id(parameter) not in chosen],
        learning_rate=config.learning_rate, others_learning_rate=config.table_learning_rate,
        weight_decay=config.weight_decay, betas=betas,
    )  # fmt: skip
