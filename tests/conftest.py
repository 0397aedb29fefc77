"""What every test gets: no hub, no user cache, one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MUJOCO_GL", "egl")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


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
