"""The tasks that suites speak of, and where their data come from: D4RL's own, families collected here, shipped cuts.

This file knows names, target returns and what a reader must know of each source. It deliberately does not know what is
on this machine (availability.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wikirl.experiments.suite import Source, TaskPlan

KINDS = ("medium", "medium-replay", "medium-expert")
_OWN = "collected here with wikirl data collect; scores compare with each other only, not with published ones"
_D4RL = "D4RL's own data, scored in the closest environment that Gymnasium still has"
_SHIPPED = "a cut of a family collected here, shipped with wikirl; scores compare with each other only"
# Environment of a family made here, Gymnasium's closest to D4RL's, and the paper's higher target (facts.md 1.4).
_LOCOMOTION = {
    "hopper": ("Hopper-v5", "Hopper-v4", 3600.0),
    "halfcheetah": ("HalfCheetah-v5", "HalfCheetah-v4", 12000.0),
    "walker2d": ("Walker2d-v5", "Walker2d-v4", 5000.0),
}
# What the shipped sets are asked for: a return that the data contain (docs/results/families.md).
_HOPPER, _REACHER, _MAZE, _CARTPOLE = 2800.0, 76.0, 180.0, 230.0


def locomotion(name: str, kind: str) -> TaskPlan:
    """A D4RL task of the paper, such as hopper and medium-replay."""
    own, closest, target = _LOCOMOTION[name]
    sources = [
        Source(f"d4rl:{name}-{kind}-v2", closest, target, _D4RL),
        Source(f"minari:{name}/{kind}-v0", own, target, _OWN),
    ]
    if name == "hopper" and kind != "medium-expert":
        sources.append(Source(f"builtin:hopper-{kind}", own, _HOPPER, _SHIPPED))
    return TaskPlan(f"{name}-{kind}", tuple(sources))


def reacher(kind: str) -> TaskPlan:
    """The paper's own environment; its windows are 5 steps long (facts.md 2.1)."""
    environment = "wikirl/Reacher2d-v0"
    sources = [Source(f"minari:reacher2d/{kind}-v0", environment, _REACHER, _OWN)]
    if kind != "medium-expert":
        sources.append(Source(f"builtin:reacher2d-{kind}", environment, _REACHER, _SHIPPED))
    return TaskPlan(f"reacher2d-{kind}", tuple(sources), {"context_length": 5})


def maze(kind: str) -> TaskPlan:
    """The long-horizon task."""
    environment = "wikirl/PointMaze-v0"
    own = Source(f"minari:pointmaze/{kind}-v0", environment, _MAZE, _OWN)
    return TaskPlan(f"pointmaze-{kind}", (own, Source(f"builtin:pointmaze-{kind}", environment, _MAZE, _SHIPPED)))


def shipped(name: str) -> TaskPlan:
    """A task on a shipped dataset and nothing else, so that everybody's numbers are of the same data."""
    targets = {"hopper": ("Hopper-v5", _HOPPER), "cartpole": ("CartPole-v1", _CARTPOLE)}
    environment, target = targets[name.partition("-")[0]]
    return TaskPlan(name, (Source(f"builtin:{name}", environment, target, _SHIPPED),))


def varied(task: TaskPlan, name: str, settings: Mapping[str, Any]) -> TaskPlan:
    """The same task under other settings, such as a share of the data."""
    return replace(task, name=f"{task.name}, {name}", settings={**task.settings, **settings})


PAPER_TASKS = tuple(
    [locomotion(name, kind) for name in _LOCOMOTION for kind in KINDS] + [reacher(kind) for kind in KINDS]
)
