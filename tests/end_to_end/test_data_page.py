"""The commands of docs/data.md that start from an environment, run as they stand there but on fewer steps."""

import re
import shlex
from pathlib import Path

import pytest

from wikirl import cli

# What sbx's dependencies say to each other.
pytestmark = [pytest.mark.filterwarnings("ignore:.*jax.*:DeprecationWarning")]

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
FEWER = {
    "collect": "--num-steps 400 --num-snapshots 2 --score-episodes 1 --dataset-steps 400",
    "finetune": "--num-steps 4 --eval-every 4 --eval-episodes 2 --batch-size 4",
    "check": "",
}


def blocks() -> list[list[list[str]]]:
    """The words of the commands of each block in the section."""
    section = PAGE.read_text().split("## From an environment to a policy")[1].split("\n## ")[0]
    return [
        [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line.startswith("wikirl")]
        for block in re.findall(r"```bash\n(.*?)```", section, re.S)
    ]


def run(words: list[str]) -> None:
    verb = words[2] if words[1] == "data" else words[1]
    assert cli.main([*words[1:], *FEWER[verb].split()]) == 0, words


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.mark.extras
def test_from_an_environment_to_a_policy(tmp_path: Path) -> None:
    for words in blocks()[0]:
        run(words)
    assert (tmp_path / "runs" / "cartpole" / "scores.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, marks=() if "PointMaze" in words[3] else pytest.mark.extras, id=words[3])
        for words in blocks()[1]
    ],
)
def test_the_papers_tasks(words: list[str], tmp_path: Path) -> None:
    run(words)
    kinds = {path.stem.partition("-")[2] for path in (tmp_path / "runs").rglob("d4rl/*.hdf5")}
    assert kinds >= {"random", "medium", "medium-expert", "expert"}
