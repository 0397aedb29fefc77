import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError
from wikirl.models.actions import ActionChoices, ActionScaler, action_codec, draw_choices
from wikirl.types import Space

finite = st.floats(-100, 100, width=32)


@given(st.lists(st.tuples(finite, st.floats(0.125, 50, width=32)), min_size=1, max_size=4), st.data())
def test_actions_go_to_the_unit_interval_and_back(bounds: list[tuple[float, float]], data: st.DataObject) -> None:
    low = torch.tensor([bound for bound, _ in bounds])
    high = low + torch.tensor([size for _, size in bounds])
    scaler = ActionScaler(low, high)
    shares = data.draw(st.lists(st.floats(0, 1), min_size=len(bounds), max_size=len(bounds)))
    actions = (low + torch.tensor(shares) * (high - low))[None, None]
    unit = scaler.to_unit(actions)
    rounding = 1e-6 * max((abs(bound) + size) / size for bound, size in bounds)  # of float32 far from zero
    assert (unit.abs() <= 1 + rounding).all()
    torch.testing.assert_close(scaler.from_unit(unit), actions, rtol=1e-5, atol=1e-4)
    lowest = scaler.to_unit(low[None, None])
    torch.testing.assert_close(lowest, -torch.ones(1, 1, len(low)), rtol=0, atol=rounding)


@given(st.lists(st.tuples(finite, st.floats(0.125, 50, width=32)), min_size=1, max_size=4))
def test_no_action_leaves_its_bounds(bounds: list[tuple[float, float]]) -> None:
    low = torch.tensor([bound for bound, _ in bounds])
    high = low + torch.tensor([size for _, size in bounds])
    scaler = ActionScaler(low, high)
    ends = torch.tensor([-1.0, -1 + 1e-7, 0.0, 1 - 1e-7, 1.0])[None, :, None].expand(1, 5, len(bounds))
    actions = scaler.from_unit(ends)
    assert (actions >= low).all()
    assert (actions <= high).all()


def test_bounds_of_minus_one_and_one_change_no_bit() -> None:
    scaler = ActionScaler(-torch.ones(3), torch.ones(3))
    actions = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(scaler.to_unit(actions), actions)
    assert torch.equal(scaler.from_unit(actions), actions)


def test_the_space_decides() -> None:
    choices = action_codec(Space.discrete(5))
    assert isinstance(choices, ActionChoices)
    assert choices.size == 5
    scaler = action_codec(Space.box(np.array([-1.0, 0.0]), np.array([3.0, 1.0]), (2,)))
    assert isinstance(scaler, ActionScaler)
    assert scaler.size == 2
    assert (scaler.low.tolist(), scaler.high.tolist()) == ([-1, 0], [3, 1])
    assert [action_codec(space).size for space in (Space.discrete(1), Space.box(-1.0, 1.0, (7,)))] == [1, 7]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Space.box(-math.inf, 1.0, (2,)), "expected bounded actions; found -inf … 1.0"),
        (Space.box(1.0, 1.0, (2,)), "expected bounded actions"),
        (Space.discrete(0), "expected 1 to 65,536 choices"),
        (Space.discrete(10**9), "found 1,000,000,000; number them from 0 without gaps"),
    ],
)
def test_actions_that_no_model_is_made_for(space: Space, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        action_codec(space)


def test_a_fresh_table_makes_small_logits_where_it_is_the_head_too() -> None:
    torch.manual_seed(0)
    codec = ActionChoices(6)
    embedding = codec.make_embedding(128)
    assert embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert codec.shared_head(embedding) is embedding.weight


def slow_draw(logits: list[float], uniform: float) -> int:
    weights = [math.exp(logit - max(logits)) for logit in logits]
    passed = 0.0
    for choice, weight in enumerate(weights):
        passed += weight / sum(weights)
        if uniform < passed:
            return choice
    return len(logits) - 1


logit = st.floats(-30, 30, width=32)


@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(logit, min_size=n, max_size=n), min_size=1, max_size=4)),
    st.data(),
)
def test_draws_invert_the_distribution_function(rows: list[list[float]], data: st.DataObject) -> None:
    uniform = data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=len(rows), max_size=len(rows)))
    found = draw_choices(torch.tensor(rows), torch.tensor(uniform, dtype=torch.float64)).tolist()
    for row, number, choice in zip(rows, uniform, found, strict=True):
        nearly = {slow_draw(row, min(max(number + shift, 0.0), 1.0)) for shift in (-1e-12, 0.0, 1e-12)}
        assert choice in nearly


def test_draws_come_as_often_as_their_probabilities_say() -> None:
    logits = torch.tensor([0.2, -1.0, 1.3, -200.0, 0.2])
    uniform = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = draw_choices(logits.expand(20_000, -1), uniform).bincount(minlength=5) / 20_000
    torch.testing.assert_close(shares, logits.softmax(-1), rtol=0, atol=0.01)
    assert shares[3] == 0


@pytest.mark.parametrize(("logits", "choice"), [([-math.inf, 0.0, -math.inf], 1), ([0.0, -1e9], 0), ([3.0], 0)])
def test_what_is_certain_is_always_drawn(logits: list[float], choice: int) -> None:
    ends: Any = torch.tensor([0.0, 0.5, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert draw_choices(torch.tensor(logits).expand(3, -1), ends).tolist() == [choice] * 3
