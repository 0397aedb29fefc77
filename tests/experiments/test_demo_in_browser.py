from pathlib import Path

import numpy as np
import pytest

from tests.browser import chromium

from .conftest import Finished


@pytest.mark.extras
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_the_report_in_chromium(finished: Finished, tmp_path: Path, width: int, scheme: str) -> None:
    with chromium(tmp_path / "profile") as browser:
        seen = browser.see(finished.out / "report.html", width=width, scheme=scheme)
    assert seen.complaints == []
    assert seen.width <= width
    corner = seen.picture[0, 0]
    assert corner.mean() > 200 if scheme == "light" else corner.mean() < 60
    assert (np.abs(seen.picture - corner).sum(axis=2) > 30).mean() > 0.1  # a tenth of it is not background
    for colour in ("#0072b2", "#d55e00") if scheme == "light" else ("#56b4e9", "#f0a030"):
        assert seen.has_colour(colour, at_least=300)  # both arms have a curve
