"""Pictures of many things at once: small multiples, each beside what it is compared with, and forest plots.

On a page every panel is a picture of its own, so that a wide screen shows many side by side and a phone one or two; as
a PNG file they are one picture. More than four things are told apart by their places, not by colours. This file knows
matplotlib, and each of its pictures in two forms, which makes it long. It deliberately knows nothing of runs, scores or
what a picture is about.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wikirl.charts import Series, as_png, as_svg, plain, plain_axes
from wikirl.errors import ConfigError
from wikirl.pages import INK, LINES, QUIET, Html, escape, join

_PANEL = (2.2, 1.75)  # inches
_FOREST_WIDTH, _ROW_HEIGHT, _FOREST_MARGIN = 3.3, 0.23, 0.75  # inches
_LONGEST_LABEL = 28  # letters
_LETTER = 5.2  # points, of the labels of a panel's axes
_MOST_COLUMNS = 4  # of a PNG file
_STEPS = (1, 2, 2.5, 5, 10)  # between labels of an axis
_THOUSANDS = 10_000  # from where on numbers of steps are written with a k


@dataclass(frozen=True)
class Panel:
    """One thing's line, before that of what it is compared with.

    Attributes:
        line: Its label heads the panel.
        compared: Drawn in grey and dashed; None for nothing.
        marked: Whether it is what the page is about.
    """

    line: Series
    compared: Series | None = None
    marked: bool = False


@dataclass(frozen=True)
class Panels:
    """Small multiples: the same two quantities of many things, on the same axes.

    Attributes:
        title: What they show; read aloud in place of the picture.
        x_label: Quantity and unit of the horizontal axis.
        y_label: Likewise for the vertical one.
        panels: One after the other.
        references: Heights of dotted horizontal lines, by name.
    """

    title: str
    x_label: str
    y_label: str
    panels: Sequence[Panel]
    references: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, which may be infinite: then only the number is drawn.

    Attributes:
        value: The number.
        low: Lower end of its interval, drawn thick.
        high: Upper end.
        outer: Ends of a more careful interval, drawn thin; None for none.
    """

    value: float
    low: float
    high: float
    outer: tuple[float, float] | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether there is an interval to draw."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def whole(self) -> tuple[float, float]:
        """The ends that both intervals lie within."""
        low, high = self.outer or (self.low, self.high)
        return min(low, self.low), max(high, self.high)


@dataclass(frozen=True)
class Forest:
    """Estimates with intervals, a row for each thing and a panel for each circumstance, around a line at 0.

    Attributes:
        title: What they show; read aloud in place of the picture.
        x_label: Quantity and unit of the horizontal axis.
        rows: Names of the things.
        columns: The estimates of each panel by its name, one per row; None where there is none.
        marked: Rows that the page is about.
        same_scale: Whether all panels have the same unit, and then the same axis.
    """

    title: str
    x_label: str
    rows: Sequence[str]
    columns: Mapping[str, Sequence[Estimate | None]]
    marked: Collection[str] = ()
    same_scale: bool = True


def small_multiples(chart: Panels) -> Html:
    """The panels as inline SVG, as many side by side as there is room for.

    Raises:
        ConfigError: no panel, or columns of a line that differ in length.
    """
    limits = _limits_of_panels(chart)
    parts = []
    for panel in chart.panels:
        title = f"{chart.title}: {panel.line.label}"
        drawn = as_svg(lambda panel=panel: _one_panel(chart, panel, limits), title)  # type: ignore[misc]
        parts.append(_captioned(panel.line.label, drawn, panel.marked))
    return Html(f'<div class="panels">\n{join(parts)}\n</div>')


def png_small_multiples(chart: Panels) -> bytes:
    """The same as one PNG file on white; raises as `small_multiples`."""
    limits = _limits_of_panels(chart)
    columns = min(_MOST_COLUMNS, len(chart.panels))
    rows = math.ceil(len(chart.panels) / columns)
    drawn = Figure(figsize=(max(_PANEL[0] * columns, 4.4), _PANEL[1] * rows + 0.6), layout="constrained")
    places = list(drawn.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(places, chart.panels, strict=False):
        _draw_panel(axes, chart, panel, limits)
        _head(axes, panel.line.label, marked=panel.marked)
    for axes in places[len(chart.panels) :]:
        axes.set_visible(False)
    drawn.supxlabel(plain(chart.x_label, 60), color=INK, fontsize=9)
    drawn.supylabel(plain(chart.y_label), color=INK, fontsize=9)
    return as_png(drawn, chart.title)


def forest_plot(chart: Forest) -> Html:
    """The panels as inline SVG, as many side by side as there is room for.

    Raises:
        ConfigError: no row or no panel, or a panel with another number of estimates than there are rows.
    """
    limits = _limits_of_forest(chart)
    parts = []
    for name, estimates in chart.columns.items():

        def draw(name: str = name, estimates: Sequence[Estimate | None] = estimates) -> Figure:
            drawn = Figure(
                figsize=(_FOREST_WIDTH, _ROW_HEIGHT * len(chart.rows) + _FOREST_MARGIN), layout="constrained"
            )
            _draw_forest(drawn.add_subplot(), chart, estimates, limits[name])
            return drawn

        parts.append(_captioned(name, as_svg(draw, f"{chart.title}: {name}")))
    return Html(f'<div class="forest">\n{join(parts)}\n</div>')


def png_forest_plot(chart: Forest) -> bytes:
    """The same as one PNG file on white; raises as `forest_plot`."""
    limits = _limits_of_forest(chart)
    columns = min(_MOST_COLUMNS, len(chart.columns))
    rows = math.ceil(len(chart.columns) / columns)
    width = max(1.3 + (_FOREST_WIDTH - 1.0) * columns, 5.0)
    drawn = Figure(
        figsize=(width, (_ROW_HEIGHT * len(chart.rows) + _FOREST_MARGIN + 0.3) * rows + 0.3), layout="constrained"
    )
    places = drawn.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(places.flat):
        if number >= len(chart.columns):
            axes.set_visible(False)
            continue
        name, estimates = list(chart.columns.items())[number]
        _draw_forest(axes, chart, estimates, limits[name], labelled=number % columns == 0)
        _head(axes, name)
    return as_png(drawn, chart.title)


def _captioned(name: str, drawn: Html, marked: bool = False) -> Html:
    mark = ' class="marked"' if marked else ""
    return Html(f"<figure>\n<figcaption{mark}>{escape(name)}</figcaption>\n{drawn}\n</figure>")


def _head(axes: Axes, name: str, *, marked: bool = False) -> None:
    weight = "bold" if marked else "normal"
    axes.set_title(plain(name, _LONGEST_LABEL), loc="left", fontsize=9, color=INK, fontweight=weight)


def _one_panel(chart: Panels, panel: Panel, limits: tuple[float, float]) -> Figure:
    drawn = Figure(figsize=_PANEL)
    axes = drawn.add_subplot()
    _draw_panel(axes, chart, panel, limits)
    # Twice as fast as to have the layout found, and there may be hundreds of panels on a page.
    labels = axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks().tolist())
    left = 10 + _LETTER * max(len(label) for label in labels)
    drawn.subplots_adjust(left=left / 72 / _PANEL[0], right=0.98, bottom=0.13, top=0.97)
    return drawn


def _draw_panel(axes: Axes, chart: Panels, panel: Panel, limits: tuple[float, float]) -> None:
    plain_axes(axes)
    axes.tick_params(labelsize=8)
    for height in chart.references.values():
        axes.axhline(height, color=INK, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1.5)
    if panel.compared is not None:
        _draw_line(axes, panel.compared, QUIET, 1.2, dashed=True)
    _draw_line(axes, panel.line, LINES[0], 2.4 if panel.marked else 1.8)
    axes.set_ylim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, steps=_STEPS))
    if max(abs(end) for end in axes.get_xlim()) >= _THOUSANDS:
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value / 1000:g}k")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=_STEPS))


def _draw_line(axes: Axes, line: Series, colour: str, width: float, *, dashed: bool = False) -> None:
    lengths = {len(column) for column in (line.x, line.y, line.low, line.high) if column is not None}
    if len(lengths) != 1:
        raise ConfigError(f"expected columns of one length in the line {line.label!r}; found {sorted(lengths)}")
    axes.plot(line.x, line.y, color=colour, linestyle=(0, (4, 1.5)) if dashed else "-", linewidth=width)
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)


def _draw_forest(
    axes: Axes,
    chart: Forest,
    estimates: Sequence[Estimate | None],
    limits: tuple[float, float],
    *,
    labelled: bool = True,
) -> None:
    plain_axes(axes, "x")
    axes.axvline(0, color=INK, linewidth=1.0, zorder=1.5)
    for place, estimate in enumerate(estimates):
        if estimate is not None:
            _draw_estimate(axes, place, estimate)
    axes.set_ylim(len(chart.rows) - 0.4, -0.6)
    axes.set_xlim(*limits)
    axes.set_xlabel(plain(chart.x_label, 48), color=INK, fontsize=9, loc="right")  # goes on below the rows' names
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=_STEPS))
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines["left"].set_visible(False)
    labels = [plain(name, _LONGEST_LABEL) for name in chart.rows] if labelled else [""] * len(chart.rows)
    axes.set_yticks(range(len(chart.rows)), labels)
    for name, text in zip(chart.rows, axes.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if name in chart.marked else "normal")


def _draw_estimate(axes: Axes, place: int, estimate: Estimate) -> None:
    """Blue disc: above 0; orange square: below; grey ring: the interval holds 0 or there is none."""
    low, high = estimate.whole
    if low > 0:
        colour, marker, face = LINES[0], "o", LINES[0]
    elif high < 0:
        colour, marker, face = LINES[1], "s", LINES[1]
    else:
        colour, marker, face = QUIET, "o", "none"
    if estimate.is_bounded:
        axes.plot([low, high], [place, place], color=colour, linewidth=0.8, solid_capstyle="butt")
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2.6, solid_capstyle="butt")
    axes.plot([estimate.value], [place], color=colour, marker=marker, markersize=6, markerfacecolor=face)


def _limits_of_panels(chart: Panels) -> tuple[float, float]:
    if not chart.panels:
        raise ConfigError("expected at least one panel to draw; found none")
    lines = [line for panel in chart.panels for line in (panel.line, panel.compared) if line is not None]
    columns = [column for line in lines for column in (line.y, line.low, line.high) if column is not None]
    return _around(value for column in [*columns, list(chart.references.values())] for value in column)


def _limits_of_forest(chart: Forest) -> dict[str, tuple[float, float]]:
    wrong = {name: len(column) for name, column in chart.columns.items() if len(column) != len(chart.rows)}
    if not chart.rows or not chart.columns or wrong:
        raise ConfigError(f"expected a panel, a row and an estimate per row; found {len(chart.rows)} rows and {wrong}")
    together = [estimate for column in chart.columns.values() for estimate in column]
    return {name: _around(_ends(together if chart.same_scale else column)) for name, column in chart.columns.items()}


def _ends(estimates: Iterable[Estimate | None]) -> list[float]:
    """What must be in sight: 0 and all intervals, of the outer ones no more than as much again."""
    drawn = [estimate for estimate in estimates if estimate is not None]
    inner = [0.0, *(end for e in drawn for end in (e.value, *((e.low, e.high) if e.is_bounded else ())))]
    low, high = min(inner), max(inner)
    outer = [end for e in drawn if e.is_bounded for end in e.whole]
    return [low, high, *(min(max(end, 1.5 * low - 0.5 * high), 1.5 * high - 0.5 * low) for end in outer)]


def _around(values: Iterable[float | int]) -> tuple[float, float]:
    finite = np.array([value for value in values if math.isfinite(value)], dtype=float)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
