"""Reference scores: the two returns that a normalised score puts at 0 and 100 per cent, and who says so.

This file knows what is published for a task, and when the data's own or the user's numbers count instead. It
deliberately knows no simulator and no data, so a report can read scores without MuJoCo.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from wikirl.errors import ConfigError

# As in docs/differences.md: read in a primary source, or recalled and not confirmed.
Mark = Literal["V", "R-high"]
_TWINS = ("", "wikirl", "ale")  # namespaces whose tasks go by the same name without them


@dataclass(frozen=True)
class ReferenceScore:
    """Two returns that a normalised score puts at 0 and 100 per cent.

    Attributes:
        name: What a table prints beside a normalised score.
        minimum: Return of a random policy, in environment units: 0 per cent.
        maximum: Return of the reference expert: 100 per cent.
        source: Where they are published, or who gave them.
        defined_on: Versions of the task that published numbers were measured on; None for numbers of the data or the
            user, which say nothing of versions.
        mark: How sure we are of published numbers: V read in the source, R-high recalled and not confirmed.
    """

    name: str
    minimum: float
    maximum: float
    source: str
    defined_on: str | None = None
    mark: Mark | None = None

    @property
    def stamp(self) -> str:
        """What a protocol keeps of it: two references with one stamp are the same.

        A published name stands for its numbers; others carry them.
        """
        if self.defined_on is not None:
            return f"{self.name} (defined on {self.defined_on}{'' if self.mark == 'V' else '; recalled'})"
        return f"{self.name} ({self.minimum!r} to {self.maximum!r})"

    def normalize(self, returns: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
        """Returns in per cent of the way from minimum to maximum; neither 0 nor 100 is a bound.

        Source: `get_normalized_score` in D4RL's `offline_env.py`, times 100.
        """
        return 100.0 * (returns - self.minimum) / (self.maximum - self.minimum)

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes."""
        return asdict(self)


def _d4rl(task: str, minimum: float, maximum: float) -> tuple[ReferenceScore, ...]:
    # The v0 numbers; D4RL itself reuses them for v1 and v2, and everyone for v3 to v5 too.
    return (ReferenceScore(f"D4RL {task}", minimum, maximum, "D4RL, d4rl/infos.py", "v0, v1, v2", "V"),)


def _atari(
    game: str, gamer: tuple[float, float], dopamine: tuple[float, float], lamo: tuple[float, float], mark: Mark
) -> tuple[ReferenceScore, ...]:
    """Three papers, three pairs; the first is the one that the paper's Atari scores use."""
    return (
        ReferenceScore(f"gamer {game}", *gamer, "Decision Transformer, table 11", "Atari", mark),
        ReferenceScore(
            f"Dopamine human {game}", *dopamine, "Dopamine, labs/atari_100k/normalization_utils.py", "Atari", "V"
        ),
        ReferenceScore(f"LaMo human {game}", *lamo, "LaMo, experiment-atari/get_hns.py", "Atari", "V"),
    )


# The first of a task is its default. `breakout`'s gamer pair was confirmed, the other three are recalled.
REFERENCES = {
    "hopper": _d4rl("hopper", -20.272305, 3234.3),
    "halfcheetah": _d4rl("halfcheetah", -280.178953, 12135.0),
    "walker2d": _d4rl("walker2d", 1.629008, 4592.3),
    "ant": _d4rl("ant", -325.6, 3879.7),
    "breakout": _atari("breakout", (2.0, 30.0), (1.7, 30.5), (1.7, 31.8), "V"),
    "qbert": _atari("qbert", (164.0, 13455.0), (163.9, 13455.0), (163.9, 13455.0), "R-high"),
    "pong": _atari("pong", (-21.0, 15.0), (-20.7, 14.6), (-20.7, 9.3), "R-high"),
    "seaquest": _atari("seaquest", (68.0, 42055.0), (68.4, 42054.7), (68.4, 20181.8), "R-high"),
}


def reference_for(environment_id: str) -> ReferenceScore | None:
    """The published reference scores of a task, whatever its version; None if there are none.

    The numbers were measured on the versions in `defined_on`. Applied to another version they are only a unit
    of measurement, not a bound: experts in v5 exceed 100.
    """
    return choose_reference(environment_id)


def choose_reference(
    environment_id: str | None,
    *,
    given: Sequence[float] | None = None,
    own: Mapping[str, Any] | None = None,
    own_environment: str | None = None,
) -> ReferenceScore | None:
    """Whose numbers count: the user's, else the published ones of the task, else the data's own.

    Args:
        environment_id: Where the returns were earned.
        given: The user's minimum and maximum; if a paper uses just these for the task, its name stands for them.
        own: What the data say: `name`, `minimum`, `maximum` and `source`, as a dataset's `details["reference"]`.
        own_environment: Where the data were made. Their numbers count there only.

    Raises:
        ConfigError: the user's or the data's numbers make no scale.
    """
    published = REFERENCES.get(task_name(environment_id), ()) if environment_id else ()
    if given is not None:
        if len(given) != 2:
            raise ConfigError(f"expected a reference of two returns, minimum and maximum; found {list(given)}")
        numbers = (float(given[0]), float(given[1]))
        known = [known for known in published if (known.minimum, known.maximum) == numbers]
        return known[0] if known else _sound(ReferenceScore("user's own", *numbers, "given by the user"))
    if published:
        return published[0]
    if own is None or environment_id != own_environment:
        return None
    try:
        name, source = str(own["name"]), str(own.get("source", "the data"))
        reference = ReferenceScore(name, float(own["minimum"]), float(own["maximum"]), source)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the data's reference needs name, minimum, maximum and source; found {own!r}") from error
    return _sound(reference)


def normalized_score(environment_id: str, returns: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Returns in per cent of the way from the published random to the published expert return.

    Raises:
        ConfigError: no reference is known; report raw returns only (`reference_for` tells beforehand).
    """
    reference = reference_for(environment_id)
    if reference is None:
        raise ConfigError(
            f"no reference scores are known for {environment_id}, only for {', '.join(REFERENCES)}; report raw returns"
        )
    return reference.normalize(returns)


def task_name(environment_id: str) -> str:
    """An id without version, emulator and a namespace of ours: `hopper` for Hopper-v5, `pong` for ALE/Pong-v5."""
    namespace, _, name = re.sub(r"(NoFrameskip)?-v\d+$", "", environment_id).lower().rpartition("/")
    return name if namespace in _TWINS else f"{namespace}/{name}"


def _sound(reference: ReferenceScore) -> ReferenceScore:
    if not (math.isfinite(reference.minimum) and math.isfinite(reference.maximum)):
        raise ConfigError(f"expected finite returns in the reference {reference.stamp}")
    if reference.minimum >= reference.maximum:
        raise ConfigError(f"expected the reference's minimum below its maximum; found {reference.stamp}")
    return reference
