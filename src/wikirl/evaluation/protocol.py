"""The protocol stamp: everything besides the policy that decides a score, so that tables refuse to mix.

This file knows which settings make two numbers comparable. It deliberately knows no scores and no statistics.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, Literal, NoReturn, get_args

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import crosses_versions, split_id, versions
from wikirl.evaluation.references import ReferenceScore, reference_for
from wikirl.types import ActionSelection

CheckpointRule = Literal["last", "mean_last_four", "best"]
Acting = Literal["exact", "cached"]


@dataclass(frozen=True)
class Protocol:
    """How a number was made.

    Attributes:
        checkpoints: Rules by which the reported checkpoints were chosen.
        target_return: The return asked for, in environment units; None for a policy that is not asked for
            one.
        environment_id: Where the episodes were played.
        gymnasium: Version of Gymnasium.
        mujoco: Version of MuJoCo; it decides the physics. `absent` if it is not installed.
        reference: Name of the reference scores with the versions they are defined on, or with their numbers if they
            are not published; None for raw returns only.
        num_episodes: Episodes per evaluation.
        seeds: Evaluation seeds, which start the episodes; the training seed is no part of the protocol.
        delayed_reward: Whether the policy was told rewards only at the end of an episode.
        acting: `exact` if each action was computed from the last K steps alone, `cached` if keys and values were kept.
        action_selection: `greedy` if the likeliest choice was taken, `sampled` if one was drawn; None for vectors.
        dataset_environment: Where the training data were made; None if unknown.
        version_warning: What `crosses_versions` says about the two environments.
    """

    checkpoints: tuple[CheckpointRule, ...]
    target_return: float | None
    environment_id: str
    gymnasium: str
    mujoco: str
    reference: str | None
    num_episodes: int
    seeds: tuple[int, ...]
    delayed_reward: bool
    acting: Acting
    action_selection: ActionSelection | None
    dataset_environment: str | None
    version_warning: str | None

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Protocol":
        """The inverse of `to_json`.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong kind, or a checkpoint rule is not one of
                ours.
        """
        if not isinstance(value, dict) or set(value) != set(_KINDS):
            raise ConfigError(f"a protocol stamp needs exactly {', '.join(_KINDS)}; found {value!r}")
        for name, kind in _KINDS.items():
            if not isinstance(value[name], kind):
                raise ConfigError(f"a protocol stamp cannot have {value[name]!r} as its {name}")
        _check_rules(value["checkpoints"])
        return cls(**(value | {name: tuple(value[name]) for name in ("checkpoints", "seeds")}))


# What each field is in a JSON file.
_KINDS: dict[str, type | UnionType] = {
    "checkpoints": list,
    "target_return": float | int | None,
    "environment_id": str,
    "gymnasium": str,
    "mujoco": str,
    "reference": str | None,
    "num_episodes": int,
    "seeds": list,
    "delayed_reward": bool,
    "acting": str,
    "action_selection": str | None,
    "dataset_environment": str | None,
    "version_warning": str | None,
}


def stamp_protocol(  # noqa: PLR0913 - one argument for each field that is not filled in
    environment_id: str,
    *,
    checkpoints: Sequence[CheckpointRule],
    target_return: float | None,
    num_episodes: int,
    seeds: Sequence[int],
    delayed_reward: bool = False,
    acting: Acting = "exact",
    action_selection: ActionSelection | None = None,
    dataset_environment: str | None = None,
    reference: ReferenceScore | None = None,
) -> Protocol:
    """The protocol of a score made here and now: fills in versions, the warning about them, and the reference.

    Without a `reference` it is the published one of the task, if there is one.

    Raises:
        ConfigError: no checkpoint rule, or one that is not ours.
    """
    _check_rules(checkpoints)
    reference = reference or reference_for(environment_id)
    crossing = crosses_versions(dataset_environment, environment_id) if dataset_environment else None
    return Protocol(
        checkpoints=tuple(checkpoints),
        target_return=target_return,
        environment_id=environment_id,
        gymnasium=versions()["gymnasium"],
        mujoco=versions()["mujoco"],
        reference=None if reference is None else reference.stamp,
        num_episodes=num_episodes,
        seeds=tuple(seeds),
        delayed_reward=delayed_reward,
        acting=acting,
        action_selection=action_selection,
        dataset_environment=dataset_environment,
        version_warning=crossing,
    )


def same_protocol(a: Protocol, b: Protocol) -> bool:
    """Whether two numbers may stand in one column."""
    return not differing_fields(a, b)


def differing_fields(a: Protocol, b: Protocol) -> tuple[str, ...]:
    """Names of the fields that differ, and `environment_version` where the version suffixes do."""
    names = [field.name for field in fields(Protocol) if getattr(a, field.name) != getattr(b, field.name)]
    if split_id(a.environment_id)[1] != split_id(b.environment_id)[1]:
        names.append("environment_version")
    return tuple(names)


def require_same_protocol(protocols: Sequence[Protocol], *, may_differ: Collection[str] = ()) -> None:
    """Refuse to mix protocols in one table.

    Args:
        protocols: Stamps of everything that goes into the table.
        may_differ: Fields that the table itself shows. A table over tasks names `environment_id`,
            `dataset_environment`, `reference` and `target_return`; even then all tasks must be of one
            `environment_version`, and each environment must have one reference.

    Raises:
        ConfigError: two stamps differ in a field that may not; names the fields and both values. Or
            `may_differ` names no field.
    """
    known = {field.name for field in fields(Protocol)} | {"environment_version"}
    if not set(may_differ) <= known:
        raise ConfigError(f"no such protocol field: {', '.join(sorted(set(may_differ) - known))}")
    for other in protocols[1:]:
        names = [name for name in differing_fields(protocols[0], other) if name not in may_differ]
        if names:
            _refuse(protocols[0], other, names)
    scales: dict[str, Protocol] = {}
    for protocol in protocols:
        first = scales.setdefault(protocol.environment_id, protocol)
        if first.reference != protocol.reference:
            _refuse(first, protocol, ["reference"])


def _refuse(a: Protocol, b: Protocol, names: Sequence[str]) -> NoReturn:
    detail = "; ".join(f"{name}: {_value(a, name)} and {_value(b, name)}" for name in names)
    raise ConfigError(f"these scores were made under different protocols ({detail}); use two tables")


def _check_rules(checkpoints: Sequence[Any]) -> None:
    rules = get_args(CheckpointRule)
    if not checkpoints or any(rule not in rules for rule in checkpoints):
        raise ConfigError(f"checkpoint rules are {', '.join(rules)}; found {list(checkpoints)!r}")


def _value(protocol: Protocol, name: str) -> str:
    if name == "environment_version":
        return str(split_id(protocol.environment_id)[1])
    return repr(getattr(protocol, name))
