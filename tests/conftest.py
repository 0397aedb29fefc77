"""What every test gets: no hub, no user cache, one thread; tens of examples a property, thousands under `-m slow`."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MUJOCO_GL", "egl")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import is_hypothesis_test, settings

torch.set_num_threads(1)
settings.register_profile("tens", max_examples=30, deadline=None)
settings.register_profile("thousands", max_examples=2000, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property is tried on."""
    settings.load_profile("thousands" if _asks_for_slow(config) else "tens")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `-m slow`, properties are slow tests."""
    if _asks_for_slow(config):
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker("slow")


def _asks_for_slow(config: pytest.Config) -> bool:
    return bool(config.getoption("-m") == "slow")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches go to a temporary folder that the tests of one session share."""
    before = os.environ.get("WIKIRL_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["WIKIRL_CACHE"] = str(folder)
    yield folder
    os.environ.pop("WIKIRL_CACHE")
    if before is not None:
        os.environ["WIKIRL_CACHE"] = before
