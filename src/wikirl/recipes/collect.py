"""A D4RL-style family of datasets from any environment with a box observation: `wikirl data collect`.

    train a behaviour policy, keeping every step and a snapshot every so often
      random          uniformly random actions
      medium-replay   every step until the medium snapshot
      medium          the first snapshot a third of the way from random to expert
      expert          the snapshot with the best score
      medium-expert   medium and expert one after the other

This file knows which policy plays what. It deliberately knows neither algorithms (`behaviour`), nor how training is
kept (`behaviour_log`), nor what is written (`family`).
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wikirl.errors import ConfigError
from wikirl.evaluation.collecting import RandomPolicy, play_episodes
from wikirl.evaluation.environments import EnvironmentSpec, describe_environment, split_id
from wikirl.evaluation.point_maze import WaypointController
from wikirl.recipes.behaviour import Learner, algorithms
from wikirl.recipes.behaviour_log import load_snapshot, score, train_behaviour
from wikirl.recipes.collect_settings import Behaviour, CollectConfig, Kind
from wikirl.recipes.family import Part, describe, refuse_existing, write_family
from wikirl.reproducibility import provenance
from wikirl.runs import Run
from wikirl.types import Policy, RecordedEpisode

Episodes = list[RecordedEpisode]
_Player = tuple[Policy, str, str]  # who plays, that in words, and why this one
_CONTROLLED = "wikirl/PointMaze-v0"
_MEDIUM_DETOURS = 2  # a third of the straight way's return: 58 of 185, mean over 100 episodes


def collect(
    config: CollectConfig, out: Path, *, name: str | None = None, minari: bool = True, d4rl: bool = False
) -> dict[str, Any]:
    """Train a behaviour policy, or take the environment's controller, and write a family of datasets.

    Asked again after a kill, it goes on where it stopped, to the same bits.

    Args:
        config: What to make.
        out: Folder of the run; the data card is left there too.
        name: What the family is called; default: the environment's name.
        minari: Write Minari datasets NAME/KIND-v0 into Minari's folder.
        d4rl: Write OUT/d4rl/NAME-KIND.hdf5 in D4RL's layout.

    Returns:
        The card as a JSON object.

    Raises:
        ConfigError: settings that cannot work.
        DatasetError: a dataset of that name exists and is not of this run.
        EnvironmentNotFoundError: as `make_environment`.
        MissingExtraError: a package for the environment or the training is missing.
        RunError: the folder holds another run.
    """
    config.check()
    spec = describe_environment(config.environment)
    config = _resolved(config, spec)
    name = name or split_id(config.environment)[0].rpartition("/")[2].lower()
    if not (minari or d4rl):
        raise ConfigError("expected somewhere to write to; give --d4rl, or leave --no-minari out")
    if config.behaviour != "controller":
        algorithms()  # before a folder is made
    with Run(out, {**asdict(config), "name": name}, provenance(config.seed)) as run:
        ids = {kind: f"{name}/{kind}-v0" for kind in config.kinds} if minari else {}
        files = {kind: out / "d4rl" / f"{name}-{kind}.hdf5" for kind in config.kinds} if d4rl else {}
        refuse_existing(run, ids)
        started = time.monotonic()
        parts = _controlled(config, spec) if config.behaviour == "controller" else _trained(run, config, spec)
        card = describe(config, spec, name, parts, run) | {"minutes": round((time.monotonic() - started) / 60, 1)}
        write_family(run, card, parts, spec, ids, files)
    return card


def _resolved(config: CollectConfig, spec: EnvironmentSpec) -> CollectConfig:
    has_controller = config.environment.rpartition(":")[2] == _CONTROLLED
    if config.behaviour == "controller" and not has_controller:
        raise ConfigError(f"there is a controller for {_CONTROLLED} only; give --behaviour sac, dqn or ppo")
    behaviour: Behaviour = "controller" if has_controller else "ppo" if spec.action_space.is_discrete else "sac"
    config = replace(config, behaviour=config.behaviour or behaviour)
    if config.behaviour == "controller":
        config = replace(config, kinds=tuple(kind for kind in config.kinds if kind != "medium-replay"))
    return config


def _controlled(config: CollectConfig, spec: EnvironmentSpec) -> dict[Kind, Part]:
    medium, expert = WaypointController(_MEDIUM_DETOURS), WaypointController()
    return _played(
        config,
        {
            "random": (RandomPolicy(spec.action_space), "uniformly random actions", ""),
            "medium": (medium, f"waypoint controller by way of {_MEDIUM_DETOURS} random cells", ""),
            "expert": (expert, "waypoint controller by the shortest way", ""),
        },
    )


def _trained(run: Run, config: CollectConfig, spec: EnvironmentSpec) -> dict[Kind, Part]:
    random = RandomPolicy(spec.action_space)
    assert config.behaviour is not None
    assert config.behaviour != "controller"
    learner = Learner(
        config.behaviour,
        config.environment,
        num_steps=config.num_steps,
        stretch_steps=config.num_steps // config.num_snapshots,
        seed=config.seed,
        options=_parsed(config.options),
        on_step=lambda: bar.update(),
    )
    bar = tqdm(total=config.num_steps, desc=f"{config.behaviour} in {config.environment}", unit="step")
    try:
        played = train_behaviour(run, config, learner, bar)
        scores = [line["score"] for line in run.metrics()]
        lowest = score(random, config)
        best = int(np.argmax(scores))
        threshold = min(lowest + config.medium_fraction * (scores[best] - lowest), scores[best])
        medium = next(number for number, reached in enumerate(scores) if reached >= threshold)
        steps = config.num_steps // config.num_snapshots

        def snapshot(number: int, role: str) -> _Player:
            policy = learner.policy(load_snapshot(run, number))
            after = f"{config.behaviour} after {(number + 1) * steps:,} steps"
            return policy, after, f"{role} (score {scores[number]:.1f})"

        parts = _played(
            config,
            {
                "random": (random, "uniformly random actions", ""),
                "medium": snapshot(medium, "the first snapshot past the threshold"),
                "expert": snapshot(best, f"the best of {len(scores)} snapshots, perhaps far from the best possible"),
            },
        )
    finally:
        learner.close()
        bar.close()
    if "medium-replay" in config.kinds:
        replay = [episode for stretch in played[: medium + 1] for episode in stretch]
        parts["medium-replay"] = Part(replay, f"every step of the training until step {(medium + 1) * steps:,}")
    return parts


def _played(config: CollectConfig, policies: Mapping[Kind, _Player]) -> dict[Kind, Part]:
    """Play what is needed of random, medium and expert, which for the reference scores is always the two ends."""
    parts: dict[Kind, Part] = {}
    for number, (kind, (policy, words, role)) in enumerate(policies.items()):
        if kind == "medium" and not {"medium", "medium-expert"} & set(config.kinds):
            continue
        episodes: Episodes = []
        seed = 3 * config.seed + number  # no two kinds share their starts
        with tqdm(total=config.dataset_steps, desc=kind, unit="step", disable=None) as bar:
            for episode in play_episodes(policy, config.environment, num_steps=config.dataset_steps, seed=seed):
                episodes.append(episode)
                bar.update(len(episode.rewards))
        parts[kind] = Part(episodes, words, role)
    if "medium-expert" in config.kinds:
        both = parts["medium"], parts["expert"]
        parts["medium-expert"] = Part(both[0].episodes + both[1].episodes, "medium and expert, one after the other")
    return parts


def _parsed(options: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE as JSON where it is JSON, as text otherwise.

    Raises:
        ConfigError: there is no =.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"expected options of the form NAME=VALUE; found {option!r}")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed
