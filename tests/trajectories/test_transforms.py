"""`transforms.py`: delayed and scaled rewards, choices of episodes, mixtures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError, DatasetError
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.transforms import (
    concatenate,
    delayed_reward,
    mixture,
    random_fraction,
    scale_rewards,
    split_episodes,
    take_episodes,
    top_fraction,
)

from .making import make_dataset, make_fields, same_data, slow_returns_to_go

OWN = {"name": "toy family", "minimum": 0.0, "maximum": 1.0, "source": "card.json"}
lengths_strategy = st.lists(st.integers(1, 7), min_size=2, max_size=7)


def _with_returns(lengths: list[int], returns: list[float]) -> TrajectoryDataset:
    fields = make_fields(lengths)
    fields["rewards"] = np.concatenate([[value] + [0.0] * (n - 1) for n, value in zip(lengths, returns, strict=True)])
    return build_dataset("toy", **fields)


@given(lengths_strategy)
def test_delayed_reward_keeps_returns_and_makes_returns_to_go_constant(lengths: list[int]) -> None:
    dataset = make_dataset(lengths)
    delayed = delayed_reward(dataset)
    np.testing.assert_array_equal(delayed.returns, dataset.returns)
    np.testing.assert_array_equal(np.flatnonzero(delayed.rewards), dataset.starts[1:] - 1)
    np.testing.assert_array_equal(delayed.returns_to_go, slow_returns_to_go(delayed.rewards, delayed.starts))
    np.testing.assert_array_equal(delayed.observations, dataset.observations)
    assert delayed.details["transforms"] == ["delayed_reward"]
    assert (delayed.fingerprint == dataset.fingerprint) == (max(lengths) == 1)
    assert dataset.details == {}, "the input is left alone"


@given(lengths_strategy, st.data())
def test_take_episodes_equals_building_from_those(lengths: list[int], data: st.DataObject) -> None:
    dataset = make_dataset(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    spans = [np.arange(dataset.starts[number], dataset.starts[number + 1]) for number in chosen]
    steps = np.concatenate(spans)
    expected = build_dataset(
        "toy",
        dataset.observations[steps],
        dataset.actions[steps],
        dataset.rewards[steps],
        np.cumsum([0, *map(len, spans)]),
        dataset.terminated[chosen],
    )
    assert same_data(take_episodes(dataset, chosen), expected)


@pytest.mark.parametrize(
    ("indices", "message"), [([], "no episodes"), ([3], "episode 3 was asked"), ([0, -1], "episode -1")]
)
def test_episodes_that_do_not_exist(indices: list[int], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        take_episodes(make_dataset(), indices)


@given(lengths_strategy, st.floats(0.01, 0.99), st.integers(0, 99))
def test_split_is_a_partition_of_episodes(lengths: list[int], fraction: float, seed: int) -> None:
    dataset = make_dataset(lengths)
    train, held_out = split_episodes(dataset, fraction, np.random.default_rng(seed))
    assert train.num_episodes + held_out.num_episodes == len(lengths)
    assert held_out.num_episodes == min(max(round(fraction * len(lengths)), 1), len(lengths) - 1)
    seen = np.concatenate([train.observations[:, 0], held_out.observations[:, 0]])
    np.testing.assert_array_equal(np.sort(seen), np.arange(dataset.num_steps))
    again = split_episodes(dataset, fraction, np.random.default_rng(seed))
    assert same_data(train, again[0])
    assert same_data(held_out, again[1])


def test_split_needs_a_fraction_and_two_episodes() -> None:
    with pytest.raises(DatasetError, match="one episode cannot be split"):
        split_episodes(make_dataset((5,)), 0.5, np.random.default_rng(0))
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="held_out_fraction"):
            split_episodes(make_dataset(), fraction, np.random.default_rng(0))


def test_top_fraction_takes_the_best_until_the_steps_are_used_up() -> None:
    dataset = _with_returns([4, 2, 3, 1], [1.0, 9.0, 5.0, 7.0])
    assert top_fraction(dataset, 0.3).returns.tolist() == [9.0, 7.0]  # 2 + 1 of 10 steps, exactly 0.3: `<=`
    assert top_fraction(dataset, 0.6).returns.tolist() == [9.0, 5.0, 7.0]
    assert top_fraction(dataset, 0.59).returns.tolist() == [9.0, 7.0]
    assert top_fraction(dataset, 0.01).returns.tolist() == [9.0], "never empty"
    assert top_fraction(dataset, 0.01).details["transforms"] == ["top_fraction: 0.01"]


@given(lengths_strategy)
def test_top_fraction_one_is_everything(lengths: list[int]) -> None:
    assert same_data(top_fraction(make_dataset(lengths), 1.0), make_dataset(lengths))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_top_fraction_refuses_odd_shares(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction must lie above 0"):
        top_fraction(make_dataset(), fraction)


def test_concatenate_puts_episodes_one_after_the_other() -> None:
    medium, expert = make_dataset((3, 5), seed=1), make_dataset((2, 4), seed=2)
    mixed = concatenate([medium, expert], "toy-medium-expert")
    assert (mixed.name, mixed.environment) == ("toy-medium-expert", "Toy-v0")
    assert mixed.starts.tolist() == [0, 3, 8, 10, 14]
    assert same_data(take_episodes(mixed, [0, 1]), medium)
    assert same_data(take_episodes(mixed, [2, 3]), expert)
    assert [part["fingerprint"] for part in mixed.details["parts"]] == [
        medium.fingerprint,
        expert.fingerprint,
    ]


def test_concatenate_refuses_what_does_not_fit() -> None:
    with pytest.raises(DatasetError, match="differ in action_space"):
        concatenate([make_dataset(), make_dataset(discrete=True)], "mixed")
    elsewhere = build_dataset("other", **make_fields(), environment="Other-v1")
    with pytest.raises(DatasetError, match="toy and other differ in environment: Toy-v0 and Other-v1"):
        concatenate([make_dataset(), elsewhere], "mixed")
    with pytest.raises(DatasetError, match="no datasets"):
        concatenate([], "mixed")
    scaled = scale_rewards(make_dataset(), 0.1)
    with pytest.raises(
        DatasetError, match=r"rewards of toy\+scaled0\.1 are scaled by 0\.1, those of toy by 1; scale after"
    ):
        concatenate([scaled, make_dataset()], "mixed")


def test_concatenate_keeps_what_holds_for_all() -> None:
    one, other = (replace(make_dataset(), details={"reference": OWN, "lossy_images": lossy}) for lossy in (True, False))
    assert {**concatenate([one, other], "mixed").details, "parts": 0} == {**one.details, "parts": 0}
    assert "reference" not in concatenate([one, make_dataset()], "mixed").details
    assert concatenate([scale_rewards(one, 2.0)] * 2, "mixed").details["reward_scale"] == 2.0


@given(lengths_strategy, st.sampled_from([0.005, 0.01, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 99))
def test_a_random_share_of_episodes(lengths: list[int], fraction: float, seed: int) -> None:
    dataset = make_dataset(lengths)
    kept = random_fraction(dataset, fraction, np.random.default_rng(seed))
    assert kept.num_episodes == max(round(fraction * len(lengths)), 1)
    numbers = np.searchsorted(dataset.starts, kept.observations[kept.starts[:-1], 0])
    assert same_data(kept, take_episodes(dataset, numbers))
    assert (np.diff(numbers) > 0).all(), "in the order of the data, none twice"
    assert kept.fingerprint == random_fraction(dataset, fraction, np.random.default_rng(seed)).fingerprint
    assert (kept.fingerprint == dataset.fingerprint) == (kept.num_episodes == len(lengths))
    note = f"random_fraction: {fraction:g}, {kept.num_episodes} of {len(lengths)} episodes"
    assert (kept.name, kept.details["transforms"]) == (f"toy+random{fraction:g}", [note])


def test_other_seeds_take_other_episodes() -> None:
    dataset = make_dataset([1] * 50)
    taken = {random_fraction(dataset, 0.1, np.random.default_rng(seed)).fingerprint for seed in range(20)}
    assert len(taken) == 20
    counts = np.zeros(50)
    for seed in range(300):
        counts[random_fraction(dataset, 0.5, np.random.default_rng(seed)).observations[:, 0].astype(int)] += 1
    assert counts.min() > 100, "every episode has its chance; expected are 150"


@given(lengths_strategy, st.floats(0.01, 100), st.floats(-3, 3))
def test_scaled_rewards(lengths: list[int], factor: float, shift: float) -> None:
    dataset = make_dataset(lengths)
    scaled = scale_rewards(dataset, factor, shift)
    expected = factor * dataset.returns.astype(float) + shift * dataset.lengths
    np.testing.assert_allclose(scaled.returns, expected, rtol=1e-5, atol=1e-4 * (factor + abs(shift)))
    np.testing.assert_allclose(
        scaled.returns_to_go, slow_returns_to_go(scaled.rewards, scaled.starts), rtol=1e-5, atol=1e-5 * factor
    )
    np.testing.assert_array_equal(scaled.observations, dataset.observations)
    assert scale_rewards(dataset, 1.0).fingerprint == dataset.fingerprint
    assert scaled.details["reward_scale"] == factor
    assert scale_rewards(scaled, 2.0).details["reward_scale"] == 2 * factor


@given(lengths_strategy)
def test_a_power_of_two_there_and_back_is_nothing(lengths: list[int]) -> None:
    dataset = make_dataset(lengths)
    again = scale_rewards(scale_rewards(dataset, 8.0), 0.125)
    assert (again.fingerprint, again.details["reward_scale"]) == (dataset.fingerprint, 1.0)
    assert scale_rewards(dataset, 8.0).fingerprint != dataset.fingerprint


def test_scales_that_cannot_be() -> None:
    for factor, shift in ((0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))):
        with pytest.raises(ConfigError, match="expected finite numbers and a factor other than 0"):
            scale_rewards(make_dataset(), factor, shift)
    with pytest.raises(DatasetError, match=r"toy\+scaled1e\+39: rewards holds -?inf.* in episode 0"):
        scale_rewards(make_dataset(), 1e39)


def test_mixtures_take_shares() -> None:
    medium, expert = make_dataset([2] * 10, seed=1), make_dataset([3] * 10, seed=2)
    mixed = mixture([medium, expert], [1.0, 0.1], np.random.default_rng(0), "mixed")
    assert (mixed.num_episodes, mixed.num_steps) == (11, 23)
    assert same_data(take_episodes(mixed, range(10)), medium)
    assert mixed.details["parts"][1]["transforms"] == ["random_fraction: 0.1, 1 of 10 episodes"]
    assert mixture([medium, expert], [1.0, 1.0], np.random.default_rng(0), "m").fingerprint == (
        concatenate([medium, expert], "n").fingerprint
    )
    with pytest.raises(ConfigError, match="expected one fraction for each of 2 datasets; found 1"):
        mixture([medium, expert], [1.0], np.random.default_rng(0), "mixed")
    with pytest.raises(ConfigError, match="fraction must lie above 0"):
        mixture([medium], [0.0], np.random.default_rng(0), "mixed")
