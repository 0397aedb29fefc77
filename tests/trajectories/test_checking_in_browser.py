from pathlib import Path

import numpy as np
import pytest

from tests.browser import chromium
from tests.trajectories.making import sound_fields
from wikirl.trajectories.checking import check_dataset
from wikirl.trajectories.checking_page import write_page
from wikirl.trajectories.dataset import build_dataset


@pytest.mark.extras
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_in_chromium(tmp_path: Path, width: int, scheme: str) -> None:
    fields = sound_fields()
    fields["observations"][:, 1] = 3
    fields["actions"][:, 0] *= 2
    write_page(check_dataset(build_dataset("<b>mine</b>", **fields)), tmp_path / "page.html")
    with chromium(tmp_path / "profile") as browser:
        seen = browser.see(tmp_path / "page.html", width=width, scheme=scheme)
    assert seen.complaints == []
    assert seen.width <= width
    corner = seen.picture[0, 0]
    assert corner.mean() > 200 if scheme == "light" else corner.mean() < 60
    # Target returns in the histogram, and the line of a warning, in the colours of this scheme.
    for colour in ("#d55e00", "#b0568a") if scheme == "light" else ("#f0a030", "#e59ac5"):
        assert seen.has_colour(colour, at_least=100)
    # Nothing runs out of the page: its right edge is background all the way down.
    assert (np.abs(seen.picture[:, -2:] - corner).sum(axis=2) < 30).all()
