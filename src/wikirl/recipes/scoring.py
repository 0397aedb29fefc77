"""What recipes do with a policy: does it fit an environment, what does it score, how were the numbers made.

A policy that is asked for a return and one that is not are scored in the same episodes under the same protocol; only
the target differs, which is None for the second. This file deliberately does not know how a policy was trained.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import EnvironmentSpec, crosses_versions
from wikirl.evaluation.parallel import rollout_in_processes
from wikirl.evaluation.protocol import stamp_protocol
from wikirl.evaluation.references import ReferenceScore, choose_reference
from wikirl.evaluation.rollout import Rollout, rollout
from wikirl.evaluation.scores import Evaluation, summarize
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.types import ActionSelection, Policy, Space


@runtime_checkable
class ScoreSettings(Protocol):
    """What a configuration says of scoring; that of fine-tuning and of baselines alike."""

    @property
    def environment(self) -> str | None:
        """Gymnasium id to score in."""

    @property
    def eval_episodes(self) -> int:
        """Episodes a score."""

    @property
    def evaluation_seed(self) -> int:
        """Seed of the episodes."""

    @property
    def delayed_reward(self) -> bool:
        """Whether the policy is told rewards only at the end."""

    @property
    def reference(self) -> tuple[float, ...] | None:
        """Returns that a normalised score puts at 0 and 100, if the user says so."""


@runtime_checkable
class HasSpaces(Protocol):
    """A dataset or a policy."""

    @property
    def observation_space(self) -> Space:
        """What one observation looks like."""

    @property
    def action_space(self) -> Space:
        """What one action looks like."""


def score(  # noqa: PLR0913 - one argument for each setting of a score
    policy: DecisionTransformerPolicy,
    environment: str,
    target_returns: Sequence[float],
    *,
    num_episodes: int,
    seed: int,
    step: int,
    delayed_reward: bool = False,
    num_processes: int = 1,
    reference: ReferenceScore | None = None,
) -> list[Evaluation]:
    """One evaluation per target return, all from the same starting states; arguments as of `score_policy`."""
    evaluations = []
    asked_before = policy.target_return
    for target in target_returns:
        policy.target_return = target
        evaluations.append(
            score_policy(
                policy, environment, target_return=target, num_episodes=num_episodes, seed=seed, step=step,
                delayed_reward=delayed_reward, num_processes=num_processes, reference=reference,
            )
        )  # fmt: skip
    policy.target_return = asked_before
    return evaluations


def score_policy(  # noqa: PLR0913 - one argument for each setting of a score
    policy: Policy,
    environment: str,
    *,
    target_return: float | None,
    num_episodes: int,
    seed: int,
    step: int,
    delayed_reward: bool = False,
    num_processes: int = 1,
    reference: ReferenceScore | None = None,
) -> Evaluation:
    """Play the episodes of one evaluation under a progress bar.

    Args:
        policy: Who plays.
        environment: Gymnasium id.
        target_return: The return that the policy was asked for; None if it is not asked for one.
        num_episodes: How many episodes.
        seed: Seed of their starts.
        step: Training step of the policy.
        delayed_reward: As in `rollout`.
        num_processes: How many processes share the episodes.
        reference: What the returns are normalised by; default: the published one, if there is one.
    """
    settings: dict[str, Any] = {"num_episodes": num_episodes, "seed": seed, "delayed_reward": delayed_reward}
    title = "scoring" if target_return is None else f"scoring, target {target_return:g}"
    if num_processes > 1:
        with tqdm(desc=title, total=num_episodes, unit="episode", leave=False) as bar:
            episodes = rollout_in_processes(
                policy, environment, num_processes=num_processes, on_share=bar.update, **settings
            )
    else:
        episodes = _rollout_under_a_bar(policy, environment, title, settings)
    return Evaluation.of(environment, step, target_return, episodes.returns, episodes.lengths, reference)


def _rollout_under_a_bar(policy: Policy, environment: str, title: str, settings: dict[str, Any]) -> Rollout:
    with tqdm(desc=title, unit="step", leave=False) as bar:

        def show(_step: int, live: int) -> None:
            bar.set_postfix(running=live, refresh=False)
            bar.update()

        return rollout(policy, environment, on_step=show, **settings)


def evaluation_entry(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation that fit on one line."""
    return {
        "step": evaluation.step,
        "target_return": evaluation.target_return,
        "return_mean": float(np.mean(evaluation.returns)),
        "return_std": float(np.std(evaluation.returns)),
        "normalized_score": None if evaluation.normalized is None else float(np.mean(evaluation.normalized)),
        "length_mean": float(np.mean(evaluation.lengths)),
        "num_episodes": len(evaluation.returns),
    }


def one_line(entry: Mapping[str, Any]) -> str:
    """An `evaluation_entry` in words."""
    normalized = "" if entry["normalized_score"] is None else f" (normalised {entry['normalized_score']:.1f})"
    target = "" if entry["target_return"] is None else f" at target {entry['target_return']:g}"
    return f"return {entry['return_mean']:.0f} ± {entry['return_std']:.0f}{normalized}{target}"


def scores_in_full(
    config: ScoreSettings,
    dataset: TrajectoryDataset,
    evaluations: Sequence[Evaluation],
    target_returns: Sequence[float | None],
    action_selection: ActionSelection | None,
) -> dict[str, Any]:
    """What scores.json says of a run that was scored in an environment."""
    assert config.environment is not None
    crossing = crossing_of(dataset, config)
    settings: dict[str, Any] = {
        "checkpoints": ("last", "mean_last_four", "best"), "num_episodes": config.eval_episodes,
        "seeds": (config.evaluation_seed,), "delayed_reward": config.delayed_reward,
        "dataset_environment": dataset.environment, "action_selection": action_selection,
        "reference": reference_of(dataset, config),
    }  # fmt: skip
    stamps = [stamp_protocol(config.environment, target_return=target, **settings) for target in target_returns]
    return {
        "environment": config.environment,
        "warnings": [crossing] if crossing else [],
        "summary": [summary.to_json() for summary in summarize(evaluations)],
        "protocols": [stamp.to_json() for stamp in stamps],
        "evaluations": [evaluation.to_json() for evaluation in evaluations],
    }


def reference_of(dataset: TrajectoryDataset, config: ScoreSettings) -> ReferenceScore | None:
    """What the scores of a run are normalised by.

    Raises:
        ConfigError: numbers that make no scale.
    """
    own = dataset.details.get("reference")
    return choose_reference(config.environment, given=config.reference, own=own, own_environment=dataset.environment)


def crossing_of(dataset: TrajectoryDataset, config: ScoreSettings) -> str | None:
    """What is wrong with scoring in another environment than the data come from; None if they are the same."""
    if dataset.environment is None or config.environment is None:
        return None
    return crosses_versions(dataset.environment, config.environment)


def fitted(dataset: TrajectoryDataset, environment: EnvironmentSpec) -> TrajectoryDataset:
    """The dataset, with the environment's choices if it has fewer: logs do not tell of those that nobody made.

    Raises:
        ConfigError: it does not fit the environment.
    """
    known, offered = dataset.action_space.n, environment.action_space.n
    if known is None or offered is None or known >= offered:
        check_fit(environment, dataset)
        return dataset
    dataset = replace(dataset, action_space=environment.action_space)
    check_fit(environment, dataset)
    tqdm.write(
        f"warning: {dataset.name} has {known} choices of action, {environment.id} {offered}; "
        "the policy learns never to make the others",
        file=sys.stderr,
    )
    return dataset


def check_fit(spec: EnvironmentSpec, dataset_or_policy: HasSpaces) -> None:
    """Refuse an environment whose observations or actions have another shape, or other choices.

    Raises:
        ConfigError: shapes or numbers of choices differ.
    """
    for kind in ("observation", "action"):
        theirs, ours = (_described(getattr(owner, f"{kind}_space")) for owner in (spec, dataset_or_policy))
        if theirs != ours:
            raise ConfigError(
                f"expected {spec.id} to have {kind}s of {ours}, as in the data; found {theirs}; "
                "choose the environment that the data were made in"
            )


def _described(space: Space) -> str:
    return f"shape {space.shape}" if space.n is None else f"{space.n} choices"
