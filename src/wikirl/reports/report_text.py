"""A report as Markdown, with its charts as PNG files beside it.

This file knows which Markdown stands for which part of a document, and how text from data stays text there. It
deliberately knows no study.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from wikirl.panels import Forest, png_forest_plot, png_small_multiples
from wikirl.reports.document import (
    Answer,
    Commands,
    Document,
    FileLink,
    Grid,
    Heading,
    Items,
    Pairs,
    Part,
    Picture,
    Words,
)

_MARKUP = re.compile(r"([\\`*_\[\]|#~])")


def markdown_text(document: Document) -> str:
    """The whole text."""
    blocks = [f"# {_plain(document.title)}", *map(_part, document.opening)]
    for section in document.sections:
        blocks += [f"## {_plain(section.title)}", *map(_part, section.parts)]
    return "\n\n".join(blocks) + "\n"


def png_files(document: Document) -> dict[str, bytes]:
    """The charts by file name."""
    return {f"{picture.name}.png": draw(picture) for picture in document.pictures()}


def draw(picture: Picture) -> bytes:
    """A chart as a PNG file on white."""
    chart = picture.chart
    return png_forest_plot(chart) if isinstance(chart, Forest) else png_small_multiples(chart)


def _part(part: Part) -> str:
    match part:
        case Words(text, _):
            return _plain(text)
        case Answer(word, sentence, details):
            listed = "".join(f"\n- {_plain(detail)}" for detail in details)
            return f"**Verdict: {_plain(word)}.** {_plain(sentence)}" + (f"\n{listed}" if listed else "")
        case Grid(rows, caption):
            return (f"{_plain(caption)}\n\n" if caption else "") + _table(rows)
        case Picture(name, chart, caption):
            return f"![{_plain(chart.title)}]({quote(name)}.png)\n\n{_plain(caption)}"
        case Items(items, title):
            return (f"{_plain(title)}:\n\n" if title else "") + "\n".join(f"- {_plain(item)}" for item in items)
        case Heading(text):
            return f"### {_plain(text)}"
        case Pairs(values):
            return "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in values.items())
        case Commands(title, commands):
            return "\n\n".join(
                [f"{_plain(title)}:", *(f"{_plain(made)}\n\n{_code(command)}" for made, command in commands)]
            )
        case FileLink(text, path):
            return f"{_plain(text)} [{_plain(path)}](./{quote(path)})."


def _plain(text: str) -> str:
    """Text that no Markdown reader takes for markup, HTML included."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", " ".join(safe.split()))


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *([_plain(cell) for cell in row.values()] for row in rows)]
    lines[0] = [_plain(name) for name in head]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}sh\n{text}\n{fence}"
