"""Suites as data: every run of every suite can be asked for, has a name of its own, and is skipped with a reason."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.recipes.toys import backbone
from wikirl import cli, cli_suite
from wikirl.errors import ConfigError, RunError
from wikirl.experiments.availability import choose_sources, why_no_arm
from wikirl.experiments.controls import CONTROLS
from wikirl.experiments.paper import BASELINES, GPT2, PAPER_ATARI, PAPER_GYM
from wikirl.experiments.planning import plan, write_suite
from wikirl.experiments.starts import pretraining_of
from wikirl.experiments.suite import BUDGETS, ArmPlan, Source, Suite, TaskPlan, configuration
from wikirl.experiments.suite_run import Backend, run_suite, suite_status
from wikirl.experiments.suites import SUITES, find_suite, with_backbones, with_corpus
from wikirl.experiments.tasks import locomotion
from wikirl.experiments.worker import Machine, plan_from_json, plan_to_json

OUT = Path("out")


@pytest.mark.parametrize("name", SUITES)
def test_every_run_has_a_name_of_its_own_and_a_command_that_asks_for_it(name: str) -> None:
    suite = SUITES[name]
    seen: dict[str, object] = {}
    for task in suite.tasks:
        for source in task.sources:
            for arm in (arm for arm in suite.arms if arm.unavailable is None):
                run = configuration(arm, task, source, suite.budgets["small"], 3)
                assert seen.setdefault(run.folder.name, run.config) == run.config
                words = run.command(1)
                options = vars(cli._parser(words).parse_args(words))
                given = {item.name: options[item.name] for item in fields(run.config)}
                assert type(run.config)(**given) == run.config
                assert plan_from_json(json.loads(json.dumps(plan_to_json(run)))) == run
    assert len({repr(config) for config in seen.values()}) == len(seen)


def test_budgets_and_backends_of_the_command_line_are_those_there_are() -> None:
    assert cli_suite._BUDGETS == BUDGETS
    assert Backend.__args__ == cli_suite._BACKENDS  # type: ignore[attr-defined]
    assert all(suite.budgets.keys() == set(BUDGETS) for suite in SUITES.values())


def test_a_name_changes_with_every_setting_and_not_with_new_ones() -> None:
    arm, task = CONTROLS.arms[0], CONTROLS.tasks[0]
    budget = CONTROLS.budgets["small"]
    run = configuration(arm, task, task.sources[0], budget, 0)
    assert run.folder == Path("runs/hopper-medium.chibit-28m.seed-0.cfc0ff47")  # as published in docs/results
    others = [
        configuration(replace(arm, settings={**arm.settings, "context_length": 19}), task, task.sources[0], budget, 0),
        configuration(arm, task, task.sources[0], replace(budget, num_steps=999), 0),
        configuration(arm, replace(task, settings={"data_fraction": 0.5}), task.sources[0], budget, 0),
    ]
    assert len({one.folder for one in [run, *others]}) == 4


def test_the_primary_pair_and_its_neighbours_are_matched() -> None:
    study = plan(CONTROLS, "smoke", OUT)
    assert not study.file.skipped
    arms = {arm.name: arm for arm in CONTROLS.arms}
    for tricks in ("", " + tricks"):
        ladder = [arm for arm in CONTROLS.arms if arm.name.endswith(tricks) and (tricks or "+" not in arm.name)]
        assert len(ladder) == 7
        rest = [{k: v for k, v in arm.settings.items() if k not in ("backbone", "architecture")} for arm in ladder]
        assert all(settings == rest[0] for settings in rest)
        assert arms[f"scratch{tricks}"].settings["architecture"] == "chibit-28m"
    assert [job.config.seed for job in study.jobs] == sorted(job.config.seed for job in study.jobs)


def test_data_at_hand_are_taken_the_best_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = locomotion("hopper", "medium")
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert choose_sources([task])[task.name].dataset == "builtin:hopper-medium"
    (tmp_path / "d4rl").mkdir()
    (tmp_path / "d4rl" / "hopper_medium-v2.hdf5").touch()
    chosen = choose_sources([task])[task.name]
    assert (chosen.dataset, chosen.environment, chosen.target_return) == ("d4rl:hopper-medium-v2", "Hopper-v4", 3600.0)


def test_what_is_not_at_hand_is_skipped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr("wikirl.experiments.availability.find_spec", lambda name: None)
    study = plan(PAPER_GYM, "full", OUT)
    reasons = {(one.arm, one.task): one.reason for one in study.file.skipped}
    assert "neither a folder nor in Hugging Face's cache; hf download gpt2" in reasons["GPT-2", None]
    assert reasons["TD3+BC", None] == "d3rlpy is not installed; pip install 'wikirl[baselines]'"
    assert "wikirl data collect Walker2d-v5" in reasons["ChibiT", "walker2d-medium"]
    assert {run.arm for run in study.file.runs} == {
        "DT", "ChibiT", "scratch as ChibiT", "scratch as ChibiT + tricks", "BC", "10%BC",
    }  # fmt: skip
    assert len(study.jobs) == len(study.file.runs) == 6 * 10 * len(study.file.tasks)
    atari = plan(PAPER_ATARI, "smoke", OUT)
    assert {one.reason for one in atari.file.skipped} == {"this version plays no games"}
    assert why_no_arm(BASELINES[0]) is None


def test_a_backbone_in_a_folder_is_at_hand_and_tells_its_cost(tmp_path: Path) -> None:
    folder = backbone(tmp_path)
    assert why_no_arm(replace(GPT2, settings={"backbone": f"permuted:{folder}"})) is None
    assert "expected a folder or a Hugging Face id" in str(
        why_no_arm(replace(GPT2, settings={"backbone": "./nowhere"}))
    )
    cost = pretraining_of(folder)
    assert cost is not None
    assert cost.num_tokens == 8 * 4 * 32
    assert pretraining_of("noised:chibit@0.1") == pretraining_of("chibit")
    assert pretraining_of("scratch") is None


def test_suites_bend(tmp_path: Path) -> None:
    suite = with_backbones(find_suite("paper-gym"), ["chibit-markov"])
    assert suite.arms[-1].settings == {"backbone": "chibit-markov", "recipe": "paper"}
    assert suite.arms[-1].against == "DT"
    ablation = with_corpus(find_suite("paper-ablation"), "some.txt")
    assert any(arm.settings.get("cotraining_corpus") == "some.txt" and arm.unavailable is None for arm in ablation.arms)
    with pytest.raises(ConfigError, match="paper-atari is none"):
        with_backbones(find_suite("paper-atari"), ["chibit"])
    with pytest.raises(ConfigError, match="controls has none"):
        with_corpus(CONTROLS, "some.txt")
    own = tmp_path / "mine.py"
    own.write_text("from wikirl.experiments.controls import NO_CONTEXT\nSUITE = NO_CONTEXT\n")
    assert find_suite(str(own)).name == "no-context"
    own.write_text("SUITE = 3\n")
    with pytest.raises(ConfigError, match=r"define SUITE.*found 3"):
        find_suite(str(own))
    for name in ("nothing", "nowhere.py"):
        with pytest.raises(ConfigError, match="expected a"):
            find_suite(name)


def test_suites_that_make_no_sense_are_refused() -> None:
    for broken, words in (
        (replace(CONTROLS, arms=(*CONTROLS.arms, CONTROLS.arms[0])), "'chibit-28m' twice"),
        (replace(CONTROLS, primary=("chibit-28m", "nobody")), "no 'nobody'"),
        (replace(CONTROLS, budgets={}), "budget"),
    ):
        with pytest.raises(ConfigError, match=words):
            plan(broken, "smoke", OUT)
    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(ConfigError, match="different seeds"):
            plan(CONTROLS, "smoke", OUT, seeds=seeds)


def test_a_folder_of_another_suite_is_left_alone(tmp_path: Path) -> None:
    study = plan(CONTROLS, "smoke", tmp_path)
    write_suite(study, tmp_path)
    before = (tmp_path / "suite.json").read_bytes()
    write_suite(plan(CONTROLS, "smoke", tmp_path, seeds=(7,)), tmp_path)  # more seeds of the same study
    write_suite(study, tmp_path)
    assert (tmp_path / "suite.json").read_bytes() == before
    for other in (plan(CONTROLS, "small", tmp_path), plan(SUITES["no-context"], "smoke", tmp_path)):
        with pytest.raises(RunError, match="choose another --out"):
            write_suite(other, tmp_path)
    status = suite_status(tmp_path)
    assert (status["num_finished"], status["num_runs"]) == (0, 56)
    assert {row["hopper-medium"] for row in status["arms"]} == {"0 of 2"}
    assert set(status["missing"].values()) == {"not begun"}


def test_a_suite_of_nothing_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing of paper-atari can be made here: this version plays no games"):
        run_suite(PAPER_ATARI, "smoke", tmp_path, Machine())


def test_own_data_and_arms_make_a_suite() -> None:
    suite = Suite(
        "mine", "Does it?", ("a", "b"),
        (TaskPlan("logs", (Source("file:somewhere", "Hopper-v5", 1.0, "own logs"),)),),
        (ArmPlan("a", "one", {"backbone": "chibit"}, "b"), ArmPlan("b", "other", {"architecture": "chibit"})),
        CONTROLS.budgets,
    )  # fmt: skip
    study = plan(suite, "smoke", OUT)
    assert [run.arm for run in study.file.runs] == ["a", "b"] * 2
    assert study.file.tasks[0].note == "own logs"
