import json
from typing import Any

import numpy as np
import pytest

from wikirl.errors import ConfigError
from wikirl.evaluation.references import (
    REFERENCES,
    ReferenceScore,
    choose_reference,
    normalized_score,
    reference_for,
    task_name,
)

OWN = {"name": "toy family", "minimum": 2.0, "maximum": 12.0, "source": "card.json"}


@pytest.mark.parametrize(
    ("environment_id", "minimum", "maximum"),
    [
        ("Hopper-v5", -20.272305, 3234.3),
        ("HalfCheetah-v4", -280.178953, 12135.0),
        ("Walker2d-v2", 1.629008, 4592.3),
        ("Ant-v5", -325.6, 3879.7),
    ],
)
def test_references_are_0_and_100_in_every_version(environment_id: str, minimum: float, maximum: float) -> None:
    scores = normalized_score(environment_id, np.array([minimum, maximum, (minimum + maximum) / 2]))
    np.testing.assert_allclose(scores, [0.0, 100.0, 50.0], atol=1e-12)
    reference = reference_for(environment_id)
    assert reference is not None
    assert reference.name.startswith("D4RL")
    assert "D4RL" in reference.source


def test_the_papers_targets_normalised() -> None:
    # 111/56, 98.9/50.6 and 109/54 per cent, worked out by hand from the D4RL references
    assert normalized_score("Hopper-v3", np.array([3600.0, 1800.0])).round().tolist() == [111, 56]
    assert normalized_score("HalfCheetah-v3", np.array([12000.0, 6000.0])).round(1).tolist() == [98.9, 50.6]
    assert normalized_score("Walker2d-v3", np.array([5000.0, 2500.0])).round().tolist() == [109, 54]


def test_unknown_tasks_have_no_reference() -> None:
    assert reference_for("CartPole-v1") is None
    assert reference_for("somebody/Hopper-v5") is None, "another task under the same name"
    with pytest.raises(ConfigError, match="raw returns"):
        normalized_score("CartPole-v1", np.array([1.0]))


def test_the_papers_atari_score() -> None:
    # Decision Transformer's Breakout: a raw return of 76.9 is printed as 267.5
    assert normalized_score("ALE/Breakout-v5", np.array([76.9])).round(1).tolist() == [267.5]


def test_names_of_tasks() -> None:
    ids = (
        "Hopper-v5",
        "ALE/Pong-v5",
        "PongNoFrameskip-v4",
        "wikirl/Reacher2d-v0",
        "other/Hopper-v5",
        "module:Hopper-v5",
    )
    assert [*map(task_name, ids)] == ["hopper", "pong", "pong", "reacher2d", "other/hopper", "module:hopper"]


def test_every_stamp_is_one_reference_and_what_is_recalled_says_so() -> None:
    everything = [reference for references in REFERENCES.values() for reference in references]
    assert len({reference.stamp for reference in everything}) == len(everything)
    assert all(reference.minimum < reference.maximum for reference in everything)
    assert {reference.stamp for reference in everything if reference.mark != "V"} == {
        f"gamer {game} (defined on Atari; recalled)" for game in ("qbert", "pong", "seaquest")
    }
    assert reference_for("Hopper-v5").stamp == "D4RL hopper (defined on v0, v1, v2)"  # type: ignore[union-attr]
    assert json.loads(json.dumps(everything[0].to_json()))["mark"] == "V"


def test_whose_numbers_count() -> None:
    def stamp(environment: str | None, **more: Any) -> str | None:
        reference = choose_reference(environment, **more)
        return reference.stamp if reference else None

    made = {"own": OWN, "own_environment": "CartPole-v1"}
    assert stamp("CartPole-v1") is None
    assert stamp("CartPole-v1", **made) == "toy family (2.0 to 12.0)"
    assert stamp("CartPole-v0", **made) is None, "measured elsewhere"
    assert stamp("Hopper-v5", own=OWN, own_environment="Hopper-v5") == "D4RL hopper (defined on v0, v1, v2)"
    assert stamp("CartPole-v1", given=(0.0, 500.0), **made) == "user's own (0.0 to 500.0)"
    assert stamp("Hopper-v5", given=[0.0, 500.0]) == "user's own (0.0 to 500.0)"
    assert stamp(None, given=(0.0, 1.0)) == "user's own (0.0 to 1.0)"
    assert stamp(None) is None
    assert stamp("ALE/Pong-v5", given=(-20.7, 9.3)) == "LaMo human pong (defined on Atari)"


def test_references_of_one_name_do_not_mix() -> None:
    one, other = (ReferenceScore("toy family", 0.0, maximum, "card.json") for maximum in (1.0, 1.0 + 1e-12))
    assert one.stamp != other.stamp


@pytest.mark.parametrize("given", [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (float("-inf"), 0.0), (1.0,), ()])
def test_numbers_that_make_no_scale(given: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        choose_reference("Hopper-v5", given=given)


@pytest.mark.parametrize("change", [{"name": None, "minimum": "low"}, {"maximum": None}, {"minimum": 99.0}])
def test_numbers_of_the_data_that_make_no_scale(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="reference"):
        choose_reference("CartPole-v1", own=OWN | change, own_environment="CartPole-v1")
