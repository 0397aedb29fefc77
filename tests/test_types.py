import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from tests.helpers import random_batch
from wikirl.errors import ConfigError
from wikirl.types import Space, TrajectoryBatch

numbers = st.floats(allow_nan=False)
bounds = numbers | st.lists(numbers, min_size=1, max_size=4).map(np.array)


@given(bounds, bounds, st.lists(st.integers(1, 5), max_size=3), st.sampled_from(["float32", "uint8"]))
def test_a_box_survives_json(low: Any, high: Any, shape: list[int], dtype: str) -> None:
    space = Space.box(low, high, tuple(shape), dtype)
    text = json.dumps(space.to_json(), allow_nan=False)
    assert Space.from_json(json.loads(text)) == space


def test_a_discrete_space_survives_json() -> None:
    space = Space.discrete(18)
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    assert space.is_discrete
    assert space.size == 1
    assert not Space.box(0.0, 1.0, (2, 3)).is_discrete
    assert Space.box(0.0, 1.0, (2, 3)).size == 6


def test_bounds_that_are_the_same_everywhere_are_one_number() -> None:
    space = Space.box(np.full(3, -math.inf), np.array([1.0, 1.0, 2.0]), (3,))
    assert space.low == -math.inf
    assert space.high == (1.0, 1.0, 2.0)
    assert space.to_json()["low"] == "-inf"


GOOD = Space.box(-1.0, 1.0, (2,)).to_json()


@pytest.mark.parametrize(
    "value",
    [
        *({k: v for k, v in GOOD.items() if k != missing} for missing in GOOD),
        {**GOOD, "low": "lots"},
        {**GOOD, "low": {"a": 1}},
        {**GOOD, "shape": 3},
        {**GOOD, "shape": ["a"]},
        {**GOOD, "n": "many"},
        {**GOOD, "n": math.inf},
    ],
)
def test_bad_json_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="a space needs shape, dtype, low, high and n"):
        Space.from_json(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": torch.zeros(3, 5, 2)},
        {"actions": torch.zeros(2, 4, dtype=torch.long)},
        {"observations": torch.zeros(4, 3, 3)},
        {"returns_to_go": torch.zeros(3, 4)},
        {"timesteps": torch.zeros(3, 4)},
        {"mask": torch.ones(3, 4)},
    ],
)
def test_fields_of_a_batch_must_fit_together(changes: dict[str, torch.Tensor]) -> None:
    batch = random_batch()
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    assert TrajectoryBatch(**fields).to("cpu").mask.equal(batch.mask)
    with pytest.raises(TypeCheckError):
        TrajectoryBatch(**{**fields, **changes})


def test_choices_and_images_are_batches_too() -> None:
    images = torch.zeros(3, 4, 8, 8, dtype=torch.uint8)
    batch = random_batch()
    made = TrajectoryBatch(
        images, torch.zeros(3, 4, dtype=torch.long), batch.returns_to_go, batch.timesteps, batch.mask
    )
    assert made.to("cpu").observations.dtype == torch.uint8
