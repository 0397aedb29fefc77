"""What a report says, before it is a page or a text: sections of words, tables, pictures and commands.

This file knows the parts. It deliberately knows neither HTML (`report_page`) nor Markdown (`report_text`), nor a study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wikirl.panels import Forest, Panels


@dataclass(frozen=True)
class Words:
    """A paragraph; quiet words are for those who want to know more."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Answer:
    """The verdict: a word, what it rests on, and what else must be known."""

    word: str
    sentence: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table; the first column names the row. Rows share their columns."""

    rows: Sequence[Mapping[str, str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A chart under a file name without ending."""

    name: str
    chart: Forest | Panels
    caption: str


@dataclass(frozen=True)
class Items:
    """A list; folded away under a title if it has one."""

    items: Sequence[str]
    title: str | None = None


@dataclass(frozen=True)
class Pairs:
    """Names and values."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Commands:
    """Commands to be copied, each with what it makes; folded away under a title."""

    title: str
    commands: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class FileLink:
    """A sentence that ends in a link to a file beside the page."""

    text: str
    path: str


Part = Words | Heading | Answer | Grid | Picture | Items | Pairs | Commands | FileLink


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Document:
    """A whole report: what stands above all headings, and the sections."""

    title: str
    opening: Sequence[Part]
    sections: Sequence[Section]

    def pictures(self) -> list[Picture]:
        """All pictures, from top to bottom."""
        every = [*self.opening, *(part for section in self.sections for part in section.parts)]
        return [part for part in every if isinstance(part, Picture)]
