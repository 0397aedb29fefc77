"""Families of datasets. Training needs sbx and is tested under `extras`; the controller needs nothing."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from wikirl import cli
from wikirl.errors import ConfigError, DatasetError, MissingExtraError, RunError
from wikirl.recipes.collect import collect
from wikirl.recipes.collect_settings import CollectConfig
from wikirl.trajectories.sources import load_trajectories

# What sbx's dependencies say to each other.
pytestmark = [pytest.mark.filterwarnings("ignore:.*jax.*:DeprecationWarning")]

MAZE = CollectConfig("wikirl/PointMaze-v0", dataset_steps=700)
CARTPOLE = CollectConfig(
    "CartPole-v1",
    behaviour="dqn",
    num_steps=600,
    num_snapshots=3,
    score_episodes=2,
    dataset_steps=300,
    options=("learning_starts=100",),
)
REACHER = CollectConfig(
    "wikirl/Reacher2d-v0", num_steps=600, num_snapshots=3, score_episodes=1, dataset_steps=200, kinds=("medium-replay",)
)


@pytest.fixture(autouse=True)
def _minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_a_family_from_a_controller(tmp_path: Path) -> None:
    card = collect(MAZE, tmp_path / "run", d4rl=True)
    assert set(card["datasets"]) == {"random", "medium", "medium-expert", "expert"}  # nobody trained, so no replay
    returns = {}
    for kind, figures in card["datasets"].items():
        dataset = load_trajectories(figures["minari"])
        assert dataset.environment == "wikirl/PointMaze-v0"
        assert dataset.num_steps == figures["num_steps"] == (1400 if kind == "medium-expert" else 700)
        assert dataset.num_episodes == figures["num_episodes"]
        assert float(dataset.returns.mean()) == pytest.approx(figures["return_mean"])
        assert not dataset.terminated.any()
        again = load_trajectories(f"file:{figures['d4rl']}")
        assert again.fingerprint == dataset.fingerprint
        returns[kind] = figures["return_mean"]
    assert returns["random"] < returns["medium"] < returns["medium-expert"] < returns["expert"]
    assert card["reference"]["minimum"] == returns["random"]
    assert card["reference"]["maximum"] == returns["expert"]


def test_the_card_says_who_played_with_what(tmp_path: Path) -> None:
    card = collect(MAZE, tmp_path / "run", name="maze")
    text = (tmp_path / "run" / "README.md").read_text()
    assert json.loads((tmp_path / "run" / "card.json").read_text()) == card
    for needed in ("waypoint controller", "seed 0", "gymnasium", "mujoco", "wikirl ", "100 %"):
        assert needed in text


def test_asked_again_it_writes_nothing_twice(tmp_path: Path) -> None:
    first = collect(MAZE, tmp_path / "run")
    places = list((tmp_path / "minari").rglob("*.hdf5"))
    stamps = [path.stat().st_mtime_ns for path in places]
    second = collect(MAZE, tmp_path / "run")
    assert [path.stat().st_mtime_ns for path in places] == stamps
    assert {**first, "minutes": 0} == {**second, "minutes": 0}


def test_a_dataset_of_another_run_is_not_touched(tmp_path: Path) -> None:
    collect(MAZE, tmp_path / "run")
    with pytest.raises(DatasetError, match=r"pointmaze/random-v0 exists already.*another --name"):
        collect(MAZE, tmp_path / "other")
    with pytest.raises(RunError, match="other settings"):
        collect(CollectConfig("wikirl/PointMaze-v0", dataset_steps=701), tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps of at least 1"),
        ({"num_steps": 10, "num_snapshots": 3}, "multiple of num_snapshots"),
        ({"medium_fraction": 1.0}, "medium_fraction between 0 and 1"),
        ({"kinds": ()}, "kinds among random"),
        ({"seed": -1}, "seed of at least 0"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        collect(CollectConfig("wikirl/PointMaze-v0", **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_controller_belongs_to_its_maze(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="controller for wikirl/PointMaze-v0 only"):
        collect(CollectConfig("CartPole-v1", behaviour="controller"), tmp_path / "run")
    with pytest.raises(ConfigError, match="somewhere to write to"):
        collect(MAZE, tmp_path / "run", minari=False)


@pytest.mark.skipif(find_spec("sbx") is not None, reason="sbx is installed")
def test_training_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"sbx-rl.*pip install 'wikirl\[collect\]'"):
        collect(CARTPOLE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    words = ["data", "collect", "wikirl/PointMaze-v0", "--out", out, "--dataset-steps", "300", "--kinds", "expert"]
    assert cli.main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["datasets"]) == ["expert"]
    assert cli.main(words) == 0
    assert "minari:pointmaze/expert-v0" in capsys.readouterr().out
    assert cli.main(["data", "collect", "Nowhere-v0", "--out", str(tmp_path / "other")]) == 2
    assert "Nowhere" in capsys.readouterr().err


@pytest.mark.extras
@pytest.mark.parametrize("behaviour", ["dqn", "ppo"])
def test_a_family_of_choices(tmp_path: Path, behaviour: Any) -> None:
    from dataclasses import replace

    config = replace(CARTPOLE, behaviour=behaviour, options=())
    card = collect(config, tmp_path / "run")
    assert set(card["datasets"]) == set(config.kinds)
    replay = load_trajectories(card["datasets"]["medium-replay"]["minari"])
    assert replay.action_space.n == 2
    expert = load_trajectories(card["datasets"]["expert"]["minari"])
    assert expert.num_steps == 300
    assert len(card["scores"]) == 3


@pytest.mark.extras
@pytest.mark.parametrize("config", [CARTPOLE, REACHER], ids=["dqn", "sac"])
def test_a_killed_training_goes_on_to_the_same_bits(
    config: CollectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wikirl.recipes import behaviour_log

    whole = collect(config, tmp_path / "whole", name="whole")
    replay = load_trajectories(whole["datasets"]["medium-replay"]["minari"])
    assert replay.num_steps % 200 == 0  # whole stretches, until the medium snapshot
    save, calls = behaviour_log._write_steps, []

    def dies_in_the_second_stretch(path: Path, episodes: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(path, episodes)

    monkeypatch.setattr(behaviour_log, "_write_steps", dies_in_the_second_stretch)
    with pytest.raises(KeyboardInterrupt):
        collect(config, tmp_path / "killed", name="whole", minari=False, d4rl=True)
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    killed = collect(config, tmp_path / "killed", name="whole")
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "killed")
    assert killed["scores"] == whole["scores"]
    assert killed["reference"] == whole["reference"]
    assert killed["warnings"] == whole["warnings"]


@pytest.mark.extras
def test_a_policy_worse_than_random_is_called_so(tmp_path: Path) -> None:
    """After so few steps a greedy DQN drops the pole at once, in fewer steps than random actions."""
    card = collect(CARTPOLE, tmp_path / "run")
    assert card["reference"]["maximum"] < card["reference"]["minimum"]
    assert "no better than random" in card["warnings"][0]
    assert "no better than random" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.extras
def test_an_algorithm_must_fit_and_its_options_be_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"algorithm for choices.*found sac"):
        collect(CollectConfig("CartPole-v1", behaviour="sac"), tmp_path / "a")
    with pytest.raises(ConfigError, match="PPO has no option speed"):
        collect(CollectConfig("CartPole-v1", options=("speed=3",)), tmp_path / "b")
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        collect(CollectConfig("CartPole-v1", options=("speed",)), tmp_path / "c")
