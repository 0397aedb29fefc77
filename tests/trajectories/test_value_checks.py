"""Each finding about steps: data that has the fault; that the sound data has none is in test_episode_checks."""

from typing import Any

import numpy as np
import pytest

from tests.trajectories.making import Fields, sound_fields
from tests.trajectories.test_episode_checks import find, findings
from tests.trajectories.test_jpeg import games, through_jpeg
from wikirl.trajectories.dataset import build_dataset
from wikirl.types import Space


def observations(column: int, change: Any) -> Fields:
    fields = sound_fields()
    fields["observations"][:, column] = change(fields["observations"][:, column])
    return fields


def rewards(change: Any) -> Fields:
    fields = sound_fields()
    last = np.zeros(len(fields["rewards"]), dtype=bool)
    last[fields["starts"][1:] - 1] = True
    fields["rewards"] = change(fields["rewards"], last)
    return fields


def _glitch(values: Any) -> Any:
    values = values.copy()
    values[100] = -9999
    return values


def _sparse(values: Any, last: Any) -> Any:
    return np.where(np.arange(len(values)) % 250 == 0, np.cumsum(values) % 9, 0)


CASES: dict[str, tuple[Fields, str, str, str]] = {
    "constant": (observations(1, lambda x: 0 * x + 3), "warning", "observations", "never change: 1"),
    "tiny": (observations(2, lambda x: 1e-7 * x), "warning", "observations", "deviation below 0.00001: 2"),
    "far from zero": (observations(0, lambda x: 1.7e7 + x), "warning", "observations", "float32 rounds changes off: 0"),
    "a glitch": (observations(0, _glitch), "warning", "observations", "times as far as nine in ten of their values: 0"),
    "other scale": (observations(0, lambda x: 1e6 * x), "note", "observations", "deviations run from"),
    "equal": (rewards(lambda r, last: 0 * r + 1), "note", "rewards", "every step earns 1"),
    "delayed": (rewards(lambda r, last: np.where(last, np.cumsum(r), 0)), "note", "rewards", "only with the last step"),
    "sparse": (rewards(_sparse), "note", "rewards", "steps earn a reward"),
}


@pytest.mark.parametrize("name", CASES)
def test_observations_and_rewards(name: str) -> None:
    fields, severity, topic, words = CASES[name]
    found = find(words, findings(build_dataset("faulty", **fields)))
    assert (found.severity, found.topic) == (severity, topic)
    assert found.advice


def test_no_observation_differs() -> None:
    fields = sound_fields()
    fields["observations"] = np.zeros_like(fields["observations"])
    assert find("no observation differs", findings(build_dataset("still", **fields))).severity == "warning"


def test_what_an_environment_keeps_still_is_a_note() -> None:
    fields = observations(1, lambda x: 0 * x)
    assert find("never change: 1", findings(build_dataset("ant", **fields, environment="Ant-v5"))).severity == "note"


def test_a_column_twice() -> None:
    fields = sound_fields()
    fields["observations"][:, 2] = fields["observations"][:, 0]
    assert find("equal at every step: 0 and 2", findings(build_dataset("twice", **fields))).severity == "note"


def with_actions(change: Any, **options: Any) -> Any:
    fields = sound_fields()
    fields["actions"] = change(fields["actions"])
    return findings(build_dataset("acting", **fields, **options))


UNIT = Space.box(-1.0, 1.0, (2,))
WIDE = Space.box(np.array([-100.0, -1]), np.array([100.0, 1]), (2,))


@pytest.mark.parametrize(
    ("change", "space", "severity", "words"),
    [
        (lambda a: 0 * a + 0.5, None, "error", "no action differs"),
        (lambda a: a * [1, 0], None, "warning", "never change: 1"),
        (lambda a: 1.5 * a, UNIT, "warning", "outside its bounds, by up to 2"),
        (lambda a: a, Space.box(-np.inf, np.inf, (2,)), "error", "unbounded"),
        (lambda a: a * [1, 0] + [0, 5], None, "error", "a bound equals the opposite one"),
        (lambda a: np.clip(5 * a, -1, 1), None, "note", "at a bound in more than half of the steps: 0 and 1"),
        (lambda a: a * [0.05, 1], None, "warning", "less than a tenth of the range between their bounds: 0"),
        (lambda a: a * [100, 1], WIDE, "warning", "ranges differ"),
        (lambda a: 2 * a, None, "note", "smallest and largest actions seen"),
        (lambda a: np.stack([np.sign(a[:, 0]), a[:, 1]], axis=1), None, "note", "take at most 2 values: 0"),
        (lambda a: np.round(2 * a[:, :1]), None, "warning", "5 whole numbers"),
    ],
)  # fmt: skip
def test_actions(change: Any, space: Space | None, severity: str, words: str) -> None:
    found = find(words, with_actions(lambda a: change(a).astype(np.float32), action_space=space))
    assert (found.severity, found.topic) == (severity, "actions")
    assert found.advice


def test_rounding_beyond_a_bound_is_nothing() -> None:
    assert with_actions(lambda a: np.where(a > 0.9, np.float32(1.00001), a), action_space=UNIT) == ()


def test_known_bounds_are_not_guessed() -> None:
    assert with_actions(lambda a: (2 * a).astype(np.float32), environment="Mine-v0") == ()


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        (lambda a: 0 * a + 2, "error", "every action is choice 2"),
        (lambda a: 2 * a, "note", "never taken: 1 and 3"),
        (lambda a: np.where(np.arange(len(a)) % 50, 0, a), "warning", "choice 0 makes up 9"),
    ],
)
def test_choices(change: Any, severity: str, words: str) -> None:
    fields = sound_fields(discrete=True)
    fields["actions"] = change(fields["actions"])
    found = find(words, findings(build_dataset("choosing", **fields)))
    assert (found.severity, found.topic) == (severity, "actions")


def frames_of(frames: Any, **options: Any) -> Any:
    fields = sound_fields(discrete=True)
    fields["observations"] = np.resize(frames, (len(fields["rewards"]), *frames.shape[1:]))
    return findings(build_dataset("frames", **fields, **options))


def test_frames() -> None:
    frames = games(16, (32, 40))
    assert frames_of(frames) == ()
    assert find("marks of JPEG, of quality 75", frames_of(through_jpeg(frames, 75))).topic == "pixels"
    lossy = frames_of(through_jpeg(frames, 75), details={"lossy_images": True})
    assert find("stored with loss", lossy).severity == "warning"
    assert len(lossy) == 1
    assert find("no frame differs", frames_of(np.zeros_like(frames))).severity == "warning"
