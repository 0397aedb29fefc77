import warnings

import pytest

from wikirl.errors import EnvironmentNotFoundError, MissingExtraError
from wikirl.evaluation.environments import (
    crosses_versions,
    describe_environment,
    make_environment,
    split_id,
    versions,
)
from wikirl.types import Space

from . import toys


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("name", "observation_size", "action_size"),
    [("Hopper", 11, 3), ("HalfCheetah", 17, 6), ("Walker2d", 17, 6), ("Ant", None, 8)],
)
def test_describes_the_locomotion_tasks(
    name: str, observation_size: int | None, action_size: int, version: int
) -> None:
    spec = describe_environment(f"{name}-v{version}")
    assert spec.id == f"{name}-v{version}"
    assert spec.max_episode_steps == 1000
    # Ant observes contact forces in v5 only.
    assert spec.observation_space.shape == (observation_size or {4: 27, 5: 105}[version],)
    assert spec.action_space == Space((action_size,), "float32", -1.0, 1.0)


def test_describes_discrete_actions() -> None:
    spec = describe_environment("CartPole-v1")
    assert spec.action_space == Space.discrete(2)
    assert spec.observation_space.shape == (4,)
    assert spec.max_episode_steps == 500


def test_no_time_limit_is_none_and_the_environment_is_closed() -> None:
    assert describe_environment("WikirlUnlimited-v0").max_episode_steps is None
    assert toys.Countdown.open_instances == 0


def test_an_old_version_makes_no_noise() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        make_environment("Hopper-v4").close()
    assert heard == []


@pytest.mark.parametrize(
    ("environment_id", "hint"),
    [
        ("Hoper-v5", "Hopper-v5"),
        ("Hopper", "Hopper-v5"),
        ("Hopper-v9", "Hopper-v4"),
        ("Hopper-v3", "use Hopper-v4"),
        ("Walker2d-v2", "use Walker2d-v4"),
        ("", "with a version"),
        ("no such thing", "with a version"),
        ("Nowhere/Nothing-v0", "Nowhere"),
        ("Blackjack-v1", "does not fit"),
    ],
)
def test_unusable_ids_say_what_to_do_on_one_line(environment_id: str, hint: str) -> None:
    with pytest.raises(EnvironmentNotFoundError) as caught:
        describe_environment(environment_id)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment_id", "hint"),
    [
        ("wikirl_no_such_module:Thing-v0", "wikirl_no_such_module"),
        ("GymV21Environment-v0", "pip install"),
    ],
)
def test_missing_packages_are_named(environment_id: str, hint: str) -> None:
    with pytest.raises(MissingExtraError, match=hint):
        make_environment(environment_id)


def test_versions_name_the_simulators() -> None:
    assert set(versions()) == {"gymnasium", "mujoco"}
    assert all(part.isdigit() for part in versions()["mujoco"].split(".")[:2])


def test_split_id() -> None:
    assert split_id("Hopper-v5") == ("Hopper", 5)
    assert split_id("ALE/Pong-v5") == ("ALE/Pong", 5)
    assert split_id("mujoco/hopper") == ("mujoco/hopper", None)


@pytest.mark.parametrize(
    ("data", "evaluation", "expected"),
    [
        ("Hopper-v5", "Hopper-v5", None),
        ("Hopper-v2", "Hopper-v4", "same task on another MuJoCo"),
        ("Hopper-v5", "Hopper-v4", "not comparable"),
        ("Hopper-v2", "Hopper-v5", "not comparable"),
        ("Hopper-v5", "Walker2d-v5", "other task"),
        ("Hopper", "Hopper-v5", "other version"),
    ],
)
def test_crossing_versions_is_noticed(data: str, evaluation: str, expected: str | None) -> None:
    warning = crosses_versions(data, evaluation)
    if expected is None:
        assert warning is None
    else:
        assert warning is not None
        assert expected in warning
        assert data in warning
        assert evaluation in warning
        assert "\n" not in warning
