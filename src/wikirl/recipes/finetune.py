"""`wikirl finetune`: a backbone and logged trajectories become a policy. The main path of the whole project.

    load_trajectories → ContextSampler → DecisionTransformer(backbone) → train() → score → run folder

Read `finetune` first; everything below it is in the order it is called. The file is longer than others so that the
main path can be read in one go.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from wikirl.evaluation.environments import describe_environment
from wikirl.evaluation.scores import Evaluation
from wikirl.kernels import draw_dropout_from, keep_freed_memory
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import action_codec
from wikirl.models.backbone import weights_fingerprint
from wikirl.models.bundle import save_policy
from wikirl.models.gpt import GPT
from wikirl.models.sequence_model import Backbone
from wikirl.recipes.building import language_probe, make_backbone, make_model, optimizer_groups, text_blocks
from wikirl.recipes.held_out import held_out_errors, split
from wikirl.recipes.objective import TrajectoryObjective, record
from wikirl.recipes.scoring import (
    crossing_of,
    evaluation_entry,
    fitted,
    one_line,
    reference_of,
    score,
    scores_in_full,
)
from wikirl.recipes.settings import FinetuneConfig, resolve
from wikirl.reproducibility import (
    choose_device,
    choose_precision,
    generator,
    precision_name,
    provenance,
)
from wikirl.runs import Run, interruptible, write_json
from wikirl.training.loop import StepMetrics, Term, train
from wikirl.training.losses import alignment_anneal, next_token_loss
from wikirl.training.optimizer import (
    constant_after_warmup,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from wikirl.training.recorded import Recorded
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sampling import ContextSampler
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.transforms import delayed_reward, random_fraction


def finetune(
    config: FinetuneConfig, out: Path | str, *, device: str = "auto", precision: str = "auto"
) -> dict[str, Any]:
    """Train a policy and leave a run folder at `out`; continues a run that was cut short.

    Returns:
        The content of `scores.json`.

    Raises:
        WikiRLError: settings, data, backbone or folder that cannot work; the message says which.
    """
    keep_freed_memory()
    device = choose_device(device)
    prepared = prepare(config, choose_precision(precision, device))
    with Run(Path(out), prepared.resolved, provenance(config.seed)) as run:
        session = Session(prepared, run, device)
        with interruptible() as stopped:
            for metrics in session.steps():
                session.record(metrics)
                if stopped():
                    session.checkpoint(metrics.step)
                    raise KeyboardInterrupt
        return session.finish()


@dataclass(frozen=True)
class Prepared:
    """A run before its folder is touched: everything that can be refused has been.

    Attributes:
        config: Without a None that the recipe, task or data decide.
        resolved: What goes into config.json.
        dataset: All episodes.
        backbone: What it starts from.
        autocast: Precision of products; None for float32.
    """

    config: FinetuneConfig
    resolved: dict[str, Any]
    dataset: TrajectoryDataset
    backbone: Backbone
    autocast: torch.dtype | None


def prepare(config: FinetuneConfig, autocast: torch.dtype | None) -> Prepared:
    """Load data and backbone, and fill in what they decide.

    Raises:
        WikiRLError: settings, data or backbone that cannot work.
    """
    dataset = load_trajectories(config.dataset)
    environment = describe_environment(config.environment) if config.environment else None
    if environment:
        dataset = fitted(dataset, environment)
    action_codec(dataset.action_space)  # refuses what no model can be made for
    config = resolve(config, dataset, environment)
    reference_of(dataset, config)  # so that a mistake in it shows now
    backbone = make_backbone(config)
    resolved = {
        **asdict(config),
        "kind": "finetune",
        "precision": precision_name(autocast),
        "dataset_environment": dataset.environment,
        "dataset_fingerprint": dataset.fingerprint,
        "dataset_reference": dataset.details.get("reference"),
        "backbone_fingerprint": weights_fingerprint(backbone),
    }
    if crossing := crossing_of(dataset, config):
        tqdm.write(f"warning: {crossing}", file=sys.stderr)
    return Prepared(config, resolved, dataset, backbone, autocast)


class Session:
    """One process's share of a fine-tuning run: the objects that live as long as it does."""

    def __init__(self, prepared: Prepared, run: Run, device: str, resume_at: int | None = None) -> None:
        """Build everything, and continue from the newest checkpoint, or from that of step `resume_at`."""
        self.config, self.dataset, self.autocast = prepared.config, prepared.dataset, prepared.autocast
        self.run, self.device = run, device
        config, dataset, backbone = self.config, self.dataset, prepared.backbone
        assert config.held_out_fraction is not None
        training, self.held_out = split(dataset, config.held_out_fraction, config.seed)
        if config.data_fraction < 1:
            training = random_fraction(training, config.data_fraction, generator(config.seed, "data-fraction"))
        if config.delayed_reward:
            training = delayed_reward(training)
            self.held_out = delayed_reward(self.held_out) if self.held_out else None
        self.blocks = text_blocks(config, backbone)
        self.probe = language_probe(config, backbone)
        self.model, centres = make_model(config, training, backbone)
        self.model.to(device)
        self.centres = None if centres is None else centres.to(device)
        self.sampler = ContextSampler(training, config.context_length, generator(config.seed, "batches"))
        self.optimizer = make_optimizer(optimizer_groups(config, self.model), epsilon=config.adam_epsilon or 1e-8)
        assert config.target_returns is not None
        self.policy = DecisionTransformerPolicy(
            self.model, dataset.observation_space, dataset.action_space,
            context_length=config.context_length, target_return=config.target_returns[0],
            action_selection=config.action_selection,
        )  # fmt: skip
        assert config.alignment is not None
        self.trajectory_objective = TrajectoryObjective(
            self.model, config.alignment, self.centres, config.alignment_weight, self.autocast
        )
        self.evaluations: list[Evaluation] = []
        self.done, self.seconds_before = 0, 0.0
        self.dropout = torch.Generator(device).manual_seed(config.seed)  # starts alike for every backbone
        draw_dropout_from(self.model, [self.dropout])
        self.recorded: Recorded | None = None
        # A foreign model draws from PyTorch's own generator, whose state cannot be exchanged while a graph is recorded.
        if device == "cuda" and self.blocks is None and isinstance(backbone, GPT):
            self.recorded = record(self.trajectory_objective, [self.dropout])
        self._resume(resume_at)

    def _resume(self, at: int | None) -> None:
        if saved := self.run.resume(at):
            self.model.load_state_dict(saved.tensors("model"))
            load_optimizer_tensors(self.optimizer, saved.tensors("optimizer"))
            self.dropout.set_state(saved.tensors("random")["dropout"])
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
        with tqdm(
            steps, total=config.num_steps, initial=self.done, desc="finetune", unit="step", dynamic_ncols=True
        ) as bar:
            self.bar: tqdm[Any] = bar
            for metrics in bar:
                bar.set_postfix(loss=f"{metrics.loss:.4f}", refresh=False)
                yield metrics

    def objective(self, step: int) -> Mapping[str, Term]:
        """The terms of the loss at a step."""
        config = self.config
        self.model.train()
        batch = self.sampler.sample(config.batch_size)
        assert config.anneal_steps is not None
        anneal = alignment_anneal(step, config.anneal_steps)
        if self.recorded is not None:
            return self.recorded(*batch.tensors(), torch.tensor(anneal))
        terms = self.trajectory_objective.terms(batch.to(self.device), anneal)
        if self.blocks is not None:
            assert config.cotraining_weight is not None
            fading = anneal if config.cotraining_fades else 1.0
            terms["language_loss"] = Term(
                self._language_loss(self.blocks.batch(step - 1)), config.cotraining_weight * fading
            )
        return terms

    def _language_loss(self, ids: Tensor) -> Tensor:
        ids = ids.to(self.device)
        with torch.autocast(torch.device(self.device).type, self.autocast, enabled=self.autocast is not None):
            gpt = self.model.backbone
            assert isinstance(gpt, GPT)  # make_backbone saw to it
            assert gpt.wte is not None
            hidden = gpt(gpt.embed_tokens(ids[:, :-1]))
            return next_token_loss(hidden.to(self.autocast or hidden.dtype), gpt.wte.weight, ids[:, 1:])

    def is_due(self, step: int) -> bool:
        """Whether the run is scored after this step."""
        assert self.config.eval_every is not None
        return step == self.config.num_steps or step % self.config.eval_every == 0

    def record(self, metrics: StepMetrics, evaluations: list[Evaluation] | None = None) -> None:
        """Log the step; score (unless the scores are there already) and save when it is time."""
        config = self.config
        assert config.checkpoint_every is not None
        line: dict[str, Any] = {
            "step": metrics.step,
            "loss": metrics.loss,
            **metrics.terms,
            "gradient_norm": metrics.gradient_norm,
            "learning_rate": metrics.learning_rate,
        }
        if self.is_due(metrics.step):
            line |= self._score(metrics.step, evaluations)
        self.run.log({**line, "seconds": round(self.seconds_before + self.bar.format_dict["elapsed"], 3)})
        if metrics.step == config.num_steps or metrics.step % config.checkpoint_every == 0:
            self.checkpoint(metrics.step)

    def _score(self, step: int, found: list[Evaluation] | None) -> dict[str, Any]:
        config = self.config
        figures: dict[str, Any] = {}
        if self.held_out is not None:
            figures |= held_out_errors(self.policy, self.held_out)
        if config.environment:
            assert config.target_returns is not None
            found = found or score(
                self.policy, config.environment, config.target_returns, num_episodes=config.eval_episodes,
                seed=config.evaluation_seed, step=step, delayed_reward=config.delayed_reward,
                reference=reference_of(self.dataset, config),
            )  # fmt: skip
            self.evaluations += found
            figures["evaluations"] = [evaluation_entry(evaluation) for evaluation in found]
            best = max(found, key=lambda evaluation: sum(evaluation.returns))
            self.bar.write(f"step {step}: " + one_line(evaluation_entry(best)), file=sys.stderr)
        return figures

    def checkpoint(self, step: int) -> None:
        """Save everything a later process needs to continue to the same bits."""
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "random": {"dropout": self.dropout.get_state()},
        }
        state = {
            "sampler": self.sampler.state(),
            "evaluations": [evaluation.to_json() for evaluation in self.evaluations],
            "seconds": self.seconds_before + self.bar.format_dict["elapsed"],
        }
        self.run.save_checkpoint(step, tensors, state)

    def finish(self) -> dict[str, Any]:
        """Leave the policy and the scores."""
        config = self.config
        details = {
            "dataset": config.dataset,
            "backbone": config.backbone,
            "environment": config.environment,
            "num_steps": config.num_steps,
        }
        save_policy(self.policy, self.run.folder / "policy", details)
        scores: dict[str, Any] = {
            "num_steps": config.num_steps,
            "num_parameters": sum(p.numel() for p in self.model.parameters()),
        }
        if self.probe:
            assert isinstance(self.model.backbone, GPT)  # language_probe saw to it
            scores["language"] = self.probe.result(self.model.backbone)
        if self.held_out is not None:
            scores |= held_out_errors(self.policy, self.held_out)
        if config.environment:
            assert config.target_returns is not None
            targets, ways = config.target_returns, config.action_selection
            scores |= scores_in_full(config, self.dataset, self.evaluations, targets, ways)
        write_json(self.run.folder / "scores.json", scores)
        return scores
