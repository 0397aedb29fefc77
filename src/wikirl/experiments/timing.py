"""How long a few real steps of a run take, and a few steps of the episodes it is scored in: seconds, not minutes.

This file knows the two kinds of runs and a clock. It deliberately does not know how many runs there are. What it trains
is thrown away.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped

from wikirl.evaluation.rollout import rollout
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.worker import Machine
from wikirl.kernels import keep_freed_memory
from wikirl.recipes import baseline as baselines
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.building import TEXT_BLOCK
from wikirl.recipes.finetune import Session, prepare
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import choose_device, choose_precision
from wikirl.runs import Run
from wikirl.training.loop import train
from wikirl.training.optimizer import constant_after_warmup, optimizer_tensors
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.types import Policy

MOST_STEPS = 5
_PATIENCE_SECONDS = 2.0  # with slow steps: then fewer of them
_MOST_ROWS = 20
_ENVIRONMENT_STEPS = 20


@dataclass(frozen=True)
class Cost:
    """What a run takes, in seconds.

    Attributes:
        start: To load data and weights.
        step: An update.
        score: What every score takes, however many episodes: a checkpoint, environments, the held-out error.
        episode: An episode of a score, at every target return that is asked for.
        num_steps: Steps that this was measured in.
    """

    start: float
    step: float
    score: float
    episode: float
    num_steps: int


def timed(plan: RunPlan, machine: Machine) -> Cost:
    """Try a run for some steps, on as many threads as it will have.

    Word clusters and text to go on modelling are not prepared, which can take minutes, but the text's tokens count.

    Raises:
        WikiRLError: as the run will.
    """
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(machine.num_threads)
    try:
        if isinstance(plan.config, BaselineConfig):
            return _of_baseline(plan.config, machine)
        with TemporaryDirectory() as folder:
            return _of_finetuning(plan.config, machine, Path(folder))
    finally:
        torch.set_num_threads(before)


def _of_finetuning(asked: FinetuneConfig, machine: Machine, folder: Path) -> Cost:
    started = time.perf_counter()
    device = choose_device(machine.device)
    # Its resolved form decides, not that of a shorter run.
    plain = replace(asked, alignment="none", cotraining_corpus=None, language_text=None)
    prepared = prepare(plain, choose_precision(machine.precision, device))
    config = prepared.config
    with Run(folder / "run", {}, {}) as run:
        session = Session(prepared, run, device)
        start = time.perf_counter() - started
        steps = train(
            session.objective, session.optimizer, constant_after_warmup(0),
            num_steps=MOST_STEPS + 1, clip_norm=config.clip_norm,
        )  # fmt: skip
        step, count = _step_seconds(steps)
        tensors = {"model": session.model.state_dict(), "optimizer": optimizer_tensors(session.optimizer)}
        saving = _seconds(lambda: run.save_checkpoint(1, tensors, {}))
    windows = config.batch_size * config.context_length
    held_out = 0.0
    if session.held_out is not None:  # a forward pass over all of it, a third of a step for as many windows
        held_out = step / 3 * session.held_out.num_steps / windows
    if asked.cotraining_corpus is not None:
        step *= 1 + asked.cotraining_batch_size * TEXT_BLOCK / (3 * windows)
    opening, episode = _playing(session.policy, asked, prepared.dataset, config.context_length)
    targets = len(config.target_returns or ())
    return Cost(start, step, saving + held_out + targets * opening, targets * episode, count)


def _of_baseline(asked: BaselineConfig, machine: Machine) -> Cost:
    started = time.perf_counter()
    prepared = baselines.prepare(asked)
    learner = baselines.make_learner(prepared.config, prepared.training, choose_device(machine.device))
    start = time.perf_counter() - started
    step, count = _step_seconds(learner.steps(1))
    opening, episode = _playing(learner.policy, asked, prepared.dataset, 1)
    return Cost(start, step, opening, episode, count)


def _step_seconds(steps: Iterable[object]) -> tuple[float, int]:
    """Seconds of the middle one of some steps, the first of which does not count unless it takes very long."""
    seconds: list[float] = []
    last = time.perf_counter()
    for _ in islice(steps, MOST_STEPS + 1):
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
        if sum(seconds) > _PATIENCE_SECONDS:
            break
    counted = seconds[1:] or seconds
    return median(counted), len(counted)


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


class _Still:
    """A policy that does nothing and takes no time."""

    def __init__(self, shape: tuple[int, ...], *, choices: bool) -> None:
        self._shape, self._dtype = shape, np.int64 if choices else np.float32

    def reset(self, num_envs: int, seed: int) -> None:
        """There is nothing to forget."""

    def act(
        self,
        observations: Shaped[np.ndarray, "E *O"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Shaped[np.ndarray, "E *A"]:
        """Zeros."""
        return np.zeros((len(observations), *self._shape), dtype=self._dtype)


def _playing(
    policy: Policy, config: FinetuneConfig | BaselineConfig, dataset: TrajectoryDataset, context_length: int
) -> tuple[float, float]:
    """Seconds to open the environments of a score, and those of an episode as long as the data's are on average."""
    if config.environment is None:
        return 0.0, 0.0
    rows = min(config.eval_episodes, _MOST_ROWS)
    moments: list[float] = []
    started = time.perf_counter()
    still = _Still(dataset.action_space.shape, choices=dataset.action_space.is_discrete)
    played = rollout(
        still, config.environment, num_episodes=rows, seed=0, max_steps=_ENVIRONMENT_STEPS,
        on_step=lambda _step, _live: moments.append(time.perf_counter()),
    )  # fmt: skip
    environment_step = (time.perf_counter() - moments[0]) / max(int(played.lengths.sum()) - rows, 1)
    opening = (moments[0] - started) / rows * config.eval_episodes
    acting = _acting_seconds(policy, dataset, rows, context_length) / rows
    return opening, dataset.statistics.length_mean * (acting + environment_step)


def _acting_seconds(policy: Policy, dataset: TrajectoryDataset, rows: int, context_length: int) -> float:
    """Seconds of a step of several rows that all look back as far as they can."""
    policy.reset(rows, 0)
    observations = np.zeros((rows, *dataset.observation_space.shape), dtype=dataset.observation_space.dtype)
    rewards = np.zeros(rows)
    longest = min(context_length, dataset.statistics.length_max)
    seconds: list[float] = []
    # The first step at each length of window also prepares for it, so several at full length are looked at.
    for step in range(1, min(longest + MOST_STEPS, dataset.statistics.length_max) + 1):
        seconds.append(_seconds(lambda: policy.act(observations, rewards)))
        if sum(seconds) > _PATIENCE_SECONDS:
            return seconds[-1] * max(longest / step, 1.0)  # the window would have gone on growing
    return median(seconds[longest - 1 :])
