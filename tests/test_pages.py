import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from wikirl import charts, pages
from wikirl.charts import Bars, Chart, Ranges, Series
from wikirl.errors import ConfigError
from wikirl.pages import Html

HOSTILE = """<img src=x onerror="alert('1')">&$a$ {0} --> ]]>"""
CHART = Chart(
    title="Score against updates",
    x_label="updates",
    y_label="score",
    series=(
        Series("scratch", [1, 2, 3], [1.0, 4.0, 2.0], [0.0, 3.0, 1.0], [2.0, 5.0, 3.0]),
        Series("chibit", [1, 2, 3], [2.0, 1.0, 3.0]),
    ),
    references={"data's mean": 2.5},
)
BARS = Bars(
    title="Lengths", x_label="steps", y_label="episodes", edges=[0, 1, 2, 4],
    series={"terminated": [1, 2, 0], "cut": [0, 1, 4]}, references={"limit": 3.5},
)  # fmt: skip
RANGES = Ranges(
    title="Values", x_label="coordinate", y_label="value", low=[-1.0, -500.0], high=[1.0, 900.0],
    mean=[0.0, 3.0], std=[0.5, 99.0], bounds={"lower bound": [-2.0, -1000.0], "upper bound": [2.0, 1000.0]},
)  # fmt: skip


class Outline(HTMLParser):
    """Tags with their attributes, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_a_page_is_complete_and_loads_nothing() -> None:
    text = pages.page("A title", pages.paragraph("Words."))
    outline = Outline(text)
    assert text.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in outline.tags
    assert outline.count("title") == outline.count("h1") == outline.count("main") == 1
    assert any(attributes.get("name") == "viewport" for _, attributes in outline.tags)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "/*light*/" not in text
    assert "://" not in text
    assert outline.count("script") == outline.count("link") == 0


@pytest.mark.parametrize(
    "part",
    [
        pages.paragraph(HOSTILE),
        pages.strong(HOSTILE),
        pages.quiet(HOSTILE),
        pages.code_word(HOSTILE),
        pages.code(HOSTILE),
        pages.bullets(HOSTILE),
        pages.section(HOSTILE, HOSTILE),
        pages.note(HOSTILE),
        pages.facts({HOSTILE: HOSTILE}),
        pages.table([{HOSTILE: HOSTILE, "b": HOSTILE}], HOSTILE),
        pages.figure(Html(""), HOSTILE),
        pages.image(b"", HOSTILE, HOSTILE),
        pages.link(HOSTILE),
        pages.page(HOSTILE, HOSTILE),
        charts.line_chart(Chart(HOSTILE, HOSTILE, HOSTILE, [Series(HOSTILE, [0, 1], [1, 2])], {HOSTILE: 1.0})),
        pages.alert("error", HOSTILE),
        charts.bar_chart(Bars(HOSTILE, HOSTILE, HOSTILE, [0, 1], {HOSTILE: [1]}, {HOSTILE: 0.5})),
        charts.range_chart(Ranges(HOSTILE, HOSTILE, HOSTILE, [0.0], [1.0], [0.5], [0.1], {HOSTILE: [1.0]})),
    ],
    ids=range(18),
)
def test_text_never_becomes_markup(part: str) -> None:
    for tag, attributes in Outline(part).tags:
        assert "onerror" not in attributes
        assert attributes.get("src", "data:") != "x"
        assert tag != "img" or (attributes["src"] or "").startswith("data:")


def test_markup_is_escaped_once() -> None:
    assert pages.escape("a < b & c") == "a &lt; b &amp; c"
    assert pages.escape(pages.escape("a < b")) == "a &lt; b"
    assert pages.paragraph("1 < 2, ", pages.strong("so")) == "<p>1 &lt; 2, <strong>so</strong></p>"


def test_a_link_stays_on_this_machine() -> None:
    assert 'href="./javascript%3Aalert%281%29"' in pages.link("javascript:alert(1)")
    assert 'href="./a%20b/%C3%A9.json"' in pages.link("a b/é.json")


def test_a_table_names_its_rows_and_columns() -> None:
    outline = Outline(pages.table([{"arm": "scratch", "last": 1.5}, {"arm": "chibit", "last": 2}], "Scores"))
    assert [attributes for tag, attributes in outline.tags if tag == "th"] == [
        {"scope": "col"}, {"scope": "col"}, {"scope": "row"}, {"scope": "row"},
    ]  # fmt: skip
    assert outline.count("td") == 2
    assert "Scores" in outline.text


@pytest.mark.parametrize("rows", [[], [{"a": 1}, {"b": 1}]])
def test_a_table_needs_rows_of_the_same_columns(rows: list[dict[str, object]]) -> None:
    with pytest.raises(ConfigError, match="same columns"):
        pages.table(rows)


def test_a_chart_says_what_it_shows_in_the_colours_of_the_page() -> None:
    svg = charts.line_chart(CHART)
    text = Outline(svg).text
    for word in ("scratch", "chibit", "updates", "score", "data's mean"):
        assert word in text
    assert 'role="img" aria-label="Score against updates"' in svg
    assert {"--ink", "--grid", "--line-0", "--line-1"} == set(re.findall(r"var\((--[a-z0-9-]+)\)", svg))
    assert "#000000" not in svg
    assert "://" not in svg


def test_a_chart_is_the_same_every_time_and_shares_no_name_with_another() -> None:
    assert charts.line_chart(CHART) == charts.line_chart(CHART)
    assert charts.png_line_chart(CHART) == charts.png_line_chart(CHART)
    names = [set(re.findall(r'\bid="([^"]*)"', charts.line_chart(replace(CHART, title=title)))) for title in "ab"]
    assert names[0]
    assert not names[0] & names[1]


def test_dollars_and_underscores_are_letters() -> None:
    chart = Chart("t", "x", "y", [Series("_a $x_1$ b", [0, 1], [0, 1])])
    assert "_a $x_1$ b" in Outline(charts.line_chart(chart)).text


def test_a_png_has_lines_on_white() -> None:
    picture = np.asarray(Image.open(BytesIO(charts.png_line_chart(CHART))).convert("RGB")).astype(int)
    assert (picture[0, 0] == 255).all()
    blue = (np.abs(picture - [0x00, 0x72, 0xB2]).sum(axis=2) < 30).sum()
    orange = (np.abs(picture - [0xD5, 0x5E, 0x00]).sum(axis=2) < 30).sum()
    assert min(blue, orange) > 500


def test_charts_that_cannot_be_drawn() -> None:
    line = CHART.series[1]
    for series in ([], [line] * 5):
        with pytest.raises(ConfigError, match="1 to 4 lines"):
            charts.line_chart(replace(CHART, series=series))
    for wrong in (replace(line, y=[1.0]), replace(line, low=[0.0, 0.0, 0.0])):
        with pytest.raises(ConfigError, match="one length"):
            charts.png_line_chart(replace(CHART, series=[wrong]))


def test_severity_is_not_colour_alone() -> None:
    for level, words in (("error", "✖ Error"), ("warning", "▲ Warning"), ("note", "● Note")):
        outline = Outline(pages.alert(level, "Text."))  # type: ignore[arg-type]
        assert outline.tags[0] == ("div", {"class": f"note level-{level}"})
        assert words in outline.text


def test_bars_and_ranges_say_what_they_show() -> None:
    for svg, title, words in (
        (charts.bar_chart(BARS), "Lengths", ("steps", "episodes", "terminated", "cut", "limit")),
        (
            charts.range_chart(RANGES),
            "Values",
            ("coordinate", "value", "all values", "mean ± deviation", "upper bound"),
        ),
    ):
        assert f'role="img" aria-label="{title}"' in svg
        for word in words:
            assert word in Outline(svg).text
        assert {"--ink", "--grid", "--line-0", "--line-1"} == set(re.findall(r"var\((--[a-z0-9-]+)\)", svg))
        assert "#000000" not in svg
        assert "://" not in svg
    assert charts.bar_chart(BARS) == charts.bar_chart(BARS)
    assert charts.range_chart(RANGES) == charts.range_chart(RANGES)


def test_bars_stand_on_each_other() -> None:
    svg = charts.bar_chart(replace(BARS, series={"a": [1, 1, 1], "b": [3, 0, 1]}, references={}))
    assert "4" in Outline(svg).text  # the axis goes up to the sum
    numbered = charts.bar_chart(replace(BARS, edges=[-0.5, 0.5, 1.5, 2.5], numbered=True))
    assert "0.5" not in Outline(numbered).text  # whole numbers under the bars


def test_bars_and_ranges_that_cannot_be_drawn() -> None:
    for wrong in (
        replace(BARS, series={}), replace(BARS, series={name: [1, 2, 3] for name in "abcde"}),
        replace(BARS, references=dict.fromkeys("abcde", 1.0)), replace(BARS, edges=[0, 1]), replace(BARS, edges=[]),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            charts.bar_chart(wrong)
    for bad in (replace(RANGES, mean=[0.0]), replace(RANGES, bounds={"a": [1.0]}), Ranges("", "", "", [], [], [], [])):
        with pytest.raises(ConfigError, match="one length"):
            charts.range_chart(bad)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e38, -1e38], [1e-40, 1.0], [5.0, 5.0]])
def test_ranges_of_any_size_are_drawn(values: list[float]) -> None:
    assert "value" in charts.range_chart(Ranges("", "number", "value", values, values, values, [0.0, 1.0]))
