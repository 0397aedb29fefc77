from typing import Any

import pytest

from wikirl.experiments.demo_summary import score_rows, verdict_on


def arms(*gaps: float) -> dict[str, Any]:
    """Two arms whose means of the last four differ by `gaps`, one seed each."""

    def run(mean: float) -> dict[str, Any]:
        scores = [{"normalized_score": mean - 20.0}, {"normalized_score": mean + 20.0}]
        return {"summary": {"mean_last_four_normalized": mean, "num_in_last_four": 2}, "evaluations": scores}

    return {
        "scratch": {"runs": [run(30.0) for _ in gaps]},
        "chibit": {"runs": [run(30.0 + gap) for gap in gaps]},
    }


@pytest.mark.parametrize("gaps", [(50.0,), (50.0, 40.0), (-3.0, 4.0), (9.0, 9.0, 9.0, 9.0, 9.0, 9.0)])
def test_no_numbers_make_the_demo_claim_anything(gaps: tuple[float, ...]) -> None:
    verdict = verdict_on(arms(*gaps))
    assert verdict.startswith("No difference can be claimed")
    assert (f"{len(gaps)} seed" in verdict) == (len(gaps) < 5)
    assert "up to 40 points" in verdict


def test_the_verdict_gives_the_numbers() -> None:
    assert "chibit minus scratch, mean of last 2: +2.0, −3.5 points" in verdict_on(arms(2.0, -3.5))
    assert "do not agree" in verdict_on(arms(2.0, -3.5))
    assert "by chance in 1 of 4 demos" in verdict_on(arms(2.0, 3.0, 1.0))
    assert "seeds" not in verdict_on(arms(2.0)).split("task.", 1)[1]


def test_the_best_checkpoint_only_stands_beside_the_others() -> None:
    figures = {
        f"{rule}_{kind}": 1.0 for rule in ("last", "mean_last_four", "best") for kind in ("normalized", "return")
    }
    compared = {name: arm | {"means": figures} for name, arm in arms(0.0).items()}
    rows = score_rows(compared, {"normalized_mean": 10.0, "return_mean": 305.0})
    assert list(rows[0])[1:] == ["last checkpoint", "mean of last 2", "best (chosen by score)"]
    assert rows[-1] == {
        "": "data's mean",
        "last checkpoint": "10.0 (305)",
        "mean of last 2": "",
        "best (chosen by score)": "",
    }
