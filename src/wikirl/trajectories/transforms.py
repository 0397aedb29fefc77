"""Datasets from datasets: pure functions that leave their input alone and note in `details` what they did.

This file knows episodes. It deliberately knows nothing about sampling: delayed rewards, best episodes and
mixtures are other datasets, not flags of the sampler.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int

from wikirl.errors import ConfigError, DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset, returns_to_go
from wikirl.trajectories.growing import give_back_pages
from wikirl.trajectories.validation import check_finite


def delayed_reward(dataset: TrajectoryDataset) -> TrajectoryDataset:
    """Move all of an episode's reward to its last step, so that every return-to-go is the episode's return.

    Source: Decision Transformer (arXiv 2106.01345), section 5.5.
    """
    rewards = np.zeros(dataset.num_steps, dtype=np.float32)
    rewards[dataset.starts[1:] - 1] = dataset.returns
    return replace(
        dataset,
        name=f"{dataset.name}+delayed",
        rewards=rewards,
        returns_to_go=np.repeat(dataset.returns, dataset.lengths),
        details=_noting(dataset, "delayed_reward"),
    )


def take_episodes(dataset: TrajectoryDataset, indices: Int[np.ndarray, "M"] | Sequence[int]) -> TrajectoryDataset:
    """Keep the episodes at `indices`, in that order; copies them.

    Raises:
        DatasetError: `indices` is empty or names an episode that does not exist.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    if chosen.size == 0:
        raise DatasetError(f"{dataset.name}: no episodes were asked for")
    if chosen.min() < 0 or chosen.max() >= dataset.num_episodes:
        raise DatasetError(
            f"{dataset.name}: episode {chosen.min() if chosen.min() < 0 else chosen.max()} was asked for, "
            f"there are 0 to {dataset.num_episodes - 1}"
        )
    lengths = dataset.lengths[chosen]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first = dataset.starts[chosen]
    return replace(
        dataset,
        observations=_copied(dataset.observations, first, starts),
        actions=_copied(dataset.actions, first, starts),
        rewards=_copied(dataset.rewards, first, starts),
        returns_to_go=_copied(dataset.returns_to_go, first, starts),
        starts=starts,
        terminated=dataset.terminated[chosen],
        details=_noting(dataset, f"take_episodes: {len(chosen)} of {dataset.num_episodes}"),
    )


def _copied(steps: npt.NDArray[Any], first: Int[np.ndarray, "M"], starts: Int[np.ndarray, "M1"]) -> npt.NDArray[Any]:
    """The steps of episodes that begin at `first`, put where `starts` says; a memory map gives its pages back."""
    copy = np.empty((starts[-1], *steps.shape[1:]), dtype=steps.dtype)
    for source, (start, end) in zip(first.tolist(), pairwise(starts.tolist()), strict=True):
        copy[start:end] = steps[source : source + end - start]
    give_back_pages(steps)
    return copy


def split_episodes(
    dataset: TrajectoryDataset, held_out_fraction: float, generator: np.random.Generator
) -> tuple[TrajectoryDataset, TrajectoryDataset]:
    """Split whole episodes at random into (train, held out); each part keeps the order of the data.

    Args:
        dataset: At least two episodes.
        held_out_fraction: Share of episodes, between 0 and 1; rounded, at least one episode on each side.
        generator: Chooses the episodes.

    Raises:
        ConfigError: the fraction is not strictly between 0 and 1.
        DatasetError: there is only one episode.
    """
    if not 0 < held_out_fraction < 1:
        raise ConfigError(f"held_out_fraction must lie between 0 and 1, found {held_out_fraction}")
    if dataset.num_episodes < 2:
        raise DatasetError(f"{dataset.name}: one episode cannot be split; at least two are needed")
    count = min(max(round(held_out_fraction * dataset.num_episodes), 1), dataset.num_episodes - 1)
    order = generator.permutation(dataset.num_episodes)
    return take_episodes(dataset, np.sort(order[count:])), take_episodes(dataset, np.sort(order[:count]))


def random_fraction(dataset: TrajectoryDataset, fraction: float, generator: np.random.Generator) -> TrajectoryDataset:
    """Keep a random share of the episodes, rounded, at least one; they keep the order of the data.

    Args:
        dataset: Any.
        fraction: Above 0 and at most 1, such as 0.1, 0.01 or 0.005.
        generator: Chooses the episodes.

    Raises:
        ConfigError: the fraction is not above 0 and at most 1.

    Source: the low-data sets of LaMo (arXiv 2310.20587).
    """
    _check_share(fraction)
    count = max(round(fraction * dataset.num_episodes), 1)
    kept = take_episodes(dataset, np.sort(generator.permutation(dataset.num_episodes)[:count]))
    note = f"random_fraction: {fraction:g}, {count} of {dataset.num_episodes} episodes"
    return replace(kept, name=f"{dataset.name}+random{fraction:g}", details=_noting(dataset, note))


def scale_rewards(dataset: TrajectoryDataset, factor: float, shift: float = 0.0) -> TrajectoryDataset:
    """Multiply every reward by `factor`, then add `shift` to it; returns-to-go follow.

    `details["reward_scale"]` keeps the factor of all calls so far, and tells that returns are no longer the
    environment's.

    Raises:
        ConfigError: a number is not finite, or the factor is 0.
        DatasetError: a reward or a return no longer fits float32.
    """
    if not (math.isfinite(factor) and math.isfinite(shift)) or factor == 0:
        raise ConfigError(f"expected finite numbers and a factor other than 0; found factor {factor}, shift {shift}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite; `check_finite` reports it
        rewards = (dataset.rewards * np.float64(factor) + shift).astype(np.float32)
    name = f"{dataset.name}+scaled{factor:g}" + (f"{shift:+g}" if shift else "")
    check_finite(name, "rewards", rewards, dataset.starts)
    to_go = returns_to_go(rewards, dataset.starts)
    check_finite(name, "the sum of rewards", to_go, dataset.starts)
    note = f"scale_rewards: factor {factor:g}" + (f", shift {shift:g}" if shift else "")
    details = {**_noting(dataset, note), "reward_scale": factor * dataset.details.get("reward_scale", 1.0)}
    return replace(dataset, name=name, rewards=rewards, returns_to_go=to_go, details=details)


def top_fraction(dataset: TrajectoryDataset, fraction: float) -> TrajectoryDataset:
    """Keep the best episodes by return while their steps are at most `fraction` of all; never fewer than one.

    Stops at the first episode that does not fit, as upstream does, and with `<=`: the released code's `<`
    drops the worst episode even when everything is asked for (facts.md Q15). Episodes keep the order of the
    data.

    Raises:
        ConfigError: the fraction is not above 0 and at most 1.
    """
    _check_share(fraction)
    best_first = np.argsort(-dataset.returns, kind="stable")
    steps = np.cumsum(dataset.lengths[best_first])
    count = max(int(np.searchsorted(steps, fraction * dataset.num_steps, side="right")), 1)
    kept = take_episodes(dataset, np.sort(best_first[:count]))
    return replace(
        kept, name=f"{dataset.name}+top{fraction:g}", details=_noting(dataset, f"top_fraction: {fraction:g}")
    )


def concatenate(datasets: Sequence[TrajectoryDataset], name: str) -> TrajectoryDataset:
    """Put datasets one after the other, as D4RL's medium-expert is medium and expert.

    Raises:
        DatasetError: nothing was given, or spaces, environments or reward scales differ.
    """
    if not datasets:
        raise DatasetError(f"{name}: there are no datasets to put together")
    first = datasets[0]
    for other in datasets[1:]:
        for field in ("environment", "observation_space", "action_space"):
            if getattr(other, field) != getattr(first, field):
                raise DatasetError(
                    f"{name}: {first.name} and {other.name} differ in {field}: "
                    f"{getattr(first, field)} and {getattr(other, field)}"
                )
        if _scale(other) != _scale(first):
            raise DatasetError(
                f"{name}: rewards of {first.name} are scaled by {_scale(first):g}, those of {other.name} by "
                f"{_scale(other):g}; scale after mixing"
            )
    offsets = np.cumsum([0, *(dataset.num_steps for dataset in datasets)])
    starts = [dataset.starts[:-1] + offset for dataset, (offset, _) in zip(datasets, pairwise(offsets), strict=True)]
    return build_dataset(
        name,
        _joined(datasets, "observations"),
        _joined(datasets, "actions"),
        _joined(datasets, "rewards"),
        np.concatenate([*starts, offsets[-1:]]),
        _joined(datasets, "terminated"),
        observation_space=first.observation_space,
        action_space=first.action_space,
        environment=first.environment,
        details={
            "parts": [{"name": d.name, "fingerprint": d.fingerprint, **d.details} for d in datasets],
            **_shared(datasets),
        },
    )


def _scale(dataset: TrajectoryDataset) -> float:
    return float(dataset.details.get("reward_scale", 1.0))


def _shared(datasets: Sequence[TrajectoryDataset]) -> dict[str, Any]:
    """What of the parts' details holds for the whole."""
    first = datasets[0].details
    shared = {
        key: first[key]
        for key in ("reference", "reward_scale")
        if key in first and all(dataset.details.get(key) == first[key] for dataset in datasets)
    }
    lossy = any(dataset.details.get("lossy_images") for dataset in datasets)
    return shared | ({"lossy_images": True} if lossy else {})


def mixture(
    datasets: Sequence[TrajectoryDataset], fractions: Sequence[float], generator: np.random.Generator, name: str
) -> TrajectoryDataset:
    """A random share of the episodes of each dataset, one dataset after the other; 1 takes all of it as it is.

    Raises:
        ConfigError: there is not one fraction for each dataset, or one is not above 0 and at most 1.
        DatasetError: nothing was given, or spaces or environments differ.
    """
    if len(datasets) != len(fractions):
        raise ConfigError(f"expected one fraction for each of {len(datasets)} datasets; found {len(fractions)}")
    parts = [
        dataset if fraction == 1 else random_fraction(dataset, fraction, generator)
        for dataset, fraction in zip(datasets, fractions, strict=True)
    ]
    return concatenate(parts, name)


def _check_share(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction must lie above 0 and be at most 1, found {fraction}")


def _joined(datasets: Sequence[TrajectoryDataset], field: str) -> npt.NDArray[Any]:
    return np.concatenate([getattr(dataset, field) for dataset in datasets])


def _noting(dataset: TrajectoryDataset, what: str) -> dict[str, Any]:
    return {**dataset.details, "transforms": [*dataset.details.get("transforms", []), what]}
