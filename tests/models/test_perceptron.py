"""The perceptron: what it computes, that rows and steps are by themselves, and its bundle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import HIGH, LOW, NUM_CHOICES, OBSERVATION_SIZE, randomize, tiny_policy
from wikirl.errors import BundleError
from wikirl.models.actions import action_codec
from wikirl.models.bundle import load_any_policy, load_policy, save_perceptron, save_policy
from wikirl.models.decision_transformer import Normalizer
from wikirl.models.perceptron import Perceptron, PerceptronPolicy, fresh_layers
from wikirl.types import Policy, RowSeededPolicy, Space

VECTORS = Space.box(np.array(LOW), np.array(HIGH), (len(LOW),))
SEEN = Space.box(-np.inf, np.inf, (OBSERVATION_SIZE,))


def tiny(action_space: Space = VECTORS, observation_space: Space = SEEN, **options: Any) -> PerceptronPolicy:
    codec, size = action_codec(action_space), observation_space.size
    normalizer = Normalizer(torch.arange(size) / 2, torch.linspace(0.5, 2, size))
    model = Perceptron(fresh_layers(size, 5, 2, codec.size), normalizer, codec).eval()
    randomize(model, 1, std=0.8)
    return PerceptronPolicy(model, observation_space, action_space, **options)


def observations(rows: int = 4) -> Any:
    return np.random.default_rng(0).normal(size=(rows, OBSERVATION_SIZE)).astype(np.float32)


def test_what_it_computes() -> None:
    policy = tiny()
    weights = {name: value.double().numpy() for name, value in policy.model.state_dict().items()}
    values = (observations() - weights["normalizer.mean"]) / weights["normalizer.std"]
    for layer in ("hidden.0", "hidden.1"):
        values = np.maximum(values @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    squashed = np.tanh(values @ weights["head.weight"].T + weights["head.bias"])
    expected = (np.array(HIGH) + LOW) / 2 + squashed * (np.array(HIGH) - LOW) / 2
    found = policy.act(observations(), np.zeros(4))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (np.abs(squashed) > 0.1).any()
    assert ((found >= LOW) & (found <= HIGH)).all()


def test_of_choices_the_highest_is_taken() -> None:
    policy = tiny(Space.discrete(NUM_CHOICES))
    seen = observations(30)
    found = policy.act(seen, np.zeros(30))
    numbers = policy.model(torch.from_numpy(seen)[:, None])[:, 0]
    assert found.tolist() == numbers.argmax(1).tolist()
    assert len(set(found.tolist())) > 1
    assert (policy.action_selection, policy.outputs) == ("greedy", "logits")
    assert (tiny().action_selection, tiny().outputs) == (None, "actions")
    assert tiny(Space.discrete(2), predicts_values=True).outputs == "values"


@pytest.mark.parametrize("action_space", [VECTORS, Space.discrete(NUM_CHOICES)])
def test_rows_are_by_themselves_and_done_ones_get_zeros(action_space: Space) -> None:
    policy = tiny(action_space)
    policy.reset(4, seed=0)
    whole = policy.act(observations(), np.zeros(4))
    active = np.array([True, False, True, True])
    strange = np.where(active[:, None], observations(), np.nan).astype(np.float32)
    some = policy.act(strange, np.ones(4), active)
    np.testing.assert_allclose(some[active], whole[active], rtol=1e-6)
    assert not some[~active].any()
    assert isinstance(policy, Policy)
    assert not isinstance(policy, RowSeededPolicy)


def test_observations_of_more_axes_are_flattened() -> None:
    pictures = Space.box(0.0, 255.0, (2, 3), "uint8")
    policy = tiny(observation_space=pictures)
    seen = np.random.default_rng(0).integers(256, size=(4, 2, 3), dtype=np.uint8)
    assert policy.act(seen, np.zeros(4)).shape == (4, len(LOW))


@pytest.mark.parametrize(
    ("action_space", "options"),
    [(VECTORS, {}), (Space.discrete(NUM_CHOICES), {}), (Space.discrete(NUM_CHOICES), {"predicts_values": True})],
)
def test_saved_and_loaded_it_acts_the_same_to_the_bit(tmp_path: Path, action_space: Space, options: Any) -> None:
    policy = tiny(action_space, **options)
    save_perceptron(policy, tmp_path / "policy", {"dataset": "toy"})
    loaded = load_any_policy(tmp_path / "policy")
    assert isinstance(loaded, PerceptronPolicy)
    before, after = (one.act(observations(), np.zeros(4)).tobytes() for one in (policy, loaded))
    assert before == after
    assert (loaded.observation_space, loaded.action_space) == (policy.observation_space, policy.action_space)
    assert loaded.outputs == policy.outputs


def test_whose_bundle_it_is(tmp_path: Path) -> None:
    save_perceptron(tiny(), tmp_path / "baseline", {})
    save_policy(tiny_policy(), tmp_path / "transformer", {})
    assert not isinstance(load_any_policy(tmp_path / "transformer"), PerceptronPolicy)
    with pytest.raises(BundleError, match=r"found that of a baseline; load it with .*load_any_policy"):
        load_policy(tmp_path / "baseline")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "wikirl perceptron 2"}, "found another config.json"),
        ({"hidden_size": 6}, "weights that fit config.json"),
        ({"num_layers": 3}, "weights are missing: hidden.2"),
        ({"num_layers": 0}, "sizes of at least 1"),
        ({"action_space": {}}, "a complete config.json"),
    ],
)
def test_a_damaged_bundle(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save_perceptron(tiny(), tmp_path / "policy", {})
    path = tmp_path / "policy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=message) as error:
        load_any_policy(tmp_path / "policy")
    assert "\n" not in str(error.value)
