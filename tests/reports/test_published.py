import pytest

from wikirl.reports.published import published_scores


def test_numbers_come_with_source_and_certainty() -> None:
    (first, second) = published_scores("hopper-medium", "ChibiT")
    assert str(first) == "82.1 ± 4.6?"
    assert first.source.words.endswith("recalled, not confirmed")
    assert "little confidence" in second.source.words
    (quoted,) = published_scores("hopper-medium", "GPT-2")
    assert str(quoted) == "79.1 ± 1.1"  # read in a text that quotes it
    assert "Takagi" in quoted.source.words
    assert [str(score) for score in published_scores("walker2d-medium", "TD3+BC")] == ["82.7"]


def test_what_is_not_published_is_not_made_up() -> None:
    assert published_scores("hopper-medium", "CLIP") == ()
    assert published_scores("pointmaze-medium", "DT") == ()
    assert published_scores("hopper-medium", None) == ()


@pytest.mark.parametrize(
    ("name", "source", "mean"),
    [("ChibiT", "Reid", 78.4), ("GPT-2", "Reid", 79.9), ("DT", "Chen", 74.7), ("DT", "CORL", 73.84)],
)
def test_column_means_are_those_that_are_printed(name: str, source: str, mean: float) -> None:
    """A slip of the pen in a table shows in its mean."""
    found = [
        score.value
        for task in ("hopper", "halfcheetah", "walker2d")
        for level in ("medium", "medium-replay", "medium-expert")
        for score in published_scores(f"{task}-{level}", name)
        if score.source.name.startswith(source)
    ]
    assert len(found) == 9
    assert sum(found) / 9 == pytest.approx(mean, abs=0.06)
