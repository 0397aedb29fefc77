import json
from dataclasses import fields, replace
from typing import Any

import pytest

from wikirl.errors import ConfigError
from wikirl.evaluation.protocol import (
    Protocol,
    differing_fields,
    require_same_protocol,
    same_protocol,
    stamp_protocol,
)
from wikirl.evaluation.references import ReferenceScore


def stamp(environment_id: str = "Hopper-v5", **changes: Any) -> Protocol:
    given: dict[str, Any] = {
        "checkpoints": ("last", "mean_last_four"),
        "target_return": 3600.0,
        "num_episodes": 100,
        "seeds": (0,),
    }
    return stamp_protocol(environment_id, **(given | changes))


def test_the_stamp_names_what_a_sceptic_asks_for() -> None:
    protocol = stamp("Hopper-v4", dataset_environment="Hopper-v5")
    assert protocol.reference is not None
    assert "D4RL hopper" in protocol.reference
    assert "v2" in protocol.reference
    assert protocol.version_warning is not None
    assert protocol.mujoco.count(".") == 2
    assert stamp("CartPole-v1").reference is None
    assert stamp().version_warning is None


def test_stamps_survive_json() -> None:
    protocol = stamp(dataset_environment="Hopper-v2", delayed_reward=True)
    assert Protocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol


OTHER: dict[str, Any] = {
    "checkpoints": ("best",),
    "target_return": 1800.0,
    "environment_id": "Hopper-v4",
    "gymnasium": "0.0.1",
    "mujoco": "2.0.2",
    "reference": None,
    "num_episodes": 10,
    "seeds": (1, 2),
    "delayed_reward": True,
    "acting": "cached",
    "action_selection": "sampled",
    "dataset_environment": "Hopper-v2",
    "version_warning": "careful",
}


def test_every_field_counts() -> None:
    assert set(OTHER) == {field.name for field in fields(Protocol)}


@pytest.mark.parametrize("name", OTHER)
def test_tables_refuse_to_mix_and_name_the_field(name: str) -> None:
    one, other = stamp(), replace(stamp(), **{name: OTHER[name]})
    assert same_protocol(one, one)
    assert not same_protocol(one, other)
    with pytest.raises(ConfigError, match=name) as caught:
        require_same_protocol([one, one, other])
    assert repr(OTHER[name]) in str(caught.value)
    if name != "reference":  # one environment has one scale, even in a table that shows it
        require_same_protocol([one, other], may_differ=(name, "environment_version"))


def test_two_references_never_share_a_table() -> None:
    shown = ("environment_id", "reference")
    own = [ReferenceScore("user's own", 0.0, maximum, "given by the user") for maximum in (100.0, 200.0)]
    first, second = (stamp("CartPole-v1", reference=reference) for reference in own)
    assert first.reference == "user's own (0.0 to 100.0)"
    for others in ([first, second], [stamp(), stamp(reference=own[0])], [first, first, second]):
        with pytest.raises(ConfigError, match=r"reference: .* and .*user's own"):
            require_same_protocol(others, may_differ=shown)
    require_same_protocol([replace(stamp(), environment_id="CartPole-v1", reference=None), stamp("CartPole-v1")])
    require_same_protocol([first, first])


def test_same_stamps_may_share_a_table() -> None:
    require_same_protocol([])
    require_same_protocol([stamp(), stamp()])


def test_a_table_over_tasks_still_needs_one_environment_version() -> None:
    shown = ("environment_id", "reference", "target_return")
    require_same_protocol([stamp("Hopper-v5"), stamp("Walker2d-v5", target_return=5000.0)], may_differ=shown)
    with pytest.raises(ConfigError, match="environment_version: 5 and 4"):
        require_same_protocol([stamp("Hopper-v5"), stamp("Walker2d-v4")], may_differ=shown)
    assert differing_fields(stamp("Ant-v5"), stamp("Ant-v4")) == ("environment_id", "environment_version")


def test_a_misspelt_exception_is_refused() -> None:
    with pytest.raises(ConfigError, match="target_retrun"):
        require_same_protocol([stamp()], may_differ=("target_retrun",))


@pytest.mark.parametrize("checkpoints", [(), ("luckiest",)])
def test_unknown_checkpoint_rules_are_refused(checkpoints: Any) -> None:
    with pytest.raises(ConfigError, match="checkpoint rules"):
        Protocol.from_json(stamp().to_json() | {"checkpoints": list(checkpoints)})


@pytest.mark.parametrize("change", [{"seeds": 3}, {"extra": 1}, {"num_episodes": "many"}, {"mujoco": None}])
def test_damaged_stamps_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="protocol stamp"):
        Protocol.from_json(stamp().to_json() | change)
