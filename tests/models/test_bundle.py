import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers import OBSERVATION_SIZE, tiny_gpt, tiny_policy
from wikirl.errors import BundleError
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.bundle import load_policy, save_policy

OPTIONS: list[dict[str, Any]] = [
    {},
    {"share_positions": True, "share_projection": True, "timestep_placement": "after_norm"},
    {"gpt": tiny_gpt(vocab_size=0, num_positions=0, activation="relu", scale_by_inverse_layer=True)},
    {"action_selection": "greedy"},
    {"action_selection": "sampled", "share_projection": True},
]


def play(policy: DecisionTransformerPolicy) -> list[bytes]:
    generator = np.random.default_rng(0)
    policy.reset(2, seed=0)
    return [
        policy.act(generator.normal(size=(2, OBSERVATION_SIZE)) * 5, generator.normal(size=2)).tobytes()
        for _ in range(6)
    ]


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as error:
        load_policy(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_policy(tiny_policy(), tmp_path / "policy", {})
    return tmp_path / "policy"


def change_config(folder: Path, change: Callable[[Any], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("options", OPTIONS)
def test_saved_and_loaded_it_acts_the_same_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    policy = tiny_policy(context_length=4, target_return=-3.5, **options)
    save_policy(policy, tmp_path / "policy", {"dataset": "toy"})
    loaded = load_policy(tmp_path / "policy")
    assert play(loaded) == play(policy)
    assert loaded.model.config == policy.model.config
    assert loaded.model.backbone.to_json() == policy.model.backbone.to_json()
    assert loaded.observation_space == policy.observation_space
    assert loaded.action_space == policy.action_space
    assert (loaded.context_length, loaded.target_return) == (4, -3.5)
    assert loaded.action_selection == policy.action_selection
    assert not loaded.model.training
    for name, value in policy.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_it_replaces_an_older_bundle(bundle: Path) -> None:
    (bundle / "left-over").touch()
    policy = tiny_policy(seed=1)
    save_policy(policy, bundle, {})
    assert play(load_policy(bundle)) == play(policy)
    assert sorted(path.name for path in bundle.iterdir()) == ["config.json", "model.safetensors"]


def test_nothing_in_it_can_run_code(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((bundle / "config.json").read_text())
    assert config["observation_space"]["low"] == "-inf"
    with safe_open(bundle / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "wikirl policy 1"}
    for path in bundle.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))


@pytest.mark.parametrize("name", ["normalizer.mean", "normalizer.std"])
def test_without_its_statistics_it_does_not_load(bundle: Path, name: str) -> None:
    tensors = load_file(bundle / "model.safetensors")
    del tensors[name]
    save_file(tensors, bundle / "model.safetensors")
    message = refused(bundle)
    assert "statistics are missing" in message
    assert name in message


def test_every_tensor_is_needed_and_no_other(bundle: Path) -> None:
    whole = load_file(bundle / "model.safetensors")
    for name in whole:
        save_file({key: value for key, value in whole.items() if key != name}, bundle / "model.safetensors")
        assert name in refused(bundle)
    save_file({**whole, "extra": torch.zeros(1)}, bundle / "model.safetensors")
    assert "extra" in refused(bundle)
    save_file({**whole, "normalizer.mean": torch.zeros(4)}, bundle / "model.safetensors")
    assert "normalizer.mean" in refused(bundle)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_damaged_files(bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            os.truncate(path, path.stat().st_size - 3)
        case _:
            path.write_bytes(b"\xff" * 100)
    refused(bundle)


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"model_type": "gpt2"}', '{"format": "wikirl policy 99"}'])
def test_a_foreign_config(bundle: Path, content: str) -> None:
    (bundle / "config.json").write_text(content)
    assert "wikirl policy 1" in refused(bundle)


@pytest.mark.parametrize(
    "key",
    [
        "backbone",
        "decision_transformer",
        "observation_space",
        "action_space",
        "context_length",
        "target_return",
    ],
)
@pytest.mark.parametrize("value", [None, [], {"unheard": 1}])
def test_a_config_with_a_hole(bundle: Path, key: str, value: Any) -> None:
    change_config(bundle, lambda config: config.update({key: value}))
    refused(bundle)
    change_config(bundle, lambda config: config.pop(key))
    refused(bundle)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("backbone", {"num_layers": 3}),
        ("backbone", {"num_heads": 0}),
        ("backbone", {"num_heads": 3}),
        ("backbone", {"hidden_size": 8}),
        ("backbone", {"hidden_size": -16}),
        ("backbone", {"activation": "swish"}),
        ("decision_transformer", {"timestep_placement": "sideways"}),
        ("decision_transformer", {"observation_size": 4}),
        ("decision_transformer", {"share_projection": True}),
        ("decision_transformer", {"share_positions": True}),
        ("decision_transformer", {"action_size": 3}),
        ("action_space", {"n": 2, "shape": [], "low": None, "high": None}),
        ("action_space", {"low": "-inf"}),
    ],
)
def test_a_config_that_does_not_fit(bundle: Path, part: str, changes: dict[str, Any]) -> None:
    change_config(bundle, lambda config: config[part].update(changes))
    refused(bundle)


@pytest.mark.parametrize(("key", "value"), [("context_length", 0), ("context_length", 1e400), ("target_return", "x")])
def test_numbers_that_make_no_sense(bundle: Path, key: str, value: Any) -> None:
    change_config(bundle, lambda config: config.update({key: value}))
    refused(bundle)


def test_older_bundles_of_vectors_say_nothing_of_choosing(bundle: Path) -> None:
    expected = play(load_policy(bundle))
    change_config(bundle, lambda config: config.pop("action_selection"))
    assert play(load_policy(bundle)) == expected


@pytest.mark.parametrize("value", [None, "often", [], "missing"])
def test_choices_need_a_way_to_choose(tmp_path: Path, value: Any) -> None:
    save_policy(tiny_policy(action_selection="greedy"), tmp_path / "policy", {})
    change_config(tmp_path / "policy", lambda config: config.update({"action_selection": value}))
    if value == "missing":
        change_config(tmp_path / "policy", lambda config: config.pop("action_selection"))
    assert "greedy" in refused(tmp_path / "policy")


def test_vectors_are_not_drawn(bundle: Path) -> None:
    change_config(bundle, lambda config: config.update({"action_selection": "sampled"}))
    assert "discrete actions" in refused(bundle)
