import re
from pathlib import Path

import numpy as np
import pytest

from tests.test_pages import HOSTILE, Outline
from tests.trajectories.making import make_dataset, make_fields, sound_fields
from wikirl.errors import ConfigError
from wikirl.trajectories.checking import Report, check_dataset
from wikirl.trajectories.checking_page import checking_page, default_page, write_page
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.findings import Finding


def page(dataset: TrajectoryDataset) -> str:
    return checking_page(check_dataset(dataset))


def test_the_page_shows_it_all() -> None:
    outline = Outline(page(build_dataset("mine", **{**sound_fields(), "actions": np.full((2783, 2), 0.5)})))
    for words in (
        "Data check: mine", "1 error, 0 warnings, 0 notes", "✖ Error", "no action differs", "What to do: ",
        "--target-returns 100", "2,783", "return of an episode", "terminated", "mean ± deviation", "lower bound",
    ):  # fmt: skip
        assert words in outline.text, words
    labels = [attributes["aria-label"] for tag, attributes in outline.tags if tag == "svg"]
    assert labels == [
        "Histogram of returns", "Histogram of lengths", "Observations by coordinate", "Actions by coordinate",
        "Actions at their bounds",
    ]  # fmt: skip
    assert outline.count("script") == outline.count("link") == 0


def test_nothing_to_complain_of() -> None:
    text = Outline(page(build_dataset("mine", **sound_fields(discrete=True), environment="Mine-v0"))).text
    assert "Nothing to complain of." in text
    assert "3 choices" in text
    assert "% of all steps" in text
    assert "Mine-v0" in text


def test_charts_share_no_name() -> None:
    ids = re.findall(r'\bid="([^"]*)"', page(build_dataset("mine", **sound_fields())))
    assert len(ids) == len(set(ids))


def test_names_are_text() -> None:
    dataset = build_dataset(HOSTILE, **sound_fields(), environment=HOSTILE)
    unread = Report(HOSTILE, (Finding("error", "reading", HOSTILE, HOSTILE),))
    for text in (page(dataset), checking_page(unread)):
        outline = Outline(text)
        assert outline.count("img") == 0
        assert HOSTILE in outline.text


@pytest.mark.parametrize(
    "fields",
    [
        make_fields((1,)),
        {**make_fields(), "observations": np.zeros((10, 2))},
        {**make_fields(), "observations": np.full((10, 2), 3e38) * [[1, -1]]},
        {**make_fields(), "observations": np.ones((10, 300))},
        {**make_fields(), "observations": np.zeros((10, 20, 20), dtype=np.uint8)},
        {**make_fields(), "rewards": np.full(10, 6e37)},
        {**make_fields(), "rewards": np.linspace(1e8, 1e8 + 8, 10)},
        {**make_fields(), "actions": np.zeros((10, 300))},
        {**make_fields(), "actions": np.ones(10, dtype=int)},
    ],
    ids=range(9),
)
def test_small_and_odd_data_have_a_page(fields: dict[str, object]) -> None:
    outline = Outline(page(build_dataset("odd", **fields)))  # type: ignore[arg-type]
    assert "Data check: odd" in outline.text
    assert outline.count("svg") >= 2


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    report = check_dataset(make_dataset())
    write_page(report, tmp_path / "a" / "b.html")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.html"]
    assert (tmp_path / "a" / "b.html").read_text(encoding="utf-8") == checking_page(report)


def test_a_place_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    report = check_dataset(make_dataset())
    for place in (tmp_path / "folder", tmp_path / "file" / "page.html", tmp_path / ("a" * 300)):
        with pytest.raises(ConfigError, match="choose another --out"):
            write_page(report, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    write_page(Report("\udcff", (Finding("error", "reading", "\udcff", ""),)), tmp_path / "page.html")
    assert "\\udcff" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("dataset_id", "name"),
    [
        ("builtin:hopper-medium", "hopper-medium"),
        ("file:/data/my logs/run 3.npz", "run-3"),
        ("../../etc/passwd", "passwd"),
        ("minari:mujoco/hopper/medium-v0", "mujoco-hopper-medium-v0"),
        ("minari:../../x", "x"),
        ("file:<script>alert(1)</script>.npz", "script"),
        ("file:..", "dataset"),
        ("file:" + "a" * 300 + ".npz", "a" * 80),
    ],
)
def test_where_the_page_goes(dataset_id: str, name: str) -> None:
    assert default_page(dataset_id) == Path("runs/check") / f"{name}.html"
