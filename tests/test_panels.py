import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.test_pages import HOSTILE, Outline
from wikirl.charts import Series
from wikirl.errors import ConfigError
from wikirl.panels import (
    Estimate,
    Forest,
    Panel,
    Panels,
    forest_plot,
    png_forest_plot,
    png_small_multiples,
    small_multiples,
)

SCRATCH = Series("scratch", [1, 2, 3], [1.0, 4.0, 2.0], [0.0, 3.0, 1.0], [2.0, 5.0, 3.0])
CURVES = Panels(
    "Curves", "updates", "score",
    [Panel(Series(f"arm {k}", [1, 2, 3], [2.0, 1.0, 9.0]), SCRATCH, marked=k == 0) for k in range(9)], {"data": 2.5},
)  # fmt: skip
UP, DOWN = Estimate(3.0, 1.0, 5.0), Estimate(-3.0, -5.0, -1.0)
UNCLEAR, SINGLE = Estimate(1.0, 0.5, 2.0, (-1.0, 3.0)), Estimate(2.0, -np.inf, np.inf)
FOREST = Forest(
    "Differences", "points above scratch", ["up", "down", "unclear", "single", "absent"],
    {"here": [UP, DOWN, UNCLEAR, SINGLE, None], "there": [None] * 5}, marked=["up"],
)  # fmt: skip


def test_every_panel_is_a_picture_with_its_name_on_the_same_axes() -> None:
    html = small_multiples(CURVES)
    outline = Outline(html)
    assert outline.count("svg") == outline.count("figcaption") == 9
    assert all(f"arm {k}" in outline.text for k in range(9))
    assert html.count('<figcaption class="marked">') == 1
    pictures = re.findall(r"<svg.*?</svg>", html, re.S)
    labels = {tuple(re.findall(r">(-?\d+)</text>", re.sub(r"\s*</?tspan[^>]*>", "", one))) for one in pictures}
    assert len(labels) == 1
    assert small_multiples(CURVES) == html


def test_a_forest_says_which_intervals_leave_out_zero() -> None:
    html = forest_plot(FOREST)
    first, second = re.findall(r"<svg.*?</svg>", html, re.S)
    assert "--line-0" in first  # above 0
    assert "--line-1" in first  # below
    assert "--line-0" not in second
    only_unclear = replace(FOREST, rows=["unclear"], columns={"here": [UNCLEAR]}, marked=[])
    assert "--line-0" not in forest_plot(only_unclear)  # the outer interval holds 0
    assert all(name in Outline(html).text for name in (*FOREST.rows, "here", "there", "points above scratch"))


def test_a_wide_outer_interval_does_not_hide_the_others() -> None:
    def places(forest: Forest) -> list[float]:
        text = Outline(forest_plot(forest)).text.replace("−", "-")
        return [float(word) for word in re.findall(r"-?\d+\.?\d*", text)]

    wide = replace(FOREST, rows=["up"], columns={"here": [Estimate(3.0, 1.0, 5.0, (-1000.0, 1000.0))]})
    assert max(abs(place) for place in places(wide)) <= 10


def test_panels_of_other_units_have_axes_of_their_own() -> None:
    columns = {"here": [UP], "there": [Estimate(3000.0, 1000.0, 5000.0)]}
    forest = replace(FOREST, rows=["up"], columns=columns, same_scale=False)
    first, second = (Outline(one).text for one in re.findall(r"<svg.*?</svg>", forest_plot(forest), re.S))
    assert "4000" in second
    assert "4000" not in first


def test_pngs_hold_all_panels() -> None:
    for data in (png_small_multiples(CURVES), png_forest_plot(FOREST)):
        picture = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
        assert (picture[0, 0] == 255).all()
        assert (np.abs(picture - [0x00, 0x72, 0xB2]).sum(axis=2) < 30).sum() > 300
    assert png_forest_plot(FOREST) == png_forest_plot(FOREST)
    # Of nine panels in rows of four the last row has one: the rest of it is empty.
    curves = np.asarray(Image.open(BytesIO(png_small_multiples(CURVES))).convert("L"))
    rows, columns = curves.shape
    assert (curves[int(0.75 * rows) : int(0.92 * rows), int(0.7 * columns) :] == 255).all()


def test_text_never_becomes_markup() -> None:
    curves = Panels(HOSTILE, HOSTILE, HOSTILE, [Panel(replace(SCRATCH, label=HOSTILE), SCRATCH)])
    forest = Forest(HOSTILE, HOSTILE, [HOSTILE], {HOSTILE: [Estimate(1.0, 0.0, 2.0)]}, [HOSTILE])
    for html in (small_multiples(curves), forest_plot(forest)):
        assert "img" not in [tag for tag, _ in Outline(html).tags]


def test_many_steps_are_written_short() -> None:
    long = Panels("t", "x", "y", [Panel(Series("a", [0, 50_000, 100_000], [0, 1, 2]))])
    assert "50k" in Outline(small_multiples(long)).text


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match="at least one panel"):
        small_multiples(replace(CURVES, panels=[]))
    with pytest.raises(ConfigError, match="one length"):
        small_multiples(replace(CURVES, panels=[Panel(replace(SCRATCH, y=[1.0]))]))
    for wrong in (replace(FOREST, rows=[]), replace(FOREST, columns={}), replace(FOREST, rows=["up"])):
        with pytest.raises(ConfigError, match="an estimate per row"):
            forest_plot(wrong)
