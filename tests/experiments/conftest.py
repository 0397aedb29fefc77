import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wikirl.experiments.demo import DemoSettings, demo
from wikirl.trajectories.sources import ASSETS

HOSTILE = """<img src=x onerror="alert('1')">&.hdf5"""


@dataclass(frozen=True)
class Finished:
    """A small demo that ran undisturbed, on a data set whose file name is an attack."""

    out: Path
    settings: DemoSettings
    summary: dict[str, Any]

    @property
    def html(self) -> str:
        return (self.out / "report.html").read_text()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WIKIRL_CACHE", str(folder / "cache"))
        shutil.copy(ASSETS / "hopper-medium-replay.hdf5", folder / HOSTILE)
        settings = DemoSettings(
            dataset=f"file:{folder / HOSTILE}",
            seeds=(3,),
            num_steps=16,
            batch_size=4,
            num_evaluations=2,
            eval_episodes=2,
        )
        yield Finished(folder / "out", settings, demo(folder / "out", settings=settings))
