"""A report as one self-contained HTML page.

This file knows which markup stands for which part of a document. It deliberately knows no study.
"""

from wikirl import pages
from wikirl.pages import Html
from wikirl.panels import Forest, forest_plot, small_multiples
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


def html_page(document: Document) -> str:
    """The whole page."""
    sections = [pages.section(section.title, *map(_tied, section.parts)) for section in document.sections]
    return pages.page(document.title, *map(_tied, document.opening), *sections)


def _tied(part: Part) -> Html:
    """A part in which numbers and their % stay in one line; commands stay as they are."""
    drawn = _part(part)
    return drawn if isinstance(part, Commands) else Html(drawn.replace(" %", "&nbsp;%"))


def _part(part: Part) -> Html:
    match part:
        case Words(text, quiet):
            return pages.paragraph(pages.quiet(text) if quiet else text)
        case Answer(word, sentence, details):
            return pages.verdict(
                f"Verdict: {word}", pages.paragraph(sentence), pages.bullets(*details) if details else ""
            )
        case Grid(rows, caption):
            return pages.table(rows, caption)
        case Picture(_, chart, caption):
            drawn = forest_plot(chart) if isinstance(chart, Forest) else small_multiples(chart)
            return pages.figure(drawn, caption)
        case Items(items, title):
            return pages.bullets(*items) if title is None else pages.folded(title, pages.bullets(*items))
        case Heading(text):
            return pages.heading(text)
        case Pairs(values):
            return pages.facts(values)
        case Commands(title, commands):
            blocks = [pages.join([pages.paragraph(made), pages.code(command)]) for made, command in commands]
            return pages.folded(title, *blocks)
        case FileLink(text, path):
            return pages.paragraph(text, " ", pages.link(path), ".")
