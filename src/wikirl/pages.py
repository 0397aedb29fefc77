"""Self-contained HTML pages and their charts: no scripts, no requests, light and dark, readable on paper.

This file knows HTML, escaping and matplotlib (and is the only one that does, which makes it long). It deliberately
knows nothing of runs, scores or what a page is about. Whatever is not `Html` already is text and gets escaped, so text
from data and file names cannot become markup by being forgotten. The style sheet is assets/page.css.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final
from urllib.parse import quote

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from wikirl.errors import ConfigError

_STYLE_SHEET = Path(__file__).parent / "assets" / "page.css"
# Okabe and Ito's palette, which colour-blind readers tell apart, and lighter shades of it for dark pages.
# Markers and dashes say the same once more.
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b0568a")
_DARK = ("#56b4e9", "#f0a030", "#3cc9a0", "#e59ac5")
_MARKERS, _DASHES = "osD^", ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
_INK, _GRID = "#1b1f24", "#c9ced6"
_HATCHES = ("", "////", "....", "xxxx")
_MOST_MARKERS = 24  # points of a line
_LEVELS = {"error": "✖ Error", "warning": "▲ Warning", "note": "● Note"}  # a shape and a word beside the colour


@final
class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Anything as markup: `Html` as it is, everything else as escaped text."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(parts: Sequence[object], separator: str = "\n") -> Html:
    """Several parts one after the other."""
    return Html(separator.join(escape(part) for part in parts))


def paragraph(*parts: object) -> Html:
    """A paragraph."""
    return Html(f"<p>{join(parts, '')}</p>")


def strong(text: str) -> Html:
    """Words that matter."""
    return Html(f"<strong>{escape(text)}</strong>")


def quiet(text: str) -> Html:
    """Words for those who want to know more."""
    return Html(f'<small class="quiet">{escape(text)}</small>')


def code_word(text: str) -> Html:
    """A name or command within a sentence."""
    return Html(f"<code>{escape(text)}</code>")


def bullets(*items: object) -> Html:
    """A list."""
    return Html("<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>")


def section(title: str, *content: object) -> Html:
    """A heading and what stands under it."""
    return Html(f"<section>\n<h2>{escape(title)}</h2>\n{join(content)}\n</section>")


def note(*content: object) -> Html:
    """A box that stands out."""
    return Html(f'<div class="note">{join(content)}</div>')


def alert(level: Literal["error", "warning", "note"], *content: object) -> Html:
    """A box that says how severe it is: by word, shape, line and colour."""
    mark = f'<p class="level">{_LEVELS[level]}</p>'
    return Html(f'<div class="note level-{level}">\n{mark}\n{join(content)}\n</div>')


def code(text: str) -> Html:
    """Text to be read or copied letter by letter."""
    return Html(f"<pre><code>{escape(text)}</code></pre>")


def link(path: str, text: str | None = None) -> Html:
    """A link to a file beside the page; never to another place."""
    # The leading ./ keeps a file name such as "javascript:x" a file name.
    return Html(f'<a href="./{escape(quote(path))}">{escape(path if text is None else text)}</a>')


def facts(values: Mapping[str, object]) -> Html:
    """Names and values, one pair a line."""
    pairs = "\n".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in values.items())
    return Html(f"<dl>\n{pairs}\n</dl>")


def table(rows: Sequence[Mapping[str, object]], caption: str = "") -> Html:
    """A table with a column for each key of the first row; its first column names the row.

    Raises:
        ConfigError: there is no row, or two rows have other columns.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise ConfigError(f"a table needs rows of the same columns; found {[list(row) for row in rows]}")
    head = "".join(f'<th scope="col">{escape(key)}</th>' for key in rows[0])
    lines = []
    for row in rows:
        first, *others = (escape(value) for value in row.values())
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "\n".join(lines)
    # Reachable by keyboard, because on a narrow screen it scrolls.
    return Html(
        f'<div class="scroll" tabindex="0">\n<table>{title}\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def image(data: bytes, mime: str, alt: str) -> Html:
    """A picture inside the page."""
    encoded = base64.b64encode(data).decode()
    return Html(f'<img src="data:{escape(mime)};base64,{encoded}" alt="{escape(alt)}">')


def figure(content: Html, caption: object) -> Html:
    """A picture or chart with its caption."""
    return Html(f"<figure>\n{content}\n<figcaption>{escape(caption)}</figcaption>\n</figure>")


def film(moving: Html, stills: Sequence[Html]) -> Html:
    """A moving picture with eight still ones beside it; who asked for less motion sees only these."""
    return Html(f'<div class="film">\n{join([moving, *stills])}\n</div>')


def side_by_side(*parts: Html) -> Html:
    """Parts in columns where there is room for them."""
    return Html(f'<div class="columns">\n{join(parts)}\n</div>')


def page(title: str, *content: object) -> str:
    """A whole page; it may load nothing, and says so to the browser too."""
    return _SHELL.format(title=escape(title), style=_style(), content=join(content))


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Its name in the legend.
        x: Where its points lie, increasing.
        y: Their heights.
        low: Lower edge of a shaded band around it; None for no band.
        high: Upper edge.
    """

    label: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    low: Sequence[float | int] | None = None
    high: Sequence[float | int] | None = None


@dataclass(frozen=True)
class Chart:
    """What a line chart shows; `line_chart` and `png_line_chart` draw it.

    Attributes:
        title: What it shows; read aloud in place of the picture.
        x_label: Quantity and unit of the horizontal axis.
        y_label: Likewise for the vertical one.
        series: The lines; at most four can be told apart.
        references: Heights of dotted horizontal lines, by name.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    references: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bars:
    """What a chart of bars shows: a histogram, or figures of things with numbers; `bar_chart` draws it.

    Attributes:
        title: What it shows; read aloud in place of the picture.
        x_label: Quantity and unit of the horizontal axis.
        y_label: Likewise for the vertical one.
        edges: Where bars begin, increasing, and where the last one ends.
        series: Heights by name, put on top of each other; at most four can be told apart.
        references: Places of vertical lines, by name; at most four.
        numbered: Whether the bars stand for things with whole numbers, each in the middle of its edges.
    """

    title: str
    x_label: str
    y_label: str
    edges: Sequence[float | int]
    series: Mapping[str, Sequence[float | int]]
    references: Mapping[str, float] = field(default_factory=dict)
    numbered: bool = False


@dataclass(frozen=True)
class Ranges:
    """What a chart of ranges shows: for each of several things with numbers, where values lie; `range_chart` draws it.

    Attributes:
        title: What it shows; read aloud in place of the picture.
        x_label: What is numbered, from 0.
        y_label: Quantity and unit of the vertical axis.
        low: Smallest value of each.
        high: Largest value.
        mean: Mean value.
        std: Deviation from it.
        bounds: Values that may not be passed, by name.
    """

    title: str
    x_label: str
    y_label: str
    low: Sequence[float]
    high: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]
    bounds: Mapping[str, Sequence[float]] = field(default_factory=dict)


def line_chart(chart: Chart) -> Html:
    """A chart as inline SVG in the page's own colours; the same bytes for the same values.

    Raises:
        ConfigError: no line or more than four, or columns of a line that differ in length.
    """
    return _svg(lambda: _draw(chart), chart.title)


def bar_chart(chart: Bars) -> Html:
    """Bars as inline SVG, likewise.

    Raises:
        ConfigError: nothing to draw or too much, or another number of heights than of bars.
    """
    return _svg(lambda: _draw_bars(chart), chart.title)


def range_chart(chart: Ranges) -> Html:
    """Ranges as inline SVG, likewise.

    Raises:
        ConfigError: nothing to draw, or columns that differ in length.
    """
    return _svg(lambda: _draw_ranges(chart), chart.title)


def png_line_chart(chart: Chart) -> bytes:
    """The same chart as a PNG file on white, with its title; raises as `line_chart`."""
    drawn = _draw(chart)
    drawn.suptitle(_plain(chart.title, 60), x=0.02, ha="left", fontsize=11, color=_INK)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _svg(draw: Callable[[], Figure], title: str) -> Html:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "hatch.linewidth": 0.7}):
        buffer = io.StringIO()
        draw().savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), title)


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    drawn = Figure(figsize=(5.2, 3.3), layout="constrained")
    axes = drawn.add_subplot()
    axes.set_xlabel(_plain(x_label), color=_INK)
    axes.set_ylabel(_plain(y_label), color=_INK)
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    return drawn, axes


def _legend(axes: Axes, columns: int = 3) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=columns, frameon=False, labelcolor=_INK)


def _draw(chart: Chart) -> Figure:
    if not 1 <= len(chart.series) <= len(_LIGHT):
        raise ConfigError(f"a chart shows 1 to {len(_LIGHT)} lines; asked for {len(chart.series)}")
    drawn, axes = _axes(chart.x_label, chart.y_label)
    for number, line in enumerate(chart.series):
        _draw_line(axes, line, number)
    for name, height in chart.references.items():
        axes.axhline(height, color=_INK, linewidth=1.2, linestyle=(0, (1, 2)), label=_plain(name), zorder=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    _legend(axes)
    return drawn


def _draw_bars(chart: Bars) -> Figure:
    if not 1 <= len(chart.series) <= len(_LIGHT) or len(chart.references) > len(_DASHES):
        raise ConfigError(
            f"a chart shows 1 to {len(_LIGHT)} series of bars and up to {len(_DASHES)} lines; "
            f"asked for {len(chart.series)} and {len(chart.references)}"
        )
    edges, wrong = np.asarray(chart.edges, dtype=float), [len(heights) for heights in chart.series.values()]
    if len(edges) < 2 or any(length != len(edges) - 1 for length in wrong):
        raise ConfigError(f"{len(edges)} edges need one height less in each series; found {wrong}")
    drawn, axes = _axes(chart.x_label, chart.y_label)
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges) * (0.8 if chart.numbered else 1)
    below = np.zeros(len(middles))
    for number, (name, heights) in enumerate(chart.series.items()):
        axes.bar(
            middles, heights, widths, below, label=_plain(name), facecolor=_LIGHT[number], alpha=0.75, edgecolor=_INK,
            linewidth=0.4, hatch=_HATCHES[number], zorder=2,
        )  # fmt: skip
        below = below + np.asarray(heights, dtype=float)
    for (name, place), dashes in zip(chart.references.items(), _DASHES[1:] + _DASHES[:1], strict=False):
        axes.axvline(place, color=_LIGHT[1], linewidth=2, linestyle=dashes, label=_plain(name), zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=chart.numbered))
    _legend(axes)
    return drawn


def _draw_ranges(chart: Ranges) -> Figure:
    low, high, mean, std = (
        np.asarray(column, dtype=float) for column in (chart.low, chart.high, chart.mean, chart.std)
    )
    lengths = {len(low), len(high), len(mean), len(std), *map(len, chart.bounds.values())}
    if len(lengths) != 1 or lengths == {0}:
        raise ConfigError(f"expected columns of one length; found lengths {sorted(lengths)}")
    drawn, axes = _axes(chart.x_label, chart.y_label)
    numbers, wide = np.arange(len(low)), min(8.0, 240 / len(low))  # points
    axes.vlines(numbers, low, high, color=_LIGHT[0], linewidth=min(1.5, wide), label="all values")
    axes.vlines(numbers, mean - std, mean + std, color=_LIGHT[0], linewidth=wide, alpha=0.6, label="mean ± deviation")
    axes.plot(numbers, mean, color=_LIGHT[0], linestyle="", marker="o", markersize=min(4, wide))  # of constants, all
    for (name, heights), marker in zip(chart.bounds.items(), "_x", strict=False):
        axes.plot(numbers, heights, color=_LIGHT[1], linestyle="", marker=marker, markersize=9, label=_plain(name))
    sizes = np.maximum(np.abs(low), np.abs(high))
    if sizes.max() > 50 * sizes[sizes > 0].min(initial=np.inf):  # some would be a dot at zero
        small = float(np.quantile(sizes[sizes > 0], 0.25))
        decades = float(np.log10(sizes.max() / small))
        axes.set_yscale("symlog", linthresh=small, linscale=max(decades / 5, 0.5))  # room for the labels around zero
        places = SymmetricalLogLocator(base=10, linthresh=small)
        places.set_params(numticks=9)
        axes.yaxis.set_major_locator(places)
        axes.tick_params(which="minor", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.margins(x=0.04)
    _legend(axes, columns=2)
    return drawn


def _draw_line(axes: Axes, line: Series, number: int) -> None:
    lengths = {len(column) for column in (line.x, line.y, line.low, line.high) if column is not None}
    if len(lengths) != 1 or (line.low is None) != (line.high is None):
        raise ConfigError(
            f"expected columns of one length and a whole band or none in the line {line.label!r}; "
            f"found lengths {sorted(lengths)}"
        )
    colour = _LIGHT[number]
    marker = _MARKERS[number] if len(line.x) <= _MOST_MARKERS else ""
    (drawn,) = axes.plot(line.x, line.y, color=colour, linestyle=_DASHES[number], label=_plain(line.label))
    drawn.set(linewidth=1.8, marker=marker, markersize=4.5)
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)


def _plain(text: str, longest: int = 32) -> str:
    """A label without mathematics, short enough to leave room for the chart, and not hidden from the legend."""
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return " " * short.startswith("_") + short.replace("$", r"\$")


def _inline(svg: str, title: str) -> Html:
    """An SVG file as a part of a page: in its colours, without the file's header and its names for groups."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # would be there twice with two charts
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    svg = svg[svg.index(">") + 1 :]
    for name, colour in {"ink": _INK, "grid": _GRID, **_lines(_LIGHT)}.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Html(f'<svg class="chart" {box[0]} role="img" aria-label="{escape(title)}">{svg}'.rstrip())


def _lines(colours: Sequence[str]) -> dict[str, str]:
    return {f"line-{number}": colour for number, colour in enumerate(colours)}


def _style() -> str:
    light, dark = {"ink": _INK, "grid": _GRID, **_lines(_LIGHT)}, _lines(_DARK)
    style = _STYLE_SHEET.read_text()
    for mark, colours in (("/*light*/", light), ("/*dark*/", dark)):
        style = style.replace(mark, " ".join(f"--{name}: {colour};" for name, colour in colours.items()))
    return style


_SHELL = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""
