"""Files beside text or pictures that tell their licence, by their names: LICENSE, NOTICE, ATTRIBUTION, COPYING."""

import re
from pathlib import Path

NOTICE = re.compile(r"(licen[sc]es?|attributions?|notices?|copying)([._-].*)?", re.IGNORECASE)
# Characters of a notice that a model card repeats: any attribution, and the beginning of a licence.
LONGEST = 4000


def notices_in(folder: Path) -> tuple[Path, ...]:
    """The notices that lie in a folder itself."""
    return tuple(sorted(path for path in folder.iterdir() if path.is_file() and NOTICE.fullmatch(path.name)))


def attribution_in(folder: Path) -> str:
    """What the notices in a folder say; empty without any."""
    return "\n\n".join(f"{path.name}, found beside it:\n\n{_beginning(path)}" for path in notices_in(folder))


def _beginning(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(LONGEST + 1)
    return text.strip() if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"
