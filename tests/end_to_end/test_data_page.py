"""docs/data.md by the word: its commands run as they stand there, only on fewer steps."""

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
    "finetune": "--num-steps 4 --eval-every 4 --eval-episodes 2 --batch-size 4 --target-returns 200",
}


def section(title: str) -> str:
    return PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def commands(title: str, block: int) -> list[list[str]]:
    """The words of the commands in a block of a section."""
    text = re.findall(r"```(?:bash|sh)\n(.*?)```", section(title), re.S)[block]
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.startswith("wikirl")]


def run(words: list[str]) -> None:
    verb = words[2] if words[1] == "data" else words[1]
    assert cli.main([*words[1:], *FEWER.get(verb, "").split()]) == 0, words


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_from_a_csv_file_to_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    title = "From a CSV file to a policy"
    maker = re.findall(r"```python\n(.*?)```", section(title), re.S)[0]
    exec(compile(maker, "data.md", "exec"), {})  # our own page
    shown = re.findall(r"```text\n(.*?)```", section(title), re.S)[0]
    for words in commands(title, 0):
        run(words)
        if words[2] == "import":
            assert capsys.readouterr().out.startswith(shown)
    assert "held out action error" in capsys.readouterr().out
    assert (tmp_path / "runs" / "cart" / "policy" / "model.safetensors").exists()


def test_mixtures_and_cuts() -> None:
    for words in commands("Mixtures, cuts and other rewards", 0):
        run(words)


@pytest.mark.extras
def test_from_an_environment_to_a_policy(tmp_path: Path) -> None:
    for words in commands("From an environment to a policy", 0):
        run(words)
    assert (tmp_path / "runs" / "cartpole" / "scores.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, marks=() if "PointMaze" in words[3] else pytest.mark.extras, id=words[3])
        for words in commands("From an environment to a policy", 1)
    ],
)
def test_the_papers_tasks(words: list[str], tmp_path: Path) -> None:
    run(words)
    kinds = {path.stem.partition("-")[2] for path in (tmp_path / "runs").rglob("d4rl/*.hdf5")}
    assert kinds >= {"random", "medium", "medium-expert", "expert"}
