"""Charts of lines, bars and ranges, as inline SVG in a page's colours or as PNG; same values, same bytes.

This file knows matplotlib. It deliberately knows nothing of runs, scores or what a chart is about. Small multiples and
forest plots are in panels.py.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from wikirl.errors import ConfigError
from wikirl.pages import GRID, INK, LINES, Html, escape, page_colours

_MARKERS, _DASHES = "osD^", ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
_HATCHES = ("", "////", "....", "xxxx")
_MOST_MARKERS = 24  # points of a line


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
    return as_svg(lambda: _draw(chart), chart.title)


def bar_chart(chart: Bars) -> Html:
    """Bars as inline SVG, likewise.

    Raises:
        ConfigError: nothing to draw or too much, or another number of heights than of bars.
    """
    return as_svg(lambda: _draw_bars(chart), chart.title)


def range_chart(chart: Ranges) -> Html:
    """Ranges as inline SVG, likewise.

    Raises:
        ConfigError: nothing to draw, or columns that differ in length.
    """
    return as_svg(lambda: _draw_ranges(chart), chart.title)


def png_line_chart(chart: Chart) -> bytes:
    """The same chart as a PNG file on white, with its title; raises as `line_chart`."""
    return as_png(_draw(chart), chart.title)


def as_png(drawn: Figure, title: str) -> bytes:
    """A figure as a PNG file on white, with its title."""
    drawn.suptitle(plain(title, 80), x=0.02, ha="left", fontsize=11, color=INK)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def as_svg(draw: Callable[[], Figure], title: str) -> Html:
    """A figure as a part of a page, in the page's colours."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "hatch.linewidth": 0.7}):
        buffer = io.StringIO()
        draw().savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), title)


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    drawn = Figure(figsize=(5.2, 3.3), layout="constrained")
    axes = drawn.add_subplot()
    axes.set_xlabel(plain(x_label), color=INK)
    axes.set_ylabel(plain(y_label), color=INK)
    plain_axes(axes)
    return drawn, axes


def plain_axes(axes: Axes, lines: Literal["x", "y"] = "y") -> None:
    """Axes in the page's colours, open at the top and the right, with lines across one of them."""
    axes.grid(axis=lines, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def _legend(axes: Axes, columns: int = 3) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=columns, frameon=False, labelcolor=INK)


def _draw(chart: Chart) -> Figure:
    if not 1 <= len(chart.series) <= len(LINES):
        raise ConfigError(f"a chart shows 1 to {len(LINES)} lines; asked for {len(chart.series)}")
    drawn, axes = _axes(chart.x_label, chart.y_label)
    for number, line in enumerate(chart.series):
        _draw_line(axes, line, number)
    for name, height in chart.references.items():
        axes.axhline(height, color=INK, linewidth=1.2, linestyle=(0, (1, 2)), label=plain(name), zorder=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    _legend(axes)
    return drawn


def _draw_bars(chart: Bars) -> Figure:
    if not 1 <= len(chart.series) <= len(LINES) or len(chart.references) > len(_DASHES):
        raise ConfigError(
            f"a chart shows 1 to {len(LINES)} series of bars and up to {len(_DASHES)} lines; "
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
            middles, heights, widths, below, label=plain(name), facecolor=LINES[number], alpha=0.75, edgecolor=INK,
            linewidth=0.4, hatch=_HATCHES[number], zorder=2,
        )  # fmt: skip
        below = below + np.asarray(heights, dtype=float)
    for (name, place), dashes in zip(chart.references.items(), _DASHES[1:] + _DASHES[:1], strict=False):
        axes.axvline(place, color=LINES[1], linewidth=2, linestyle=dashes, label=plain(name), zorder=3)
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
    axes.vlines(numbers, low, high, color=LINES[0], linewidth=min(1.5, wide), label="all values")
    axes.vlines(numbers, mean - std, mean + std, color=LINES[0], linewidth=wide, alpha=0.6, label="mean ± deviation")
    axes.plot(numbers, mean, color=LINES[0], linestyle="", marker="o", markersize=min(4, wide))  # of constants, all
    for (name, heights), marker in zip(chart.bounds.items(), "_x", strict=False):
        axes.plot(numbers, heights, color=LINES[1], linestyle="", marker=marker, markersize=9, label=plain(name))
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
    colour = LINES[number]
    marker = _MARKERS[number] if len(line.x) <= _MOST_MARKERS else ""
    (drawn,) = axes.plot(line.x, line.y, color=colour, linestyle=_DASHES[number], label=plain(line.label))
    drawn.set(linewidth=1.8, marker=marker, markersize=4.5)
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)


def plain(text: str, longest: int = 32) -> str:
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
    for name, colour in page_colours().items():
        svg = svg.replace(colour, f"var(--{name})")
    return Html(f'<svg class="chart" {box[0]} role="img" aria-label="{escape(title)}">{svg}'.rstrip())
