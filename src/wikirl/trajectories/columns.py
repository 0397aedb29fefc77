"""Which column of a table is what: named by the user, else guessed from the names that logs commonly have.

This file knows names. It deliberately never looks at values: `steps` does.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import listed, shown
from wikirl.trajectories.tables import Column

NONE = "none"  # as a flag's value: there is no such column
_SINGLE = ("reward", "episode", "terminated", "truncated", "timestep")
DONE_NAMES = ("done", "dones", "d")
REWARD_NAMES = ("reward", "rewards", "rew", "r")
# Names of the first row that has any of them are taken; those of the next are not looked at then.
_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "observation": (("observation", "observations", "obs", "state", "states", "s", "o"),),
    "action": (("action", "actions", "act", "a", "u"),),
    "reward": (REWARD_NAMES,),
    "episode": (
        ("episode", "episodes", "episode_id", "episode_idx", "episode_index", "ep", "traj", "traj_id", "trajectory",
         "trajectory_id", "run", "run_id", "rollout"),
        ("line",),
    ),
    "terminated": (
        ("terminated", "terminateds", "terminal", "terminals", "termination", "terminations"),
        DONE_NAMES,
    ),
    "truncated": (("truncated", "truncateds", "truncation", "truncations", "timeout", "timeouts"),),
    "timestep": (("timestep", "timesteps", "time_step"), ("step", "steps", "t")),
}  # fmt: skip


@dataclass(frozen=True)
class ColumnMapping:
    """Which columns are what. What is empty or None is guessed; "none" says that there is none.

    Attributes:
        observation: Names, globs (`obs_*`) or ranges in the file's order (`x:theta`), put side by side.
        action: Likewise.
        reward: Reward earned by the action of the same row.
        episode: Same value, same episode.
        terminated: True at the last row of an episode that reached a terminal state.
        truncated: True at the last row of an episode that was cut.
        timestep: Counts the steps of an episode; checked, and tells episodes apart where nothing else does.
    """

    observation: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    reward: str | None = None
    episode: str | None = None
    terminated: str | None = None
    truncated: str | None = None
    timestep: str | None = None

    def names(self) -> list[str]:
        """Every column that is used, once each."""
        single = [getattr(self, role) for role in _SINGLE]
        return list(dict.fromkeys([*self.observation, *self.action, *(name for name in single if name)]))

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes."""
        return {role: list(value) if isinstance(value, tuple) else value for role, value in asdict(self).items()}

    @property
    def is_empty(self) -> bool:
        """Whether all is left to be guessed."""
        return self == ColumnMapping()


def resolve_columns(path: Path, columns: Mapping[str, Column], asked: ColumnMapping) -> ColumnMapping:
    """Find every column that was asked for, and guess the others.

    Raises:
        DatasetError: a column does not exist or cannot be used, what is needed is not found, or more than one would
            do; the message says which flag to use and lists the columns.
    """
    found = {role: _asked_for(path, columns, role, getattr(asked, role)) for role in _roles()}
    for role in _roles():
        if found[role] == ():
            taken = {name for names in found.values() for name in names or ()}
            free = [name for name in columns if name not in taken]
            found[role] = (_guess if role in _SINGLE else _guess_many)(path, free, role) or None
    for role in ("observation", "action", "reward"):
        if not found[role]:
            raise DatasetError(
                f"{path}: no column looks like {_article(role)}; name it with --{role}. Columns: {listed(columns)}"
            )
    _check_ends(path, columns, found)
    single: dict[str, Any] = {role: next(iter(found[role] or ()), None) for role in _SINGLE}
    mapping = ColumnMapping(observation=found["observation"] or (), action=found["action"] or (), **single)
    _check_kinds(path, columns, mapping)
    return mapping


def is_common(name: str) -> bool:
    """Whether a name alone may make a column the guess for something."""
    return any(name.lower() in tier for tiers in _NAMES.values() for tier in tiers)


def _roles() -> list[str]:
    # Single columns first: what is left may be an observation.
    return sorted((field.name for field in fields(ColumnMapping)), key=lambda role: role not in _SINGLE)


def _asked_for(
    path: Path, columns: Mapping[str, Column], role: str, asked: str | Sequence[str] | None
) -> tuple[str, ...] | None:
    """Names for what was asked; () if nothing was, None if there is none."""
    patterns = (asked,) if isinstance(asked, str) else asked or ()
    if NONE in patterns and NONE not in columns:
        return None
    names = tuple(dict.fromkeys(name for pattern in patterns for name in _matching(path, list(columns), role, pattern)))
    if role in _SINGLE and len(names) > 1:
        raise DatasetError(f"{path}: --{role} takes one column, found {listed(names)}")
    return names


def _matching(path: Path, names: list[str], role: str, pattern: str) -> list[str]:
    if pattern in names:
        return [pattern]
    first, colon, last = pattern.partition(":")
    if colon and first in names and last in names:
        start, stop = names.index(first), names.index(last)
        return names[min(start, stop) : max(start, stop) + 1]
    matches = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not matches:
        raise DatasetError(f"{path}: --{role}: there is no column {shown(pattern)!r}. Columns: {listed(names)}")
    return matches


def _guess(path: Path, names: list[str], role: str) -> tuple[str, ...] | None:
    """One column by its name; None if there is none."""
    by_tier = ([name for name in names if name.lower().strip() in tier] for tier in _NAMES[role])
    matches = next((found for found in by_tier if found), [])
    if len(matches) > 1:
        raise DatasetError(
            f"{path}: {listed(matches)} may each be {_article(role)}; choose with --{role}, "
            f"or say --{role} {NONE}. Columns: {listed(names)}"
        )
    return tuple(matches) or None


def _guess_many(path: Path, names: list[str], role: str) -> tuple[str, ...]:
    """One column of that name, or all that begin with it: `obs_0`, `obs.x`, `s3`."""
    groups: dict[str, list[str]] = {}
    stems = "|".join(sorted(_NAMES[role][0], key=len, reverse=True))
    for name in names:
        if match := re.fullmatch(rf"({stems})(?:[_.\- \[(].+|\d+)?", name.strip(), re.IGNORECASE):
            groups.setdefault(match[1].lower(), []).append(name)
    if len(groups) > 1:
        choices = " or ".join(listed(group[:2]) for group in groups.values())
        raise DatasetError(f"{path}: {choices} may be the {role}; choose with --{role}. Columns: {listed(names)}")
    return tuple(next(iter(groups.values()), ()))


def _check_ends(path: Path, columns: Mapping[str, Column], found: Mapping[str, Any]) -> None:
    if not any(found[role] for role in ("episode", "terminated", "truncated", "timestep")):
        raise DatasetError(
            f"{path}: no column says where episodes end; name one with --episode, --terminated, --truncated or "
            f"--timestep. Columns: {listed(columns)}"
        )


def _check_kinds(path: Path, columns: Mapping[str, Column], mapping: ColumnMapping) -> None:
    several = [name for name in mapping.observation if name in mapping.action or name == mapping.reward]
    if several:
        raise DatasetError(f"{path}: {listed(several)} cannot be observation and action or reward at once")
    for role in _roles():
        value = getattr(mapping, role)
        names = (value,) if isinstance(value, str) else value or ()
        for name in names:
            column = columns[name]
            wish = _wish(role, column, alone=len(names) == 1)
            if wish:
                raise DatasetError(
                    f"{path}: --{role}: column {shown(name)} must hold {wish}; choose others. "
                    f"Columns: {listed(columns)}"
                )


def _wish(role: str, column: Column, *, alone: bool) -> str:
    """What a column should hold for its role; empty if it does."""
    text_is_fine = role in ("episode", "terminated", "truncated") or (role == "action" and alone)
    if column.kind == "other" or (column.kind == "text" and not text_is_fine):
        return "numbers" if not text_is_fine else "numbers or text"
    if role in _SINGLE and column.shape not in ((), (1,)):
        return "one value a row"
    if role == "action" and len(column.shape) > 1:
        return "at most one list of numbers a row"
    return (
        "one number or one list of numbers a row, next to other columns" if not alone and len(column.shape) > 1 else ""
    )


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"
