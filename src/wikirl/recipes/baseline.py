"""`wikirl baseline`: what a Decision Transformer is compared with, on the same data, environment and episodes.

    load_trajectories → best or drawn episodes → a learner → score → run folder, of the form that finetune leaves

Read `baseline` first; everything below it is in the order it is called. How each algorithm learns is learning.py's and
d3rlpy_learner.py's business.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wikirl.evaluation.environments import describe_environment
from wikirl.evaluation.scores import Evaluation
from wikirl.kernels import keep_freed_memory
from wikirl.models.actions import action_codec
from wikirl.models.bundle import save_perceptron
from wikirl.recipes.baseline_settings import BaselineConfig, resolve
from wikirl.recipes.held_out import perceptron_errors, split
from wikirl.recipes.learning import Cloning, Learner
from wikirl.recipes.scoring import (
    crossing_of,
    evaluation_entry,
    fitted,
    one_line,
    reference_of,
    score_policy,
    scores_in_full,
)
from wikirl.reproducibility import choose_device, generator, provenance
from wikirl.runs import Run, interruptible, write_json
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.transforms import delayed_reward, random_fraction, top_fraction


def baseline(config: BaselineConfig, out: Path | str, *, device: str = "auto") -> dict[str, Any]:
    """Train a baseline and leave a run folder at `out`; continues a run that was cut short.

    Returns:
        The content of `scores.json`.

    Raises:
        WikiRLError: settings, data or folder that cannot work; the message says which.
    """
    keep_freed_memory()
    device = choose_device(device)
    prepared = prepare(config)
    learner = make_learner(prepared.config, prepared.training, device)  # before the folder: d3rlpy may be missing
    with Run(Path(out), prepared.resolved, provenance(config.seed)) as run:
        session = Session(prepared, learner, run)
        with interruptible() as stopped:
            for metrics in session.steps():
                session.record(metrics)
                if stopped():
                    session.checkpoint(metrics["step"])
                    raise KeyboardInterrupt
        return session.finish()


@dataclass(frozen=True)
class Prepared:
    """A run before its folder is touched.

    Attributes:
        config: Without a None that algorithm, data or environment decide.
        resolved: What goes into config.json.
        dataset: All episodes.
        training: Those to learn from.
        held_out: Those kept out of it; None if there are none.
    """

    config: BaselineConfig
    resolved: dict[str, Any]
    dataset: TrajectoryDataset
    training: TrajectoryDataset
    held_out: TrajectoryDataset | None


def prepare(config: BaselineConfig) -> Prepared:
    """Load the data, fill in what they decide, and choose the episodes to learn from.

    Raises:
        WikiRLError: settings or data that cannot work.
    """
    dataset = load_trajectories(config.dataset)
    environment = describe_environment(config.environment) if config.environment else None
    if environment:
        dataset = fitted(dataset, environment)
    action_codec(dataset.action_space)  # refuses what no model can be made for
    config = resolve(config, dataset, environment)
    reference_of(dataset, config)  # so that a mistake in it shows now
    resolved = {
        **asdict(config),
        "kind": "baseline",
        "precision": "float32",
        "dataset_environment": dataset.environment,
        "dataset_fingerprint": dataset.fingerprint,
        "dataset_reference": dataset.details.get("reference"),
    }
    if crossing := crossing_of(dataset, config):
        tqdm.write(f"warning: {crossing}", file=sys.stderr)
    assert config.held_out_fraction is not None
    training, held_out = split(dataset, config.held_out_fraction, config.seed)
    return Prepared(config, resolved, dataset, _chosen(training, config), held_out)


def _chosen(dataset: TrajectoryDataset, config: BaselineConfig) -> TrajectoryDataset:
    """The episodes to learn from: a share drawn by the seed, and the best of those."""
    if config.data_fraction < 1:
        dataset = random_fraction(dataset, config.data_fraction, generator(config.seed, "data-fraction"))
    if config.top_fraction < 1:
        dataset = top_fraction(dataset, config.top_fraction)
    return delayed_reward(dataset) if config.delayed_reward else dataset


def make_learner(config: BaselineConfig, training: TrajectoryDataset, device: str) -> Learner:
    """What learns as the configuration says.

    Raises:
        MissingExtraError: it needs d3rlpy, which is not installed.
    """
    if config.algorithm == "bc":
        return Cloning(config, training, device)
    from wikirl.recipes.d3rlpy_learner import D3rlpyLearner

    return D3rlpyLearner(config, training, device)


class Session:
    """One process's share of a baseline's run."""

    def __init__(self, prepared: Prepared, learner: Learner, run: Run) -> None:
        """Continue from the newest checkpoint, if there is one."""
        self.config, self.prepared = prepared.config, prepared
        self.learner, self.run = learner, run
        self.evaluations: list[Evaluation] = []
        self.done, self.seconds_before = 0, 0.0
        if saved := run.resume():
            learner.load(saved)
            self.evaluations = [Evaluation.from_json(value) for value in saved.state["evaluations"]]
            self.done, self.seconds_before = saved.step, saved.state["seconds"]

    def steps(self) -> Iterator[dict[str, Any]]:
        """Learn from where the run stands to its end, under a progress bar."""
        steps, total = self.learner.steps(self.done + 1), self.config.num_steps
        name = self.config.algorithm
        with tqdm(steps, total=total, initial=self.done, desc=name, unit="step", dynamic_ncols=True) as bar:
            self.bar: tqdm[Any] = bar
            for metrics in bar:
                bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
                yield metrics

    def record(self, metrics: dict[str, Any]) -> None:
        """Log the step; score and save when it is time."""
        step, config = metrics["step"], self.config
        assert config.eval_every is not None
        assert config.checkpoint_every is not None
        last = step == config.num_steps
        figures = self._score(step) if last or step % config.eval_every == 0 else {}
        seconds = round(self.seconds_before + self.bar.format_dict["elapsed"], 3)
        self.run.log({**metrics, **figures, "seconds": seconds})
        if last or step % config.checkpoint_every == 0:
            self.checkpoint(step)

    def _score(self, step: int) -> dict[str, Any]:
        config, policy = self.config, self.learner.policy
        figures: dict[str, Any] = {}
        if self.prepared.held_out is not None:
            figures |= perceptron_errors(policy, self.prepared.held_out)
        if config.environment:
            found = score_policy(
                policy, config.environment, target_return=None, num_episodes=config.eval_episodes,
                seed=config.evaluation_seed, step=step, delayed_reward=config.delayed_reward,
                reference=reference_of(self.prepared.dataset, config),
            )  # fmt: skip
            self.evaluations.append(found)
            entry = evaluation_entry(found)
            figures["evaluations"] = [entry]
            self.bar.write(f"step {step}: {one_line(entry)}", file=sys.stderr)
        return figures

    def checkpoint(self, step: int) -> None:
        """Save everything a later process needs to continue to the same bits."""
        state = {
            **self.learner.state(),
            "evaluations": [evaluation.to_json() for evaluation in self.evaluations],
            "seconds": self.seconds_before + self.bar.format_dict["elapsed"],
        }
        self.run.save_checkpoint(step, self.learner.tensors(), state)

    def finish(self) -> dict[str, Any]:
        """Leave the policy and the scores."""
        config, policy = self.config, self.learner.policy
        details = {name: getattr(config, name) for name in ("dataset", "algorithm", "environment", "num_steps")}
        save_perceptron(policy, self.run.folder / "policy", details)
        scores: dict[str, Any] = {
            "num_steps": config.num_steps,
            "num_parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        }
        if self.prepared.held_out is not None:
            scores |= perceptron_errors(policy, self.prepared.held_out)
        if config.environment:
            dataset = self.prepared.dataset
            scores |= scores_in_full(config, dataset, self.evaluations, (None,), policy.action_selection)
        write_json(self.run.folder / "scores.json", scores)
        return scores
