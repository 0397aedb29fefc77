import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reports.studies import SCRATCH, ToyArm, ToyTask, write_suite
from wikirl.errors import ConfigError
from wikirl.reports.results_reading import read_study
from wikirl.reports.study import Analysis, analyse
from wikirl.reports.study_scores import RULES

HOPPER, REPLAY = ToyTask(), ToyTask("hopper-medium-replay")
MAZE = ToyTask("maze", "wikirl/PointMaze-v0", 50.0, None)


def study(folder: Path, *arms: ToyArm, share: float = 0.9, **options: Any) -> Analysis:
    return analyse(
        read_study(write_suite(folder, [*arms, SCRATCH], primary=(arms[0].name, "scratch"), **options)), share
    )


@pytest.mark.parametrize(
    ("level", "word"), [(75.0, "helps"), (25.0, "hurts"), (50.0, "no difference shown"), (50.5, "no difference shown")]
)
def test_the_verdict_follows_the_scores(tmp_path: Path, level: float, word: str) -> None:
    verdict = study(tmp_path, ToyArm("chibit", level), tasks=[HOPPER, REPLAY]).verdict
    assert verdict.word == word
    for part in (
        "hopper-medium and hopper-medium-replay (collected here",
        "600 updates of 4 windows",
        "5 seeds an arm",
    ):
        assert part in verdict.sentence
    comparison = verdict.comparisons[0]
    assert comparison.tasks == ("hopper-medium", "hopper-medium-replay")
    assert comparison.difference.value == pytest.approx(level - 50, abs=5)
    assert f"true gap of {comparison.detectable:.1f}" in verdict.details[0]


def test_numbers_are_those_of_the_run_folders(tmp_path: Path) -> None:
    analysis = study(tmp_path, ToyArm("chibit"), seeds=(0, 1, 2))
    by_hand = {}
    for arm in ("chibit", "scratch"):
        files = [tmp_path / "runs" / f"hopper-medium.{arm}.seed-{seed}.0123abcd" / "scores.json" for seed in (0, 1, 2)]
        summaries = [json.loads(path.read_text())["summary"][0] for path in files]
        for rule in RULES:
            by_hand[arm, rule] = np.array([summary[f"{rule}_normalized"] for summary in summaries])
            level = analysis.rules[rule].level(arm, "hopper-medium")
            assert level is not None
            assert level.mean == pytest.approx(by_hand[arm, rule].mean())
            assert level.deviation == pytest.approx(by_hand[arm, rule].std(ddof=1))
            assert level.median == pytest.approx(np.median(by_hand[arm, rule]))
    for rule in RULES:
        comparison = analysis.rules[rule].comparison("chibit", "hopper-medium")
        assert comparison is not None
        difference = by_hand["chibit", rule] - by_hand["scratch", rule]
        assert comparison.difference.value == pytest.approx(difference.mean())


def test_one_seed_says_nothing(tmp_path: Path) -> None:
    verdict = study(tmp_path, ToyArm("chibit", 90), seeds=(4,)).verdict
    assert verdict.word == "cannot be said"
    assert "from one seed" in verdict.sentence
    assert "no interval" in verdict.sentence


def test_two_lucky_seeds_do_not_help(tmp_path: Path) -> None:
    """Both seeds above 0 is what the bootstrap needs; Student's interval does not fall for it."""
    analysis = study(tmp_path, ToyArm("chibit", 60), seeds=(0, 1))
    comparison = analysis.verdict.comparisons[0]
    assert comparison.difference.low > 0 > comparison.student.low
    assert analysis.verdict.word == "no difference shown"
    assert any("The two intervals disagree about 0" in detail for detail in analysis.verdict.details)


def test_only_seeds_that_both_have(tmp_path: Path) -> None:
    analysis = study(
        tmp_path, ToyArm("chibit"), tasks=[HOPPER, REPLAY],
        unfinished=lambda arm, task, seed: (arm, task, seed) in {
            ("chibit", "hopper-medium", 0), ("scratch", "hopper-medium-replay", 3),
        },
    )  # fmt: skip
    found = {comparison.tasks: comparison.seeds for comparison in analysis.primary.comparisons}
    assert found == {
        ("hopper-medium",): (1, 2, 3, 4),
        ("hopper-medium-replay",): (0, 1, 2, 4),
        ("hopper-medium", "hopper-medium-replay"): (1, 2, 4),
    }
    assert "with 3 seeds an arm" in analysis.verdict.sentence


def test_a_task_that_the_pair_does_not_share_is_left_out_and_named(tmp_path: Path) -> None:
    analysis = study(
        tmp_path, ToyArm("chibit"), tasks=[HOPPER, REPLAY],
        unfinished=lambda arm, task, seed: arm == "chibit" and task == "hopper-medium-replay",
    )  # fmt: skip
    assert analysis.verdict.comparisons[0].tasks == ("hopper-medium",)
    assert any(detail.startswith("Without hopper-medium-replay") for detail in analysis.verdict.details)
    assert analysis.primary.level("chibit", None) is None


def test_nothing_shared_nothing_said(tmp_path: Path) -> None:
    verdict = study(tmp_path, ToyArm("chibit"), unfinished=lambda arm, task, seed: arm == "chibit").verdict
    assert verdict.word == "cannot be said"


def test_raw_returns_are_not_put_together(tmp_path: Path) -> None:
    analysis = study(tmp_path, ToyArm("chibit", 80), tasks=[HOPPER, MAZE])
    assert analysis.scores.scales == {"hopper-medium": "normalized", "maze": "return"}
    assert "no reference score is known for maze" in (analysis.scores.apart or "")
    assert analysis.primary.level("chibit", None) is None
    assert not analysis.profiles
    assert analysis.verdict.word == "helps"  # on each
    assert [comparison.tasks for comparison in analysis.verdict.comparisons] == [("hopper-medium",), ("maze",)]
    assert "units of return" in analysis.verdict.sentence


def test_tasks_that_disagree_and_cannot_be_put_together(tmp_path: Path) -> None:
    def lower(arm: str, task: str, seed: int, files: dict[str, Any]) -> None:
        if (arm, task) == ("chibit", "maze"):
            for entry in files["scores.json"]["evaluations"]:
                entry["returns"] = [value - 60 for value in entry["returns"]]

    verdict = study(tmp_path, ToyArm("chibit", 80), tasks=[HOPPER, MAZE], change=lower).verdict
    assert verdict.word == "cannot be said"
    assert "cannot be said for all tasks at once" in verdict.sentence


def test_two_versions_of_one_family_are_not_put_together(tmp_path: Path) -> None:
    old = ToyTask("walker2d-medium", "Walker2d-v4", 5000.0)
    assert "environment_version" in (study(tmp_path, ToyArm("chibit"), tasks=[HOPPER, old]).scores.apart or "")


def test_the_best_control_is_compared_too(tmp_path: Path) -> None:
    arms = [
        ToyArm("chibit", 75),
        ToyArm("markov", 74, control=True),
        ToyArm("iid", 50, control=True),
        ToyArm("gpt", 99),
    ]
    verdict = study(tmp_path, *arms).verdict
    assert verdict.word == "helps"
    assert verdict.best_control is not None
    assert verdict.best_control.against == "markov"  # gpt is no control
    assert any("the best of 2 content-free controls (markov) is not shown" in detail for detail in verdict.details)
    assert any("4 comparisons stand on this page" in detail for detail in verdict.details)


def test_without_controls_all_rivals_count(tmp_path: Path) -> None:
    verdict = study(tmp_path, ToyArm("chibit", 90), ToyArm("markov", 50), ToyArm("iid", 40)).verdict
    assert any(
        "chibit beats the best of 2 other arms compared with the same reference (markov)" in d for d in verdict.details
    )


def test_another_arm_moves_no_interval(tmp_path: Path) -> None:
    two = study(tmp_path / "two", ToyArm("chibit"))
    three = study(tmp_path / "three", ToyArm("chibit"), ToyArm("iid"))
    for rule in two.rules:
        assert two.rules[rule].comparison("chibit", "hopper-medium") == three.rules[rule].comparison(
            "chibit", "hopper-medium"
        )


def test_convergence_to_a_fixed_threshold(tmp_path: Path) -> None:
    arms = ToyArm("fast", 50, num_tokens=240_000, speed=3.0), ToyArm("low", 10, num_tokens=240_000)
    analysis = study(tmp_path, *arms, noise=0.5, num_evaluations=10)
    fast, low, scratch = (next(c for c in analysis.convergence if c.arm == arm) for arm in ("fast", "low", "scratch"))
    level = analysis.primary.level("scratch", "hopper-medium")
    assert level is not None
    assert fast.threshold == low.threshold == scratch.threshold == pytest.approx(0.9 * level.mean)
    assert fast.num_reached == 5
    assert fast.steps_ratio is not None
    assert fast.steps_ratio.low > 1
    assert fast.pretraining_steps == 1000  # 3 tokens · 20 timesteps · 4 windows
    assert fast.steps_ratio_paid is not None
    assert fast.steps_ratio_paid.high < 1
    assert (low.num_reached, low.median_steps) == (0, None)
    assert low.steps_ratio is not None
    assert low.steps_ratio.value < 1
    assert low.own_best_steps is not None
    assert scratch.steps_ratio is None
    half = study(tmp_path / "half", *arms, noise=0.5, num_evaluations=10, share=0.5)
    assert half.convergence[0].threshold == pytest.approx(0.5 * level.mean)


def test_a_reference_below_zero_makes_no_threshold(tmp_path: Path) -> None:
    def negative(arm: str, task: str, seed: int, files: dict[str, Any]) -> None:
        for entry in files["scores.json"]["evaluations"]:
            entry["returns"] = [-value - 1 for value in entry["returns"]]

    analysis = study(tmp_path, ToyArm("chibit"), tasks=[MAZE], change=negative)
    assert not analysis.convergence
    assert [one.task for one in analysis.no_threshold] == ["maze"]


def test_curves_and_profiles(tmp_path: Path) -> None:
    analysis = study(tmp_path, ToyArm("chibit", 70))
    curve = next(one for one in analysis.curves if one.arm == "chibit")
    assert curve.steps == (100, 200, 300, 400, 500, 600)
    assert curve.low is not None
    assert curve.high is not None
    assert all(low <= mean <= high for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True))
    assert all(profile.share[0] == 1 and profile.share[-1] == 0 for profile in analysis.profiles)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="threshold share"):
        study(tmp_path, ToyArm("chibit"), seeds=(0,), share=share)


def test_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a finished run in toy; found none of 10"):
        study(tmp_path, ToyArm("chibit"), unfinished=lambda arm, task, seed: True)
