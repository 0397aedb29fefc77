import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import ConfigError
from wikirl.reproducibility import (
    PACKAGES,
    choose_device,
    choose_precision,
    generator,
    provenance,
    seed_everything,
)


def first_draw(seed: int, purpose: str) -> int:
    return int(generator(seed, purpose).integers(2**62))


@given(st.lists(st.tuples(st.integers(0, 2**31), st.sampled_from(["batches", "batch", "split", "x"])), unique=True))
def test_each_seed_and_purpose_has_a_stream_of_its_own(keys: list[tuple[int, str]]) -> None:
    draws = [first_draw(*key) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [first_draw(*key) for key in keys]


def test_purposes_of_one_seed_differ() -> None:
    purposes = ["batches", "batch", "split", "tilps", "x", ""]
    assert len({first_draw(0, purpose) for purpose in purposes}) == len(purposes)


def test_streams_are_not_correlated() -> None:
    one, other = (generator(0, purpose).normal(size=4000) for purpose in ("batches", "split"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.06


def test_seeding_repeats_weights() -> None:
    seed_everything(5)
    first = torch.nn.Linear(4, 4).weight
    seed_everything(5)
    assert torch.equal(torch.nn.Linear(4, 4).weight, first)
    seed_everything(6)
    assert not torch.equal(torch.nn.Linear(4, 4).weight, first)


def test_provenance_says_how_it_was_made() -> None:
    found: dict[str, Any] = json.loads(json.dumps(provenance(17), allow_nan=False))
    assert set(found) == {"created", "command", "seed", "versions", "machine", "git"}
    assert found["seed"] == 17
    assert found["versions"].keys() == {"python", *PACKAGES}
    assert torch.__version__.partition("+")[0] == found["versions"]["torch"].partition("+")[0]  # CUDA builds differ
    assert found["machine"]["num_threads"] == torch.get_num_threads()
    assert found["machine"]["num_cpus"] >= 1
    assert found["created"].endswith("+00:00")
    assert Path(found["command"][0]).name == found["command"][0]


def test_provenance_names_the_commit_of_this_checkout() -> None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    git = provenance(0)["git"]
    assert git is not None
    assert len(git["commit"]) == 40
    assert isinstance(git["dirty"], bool)


def test_devices() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    for bad in ("gpu", "", "tpu:0", *([] if torch.cuda.is_available() else ["cuda", "cuda:1"])):
        with pytest.raises(ConfigError, match="expected device auto, cpu or cuda"):
            choose_device(bad)


def test_precisions() -> None:
    assert choose_precision("float32", "cuda") is None
    assert choose_precision("bfloat16", "cpu") is torch.bfloat16
    assert choose_precision("auto", "cuda") is torch.bfloat16
    assert choose_precision("auto", "cpu") in (None, torch.bfloat16)
    with pytest.raises(ConfigError, match="'float16'"):
        choose_precision("float16", "cpu")
