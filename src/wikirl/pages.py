"""Self-contained HTML pages: no scripts, no requests, light and dark, readable on paper.

This file knows HTML, escaping and the colours of pages, which charts take from it. It deliberately knows nothing of
runs, scores or what a page is about. Whatever is not `Html` already is text and gets escaped, so text from data and
file names cannot become markup by being forgotten. The style sheet is assets/page.css.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final
from urllib.parse import quote

from wikirl.errors import ConfigError

_STYLE_SHEET = Path(__file__).parent / "assets" / "page.css"
# Okabe and Ito's palette, which colour-blind readers tell apart, and lighter shades of it for dark pages.
# Markers and dashes say the same once more.
LINES = ("#0072b2", "#d55e00", "#009e73", "#b0568a")
_DARK_LINES = ("#56b4e9", "#f0a030", "#3cc9a0", "#e59ac5")
INK, GRID, QUIET = "#1b1f24", "#c9ced6", "#57606a"
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


def heading(text: str) -> Html:
    """A heading within a section."""
    return Html(f"<h3>{escape(text)}</h3>")


def note(*content: object) -> Html:
    """A box that stands out."""
    return Html(f'<div class="note">{join(content)}</div>')


def alert(level: Literal["error", "warning", "note"], *content: object) -> Html:
    """A box that says how severe it is: by word, shape, line and colour."""
    mark = f'<p class="level">{_LEVELS[level]}</p>'
    return Html(f'<div class="note level-{level}">\n{mark}\n{join(content)}\n</div>')


def verdict(word: str, *content: object) -> Html:
    """The answer that a page is about, in a word, and what it rests on."""
    return Html(f'<div class="verdict">\n<p class="word">{escape(word)}</p>\n{join(content)}\n</div>')


def folded(title: str, *content: object) -> Html:
    """Parts that are out of the way until asked for."""
    return Html(f"<details>\n<summary>{escape(title)}</summary>\n{join(content)}\n</details>")


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


def page_colours() -> dict[str, str]:
    """The colours of a light page, by the names under which a style sheet may change them."""
    return {"ink": INK, "grid": GRID, "quiet": QUIET, **_lines(LINES)}


def _lines(colours: Sequence[str]) -> dict[str, str]:
    return {f"line-{number}": colour for number, colour in enumerate(colours)}


def _style() -> str:
    style = _STYLE_SHEET.read_text()
    for mark, colours in (("/*light*/", page_colours()), ("/*dark*/", _lines(_DARK_LINES))):
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
