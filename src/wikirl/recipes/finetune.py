"""`wikirl finetune`: a backbone and logged trajectories become a policy. The main path of the whole project.

    load_trajectories → ContextSampler → DecisionTransformer(backbone) → train() → score → run folder

Read `finetune` first; everything below it is in the order it is called.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import crosses_versions, describe_environment
from wikirl.evaluation.protocol import stamp_protocol
from wikirl.evaluation.scores import Evaluation, summarize
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.backbone import CHIBIT, load_backbone, weights_fingerprint, with_dropout
from wikirl.models.bundle import save_policy
from wikirl.models.decision_transformer import ActionScaler, DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.word_clusters import word_clusters
from wikirl.recipes.evaluate import check_fit, evaluation_entry, held_out_error, score, split
from wikirl.recipes.settings import FinetuneConfig, resolve
from wikirl.reproducibility import (
    choose_device,
    choose_precision,
    generator,
    provenance,
    random_state,
    restore_random_state,
    seed_everything,
)
from wikirl.runs import Run, cache_folder, interruptible, write_json
from wikirl.text.corpora import open_corpus
from wikirl.text.packing import BlockSampler, pack_cached
from wikirl.text.tokenizers import load_tokenizer
from wikirl.training.losses import alignment_anneal, alignment_paper, alignment_released, masked_action_mse, next_token_loss
from wikirl.training.loop import StepMetrics, Term, train
from wikirl.training.optimizer import (
    constant_after_warmup,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    parameter_groups,
)
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sampling import ContextSampler
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.transforms import delayed_reward

TEXT_BLOCK = 1024


def finetune(config: FinetuneConfig, out: Path, *, device: str = "auto", precision: str = "auto") -> dict[str, Any]:
    """Train a policy and leave a run folder at `out`; continues a run that was cut short.

    Returns:
        The content of `scores.json`.

    Raises:
        WikiRLError: settings, data, backbone or folder that cannot work; the message says which.
    """
    device = choose_device(device)
    autocast = choose_precision(precision, device)
    dataset = load_trajectories(config.dataset)
    environment = describe_environment(config.environment) if config.environment else None
    if environment:
        check_fit(environment, dataset)
    config = resolve(config, dataset, environment)
    backbone = make_backbone(config)
    resolved = {
        **asdict(config),
        "kind": "finetune",
        "precision": str(autocast),
        "dataset_environment": dataset.environment,
        "dataset_fingerprint": dataset.fingerprint,
        "backbone_fingerprint": weights_fingerprint(backbone),
    }
    with Run(out, resolved, provenance(config.seed)) as run, interruptible() as stopped:
        session = _Session(config, run, dataset, backbone, device, autocast)
        for metrics in session.steps():
            session.record(metrics)
            if stopped():
                session.checkpoint(metrics.step)
                raise KeyboardInterrupt
        return session.finish()


def make_backbone(config: FinetuneConfig) -> GPT:
    """The sequence model to start from, under the run's dropout rates.

    `scratch` takes only the architecture of what it is compared with, its tables included, and draws its weights from
    the seed.
    """
    seed_everything(config.seed)
    if config.backbone == "scratch":
        # DT's own: 3 layers, 1 head, width 128, ReLU, 1024 positions, no words (facts 2.1, Q19)
        gpt = GPT(GPTConfig()) if config.architecture == "dt" else GPT(load_backbone(config.architecture).config)
    else:
        gpt = load_backbone(config.backbone)
    assert config.residual_dropout is not None
    return with_dropout(
        gpt, embedding=config.embedding_dropout, attention=config.attention_dropout, residual=config.residual_dropout
    )


def make_model(config: FinetuneConfig, dataset: TrajectoryDataset, backbone: GPT) -> tuple[DecisionTransformer, Tensor | None]:
    """The Decision Transformer around a backbone, and the cluster centres it is aligned to (None without alignment).

    The new layers are drawn under the run's seed whatever the backbone, so that two starting points differ in nothing
    else.
    """
    centres = None
    if config.alignment != "none":
        if backbone.wte is None:
            raise ConfigError("alignment needs a backbone with word embeddings; found none; use --alignment none")
        clusters = min(config.num_clusters, len(backbone.wte.weight))
        centres = word_clusters(backbone.wte.weight, clusters, cache=cache_folder())
    backbone.drop_tables(
        words=config.cotraining_corpus is None, positions=not config.share_positions and config.cotraining_corpus is None
    )
    seed_everything(config.seed)
    model = DecisionTransformer(_options(config, dataset), backbone, _normalizer(dataset), _scaler(dataset))
    model.freeze(config.freeze)
    return model, centres


def _options(config: FinetuneConfig, dataset: TrajectoryDataset) -> DecisionTransformerConfig:
    if dataset.action_space.is_discrete:
        raise ConfigError(f"expected continuous actions; {dataset.name} has {dataset.action_space.n} discrete ones, which are not supported yet")
    values = asdict(config)
    return DecisionTransformerConfig(
        observation_size=dataset.observation_space.size,
        action_size=dataset.action_space.size,
        **{name: values[name] for name in ("max_timesteps", "return_scale", "share_positions", "share_projection", "timestep_placement")},
    )


def _normalizer(dataset: TrajectoryDataset) -> Normalizer:
    statistics = dataset.statistics
    mean, std = statistics.observation_mean, statistics.observation_std
    return Normalizer(torch.from_numpy(mean.ravel().copy()), torch.from_numpy(std.ravel().copy()))


def _scaler(dataset: TrajectoryDataset) -> ActionScaler:
    space = dataset.action_space
    low, high = (torch.broadcast_to(torch.tensor(bound, dtype=torch.float32), (space.size,)).clone() for bound in (space.low, space.high))
    if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (low < high).all()):
        raise ConfigError(f"expected bounded actions; those of {dataset.name} lie in {space.low} … {space.high}")
    return ActionScaler(low, high)


class _Session:
    """One process's share of a fine-tuning run: the objects that live as long as it does."""

    def __init__(
        self, config: FinetuneConfig, run: Run, dataset: TrajectoryDataset, backbone: GPT, device: str, autocast: torch.dtype | None
    ) -> None:
        self.config, self.run, self.dataset, self.device, self.autocast = config, run, dataset, device, autocast
        assert config.held_out_fraction is not None
        training, self.held_out = split(dataset, config.held_out_fraction, config.seed)
        if config.delayed_reward:
            training = delayed_reward(training)
            self.held_out = delayed_reward(self.held_out) if self.held_out else None
        self.blocks = _text_blocks(config, backbone)
        self.model, centres = make_model(config, training, backbone)
        self.model.to(device)
        self.centres = None if centres is None else centres.to(device)
        self.sampler = ContextSampler(training, config.context_length, generator(config.seed, "batches"))
        self.optimizer = make_optimizer(_groups(config, self.model), epsilon=config.adam_epsilon or 1e-8)
        assert config.target_returns is not None
        self.policy = DecisionTransformerPolicy(
            self.model, dataset.observation_space, dataset.action_space,
            context_length=config.context_length, target_return=config.target_returns[0],
        )  # fmt: skip
        self.evaluations: list[Evaluation] = []
        self.done, self.seconds_before = 0, 0.0
        self._resume()

    def _resume(self) -> None:
        seed_everything(self.config.seed)  # dropout starts alike for every backbone
        if saved := self.run.resume():
            self.model.load_state_dict(saved.tensors("model"))
            load_optimizer_tensors(self.optimizer, saved.tensors("optimizer"))
            restore_random_state(saved.tensors("random"))
            self.sampler.load_state(saved.state["sampler"])
            self.evaluations = [Evaluation.from_json(value) for value in saved.state["evaluations"]]
            self.done, self.seconds_before = saved.step, saved.state["seconds"]

    def steps(self) -> Iterator[StepMetrics]:
        """Train from where the run stands to its end, under a progress bar."""
        config = self.config
        assert config.warmup_steps is not None
        schedule = constant_after_warmup(config.warmup_steps)
        steps = train(
            self.objective, self.optimizer, schedule,
            num_steps=config.num_steps, first_step=self.done + 1, clip_norm=config.clip_norm,
        )  # fmt: skip
        with tqdm(steps, total=config.num_steps, initial=self.done, desc="finetune", unit="step", dynamic_ncols=True) as bar:
            self.bar = bar
            for metrics in bar:
                bar.set_postfix(loss=f"{metrics.loss:.4f}", refresh=False)
                yield metrics

    def objective(self, step: int) -> Mapping[str, Term]:
        """The terms of the loss at a step."""
        config = self.config
        self.model.train()
        batch = self.sampler.sample(config.batch_size).to(self.device)
        with torch.autocast(self.device, self.autocast, enabled=self.autocast is not None):
            prediction = self.model(batch)
        terms = {"action_loss": Term(masked_action_mse(prediction.actions, batch.actions, batch.mask))}
        assert config.anneal_steps is not None
        anneal = alignment_anneal(step, config.anneal_steps)
        if self.centres is not None:
            tokens = prediction.token_embeddings.float()
            if config.alignment == "paper":
                value = alignment_paper(tokens, self.centres, batch.mask.repeat_interleave(3, dim=1))
            else:
                value = alignment_released(tokens, self.centres)
            terms["alignment_loss"] = Term(value, config.alignment_weight * anneal)
        if self.blocks is not None:
            assert config.cotraining_weight is not None
            fading = 1.0 if config.recipe == "released" else anneal
            terms["language_loss"] = Term(self._language_loss(self.blocks.batch(step - 1)), config.cotraining_weight * fading)
        return terms

    def _language_loss(self, ids: Tensor) -> Tensor:
        ids = ids.to(self.device)
        with torch.autocast(self.device, self.autocast, enabled=self.autocast is not None):
            gpt = self.model.backbone
            assert gpt.wte is not None
            hidden = gpt(gpt.embed_tokens(ids[:, :-1]))
            return next_token_loss(hidden.to(self.autocast or hidden.dtype), gpt.wte.weight, ids[:, 1:])

    def record(self, metrics: StepMetrics) -> None:
        """Log the step; score and save when it is time."""
        config = self.config
        assert config.eval_every is not None
        assert config.checkpoint_every is not None
        line: dict[str, Any] = {
            "step": metrics.step,
            "loss": metrics.loss,
            **metrics.terms,
            "gradient_norm": metrics.gradient_norm,
            "learning_rate": metrics.learning_rate,
        }
        last = metrics.step == config.num_steps
        if last or metrics.step % config.eval_every == 0:
            line |= self._score(metrics.step)
        self.run.log({**line, "seconds": round(self.seconds_before + self.bar.format_dict["elapsed"], 3)})
        if last or metrics.step % config.checkpoint_every == 0:
            self.checkpoint(metrics.step)

    def _score(self, step: int) -> dict[str, Any]:
        config, figures = self.config, {}
        if self.held_out is not None:
            figures["held_out_action_error"] = held_out_error(self.policy, self.held_out)
        if config.environment:
            assert config.target_returns is not None
            found = score(
                self.policy, config.environment, config.target_returns, num_episodes=config.eval_episodes,
                seed=config.evaluation_seed, step=step, delayed_reward=config.delayed_reward,
            )  # fmt: skip
            self.evaluations += found
            figures["evaluations"] = [evaluation_entry(evaluation) for evaluation in found]
            best = max(found, key=lambda evaluation: sum(evaluation.returns))
            self.bar.write(f"step {step}: " + _one_line(evaluation_entry(best)))
        return figures

    def checkpoint(self, step: int) -> None:
        """Save everything a later process needs to continue to the same bits."""
        tensors = {"model": self.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer), "random": random_state()}
        state = {
            "sampler": self.sampler.state(),
            "evaluations": [evaluation.to_json() for evaluation in self.evaluations],
            "seconds": self.seconds_before + self.bar.format_dict["elapsed"],
        }
        self.run.save_checkpoint(step, tensors, state)

    def finish(self) -> dict[str, Any]:
        """Leave the policy and the scores."""
        config = self.config
        details = {"dataset": config.dataset, "backbone": config.backbone, "environment": config.environment, "num_steps": config.num_steps}
        save_policy(self.policy, self.run.folder / "policy", details)
        scores: dict[str, Any] = {"num_steps": config.num_steps, "num_parameters": sum(p.numel() for p in self.model.parameters())}
        if self.held_out is not None:
            scores["held_out_action_error"] = held_out_error(self.policy, self.held_out)
        if config.environment:
            crossing = crosses_versions(self.dataset.environment, config.environment) if self.dataset.environment else None
            scores |= {
                "environment": config.environment,
                "warnings": [crossing] if crossing else [],
                "summary": [summary.to_json() for summary in summarize(self.evaluations)],
                "protocols": [self._protocol(target) for target in config.target_returns or ()],
                "evaluations": [evaluation.to_json() for evaluation in self.evaluations],
            }
        write_json(self.run.folder / "scores.json", scores)
        return scores

    def _protocol(self, target: float) -> dict[str, Any]:
        config = self.config
        assert config.environment is not None
        return stamp_protocol(
            config.environment, checkpoints=("last", "mean_last_four", "best"), target_return=target,
            num_episodes=config.eval_episodes, seeds=(config.evaluation_seed,), delayed_reward=config.delayed_reward,
            dataset_environment=self.dataset.environment,
        ).to_json()  # fmt: skip


def _one_line(entry: Mapping[str, Any]) -> str:
    normalized = "" if entry["normalized_score"] is None else f" (normalised {entry['normalized_score']:.1f})"
    return f"return {entry['return_mean']:.0f} ± {entry['return_std']:.0f}{normalized} at target {entry['target_return']:g}"


def _text_blocks(config: FinetuneConfig, backbone: GPT) -> BlockSampler | None:
    """Blocks of the co-training corpus in the backbone's own vocabulary; None without co-training."""
    if config.cotraining_corpus is None:
        return None
    name = config.architecture if config.backbone == "scratch" else config.backbone
    tokenizer = load_tokenizer(CHIBIT if name == "chibit" else Path(name))
    if tokenizer.get_vocab_size() > backbone.config.vocab_size:
        raise ConfigError(
            f"expected a tokenizer of at most {backbone.config.vocab_size} words, as the backbone has; found {tokenizer.get_vocab_size()} in {name}"
        )
    corpus = open_corpus(config.cotraining_corpus)
    text = pack_cached("whole", corpus.fingerprint, corpus.documents(), tokenizer)
    length = min(TEXT_BLOCK, backbone.config.num_positions)
    return BlockSampler(text, length, config.cotraining_batch_size, config.seed)


def _groups(config: FinetuneConfig, model: DecisionTransformer) -> list[dict[str, Any]]:
    def trained(parameters: list[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
        return [parameter for parameter in parameters if parameter.requires_grad]

    assert config.parameter_groups is not None
    table = model.timestep_table
    return parameter_groups(
        config.parameter_groups,
        trained(list(model.backbone.parameters())),
        trained(model.own_parameters()),
        table if config.share_positions and table.requires_grad else None,
        learning_rate=config.learning_rate,
        backbone_learning_rate=config.backbone_learning_rate,
        weight_decay=config.weight_decay,
    )
