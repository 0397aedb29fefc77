"""Many fine-tuning runs in one process, stacked: the same curves as one by one, in the time of fewer operations.

Worth it where launching an operation costs more than doing it, on a GPU; on a CPU processes with a thread each are as
fast (experiments/many_runs.py). Every run leaves its own folder, from which it can also go on alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from wikirl.errors import ConfigError
from wikirl.evaluation.rollout import rollout_together
from wikirl.evaluation.scores import Evaluation
from wikirl.kernels import keep_freed_memory
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.gpt import GPT
from wikirl.models.stacking import stack
from wikirl.recipes.building import optimizer_groups, starting_point
from wikirl.recipes.finetune import Prepared, Session, prepare
from wikirl.recipes.objective import TrajectoryObjective, record
from wikirl.recipes.scoring import reference_of
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import choose_device, choose_precision, provenance
from wikirl.runs import Run, interruptible
from wikirl.training.loop import StepMetrics, Term, train_together
from wikirl.training.losses import alignment_anneal
from wikirl.training.optimizer import constant_after_warmup, make_optimizer, share_state
from wikirl.training.recorded import Recorded
from wikirl.types import TrajectoryBatch

# What stacked runs may differ in.
OWN = ("seed", "backbone", "alignment_weight")


def finetune_together(
    runs: Sequence[tuple[FinetuneConfig, Path]], *, device: str = "auto", precision: str = "auto"
) -> list[dict[str, Any]]:
    """`finetune` for several runs at once; continues them from the last checkpoint that all have.

    Args:
        runs: Configurations, equal but for seed, backbone and alignment weight, and the folders of their runs.
        device: Where all of them train.
        precision: As in `finetune`.

    Returns:
        The content of each run's `scores.json`.

    Raises:
        WikiRLError: as `finetune`.
        ConfigError: the runs differ in something else, go on modelling text, or have a backbone of another family than
            GPT-2's.
    """
    keep_freed_memory()
    device = choose_device(device)
    prepared = [prepare(config, choose_precision(precision, device)) for config, _ in runs]
    _require_alike([one.config for one in prepared])
    if foreign := [one.config for one in prepared if not isinstance(one.backbone, GPT)]:
        raise ConfigError(
            f"expected backbones of the GPT-2 family to train together; {starting_point(foreign[0])} is of another; "
            "train these one by one"
        )
    with ExitStack() as folders:
        opened = [
            folders.enter_context(Run(Path(out), one.resolved, provenance(one.config.seed)))
            for one, (_, out) in zip(prepared, runs, strict=True)
        ]
        group = Group(prepared, opened, device)
        with interruptible() as stopped:
            for metrics in group.steps():
                evaluations = group.score(metrics[0].step)
                for session, own, found in zip(group.sessions, metrics, evaluations, strict=True):
                    session.record(own, found)
                if stopped():
                    for session in group.sessions:
                        session.checkpoint(metrics[0].step)
                    raise KeyboardInterrupt
        return [session.finish() for session in group.sessions]


def _require_alike(configs: Sequence[FinetuneConfig]) -> None:
    first = configs[0]
    for config in configs[1:]:
        alike = replace(config, **{name: getattr(first, name) for name in OWN})
        if alike != first:
            names = [name for name in vars(first) if getattr(alike, name) != getattr(first, name)]
            raise ConfigError(
                f"expected runs that differ in {', '.join(OWN)} only, to train them together; these differ in "
                f"{', '.join(names)}; train them one by one"
            )
    if first.cotraining_corpus is not None:
        raise ConfigError("expected runs without --cotraining-corpus to train together; train these one by one")


class Group:
    """The runs' own sessions, and the stacked model and optimizer of which theirs are views."""

    def __init__(self, prepared: Sequence[Prepared], runs: Sequence[Run], device: str) -> None:
        at = min(run.newest_step for run in runs)
        self.sessions = [Session(one, run, device, resume_at=at) for one, run in zip(prepared, runs, strict=True)]
        self.config, self.device = prepared[0].config, device
        self.model = stack([session.model for session in self.sessions])
        self.optimizer = make_optimizer(
            optimizer_groups(self.config, self.model), epsilon=self.config.adam_epsilon or 1e-8
        )
        dataset, targets = prepared[0].dataset, self.config.target_returns
        assert targets is not None
        self.policy = DecisionTransformerPolicy(
            self.model, dataset.observation_space, dataset.action_space,
            context_length=self.config.context_length, target_return=targets[0],
            action_selection=self.config.action_selection,
        )  # fmt: skip
        share_state(self.optimizer, [session.optimizer for session in self.sessions])
        centres = [session.centres for session in self.sessions if session.centres is not None]
        weights = [session.config.alignment_weight for session in self.sessions]
        assert self.config.alignment is not None
        self.trajectory_objective = TrajectoryObjective(
            self.model, self.config.alignment, torch.stack(centres) if centres else None,
            torch.tensor(weights, device=device), prepared[0].autocast,
        )  # fmt: skip
        self.recorded: Recorded | None = None
        if device == "cuda":
            self.recorded = record(self.trajectory_objective, [session.dropout for session in self.sessions])

    def steps(self) -> Iterator[list[StepMetrics]]:
        """Train all from where they stand to their end, under one progress bar."""
        config, done = self.config, self.sessions[0].done
        assert config.warmup_steps is not None
        steps = train_together(
            self.objective, self.optimizer, constant_after_warmup(config.warmup_steps),
            num_steps=config.num_steps, first_step=done + 1, clip_norm=config.clip_norm,
        )  # fmt: skip
        description = f"finetune, {len(self.sessions)} runs"
        with tqdm(
            steps, total=config.num_steps, initial=done, desc=description, unit="step", dynamic_ncols=True
        ) as bar:
            for session in self.sessions:
                session.bar = bar
            for metrics in bar:
                loss = sum(own.loss for own in metrics) / len(metrics)
                bar.set_postfix(mean_loss=f"{loss:.4f}", refresh=False)
                yield metrics

    def objective(self, step: int) -> Mapping[str, Term]:
        """The terms of all losses at a step, `[R]` each; the same as `Session.objective` of each run."""
        self.model.train()
        batch = _joined([session.sampler.sample(self.config.batch_size) for session in self.sessions])
        assert self.config.anneal_steps is not None
        anneal = alignment_anneal(step, self.config.anneal_steps)
        if self.recorded is not None:
            return self.recorded(*batch.tensors(), torch.tensor(anneal))
        return self.trajectory_objective.terms(batch.to(self.device), anneal)

    def score(self, step: int) -> list[list[Evaluation]]:
        """Evaluations of each run after a step, all played at once; empty when none are due."""
        config = self.config
        found: list[list[Evaluation]] = [[] for _ in self.sessions]
        if config.environment is None or not self.sessions[0].is_due(step):
            return found
        for target in config.target_returns or ():
            self.policy.target_return = target
            episodes = rollout_together(
                self.policy, config.environment, num_runs=len(self.sessions), num_episodes=config.eval_episodes,
                seed=config.evaluation_seed, delayed_reward=config.delayed_reward,
            )  # fmt: skip
            for session, evaluations, own in zip(self.sessions, found, episodes, strict=True):
                reference = reference_of(session.dataset, session.config)
                evaluations.append(Evaluation.of(config.environment, step, target, own.returns, own.lengths, reference))
        return found


def _joined(batches: Sequence[TrajectoryBatch]) -> TrajectoryBatch:
    """The rows of all batches, one batch after the other."""
    return TrajectoryBatch(*(torch.cat(values) for values in zip(*(batch.tensors() for batch in batches), strict=True)))
