from pathlib import Path

import numpy as np
import pytest

from tests.browser import chromium
from tests.reports.studies import SCRATCH, ToyArm, ToyTask, write_suite
from wikirl.reports.report import report

ARMS = [ToyArm("chibit-28m", 75, published="ChibiT", num_tokens=28_000_000), SCRATCH, ToyArm("BC", 20, kind="baseline")]
ARMS += [
    ToyArm(f"control-{name}", 50 + k, control=True) for k, name in enumerate(("markov", "iid", "shuffled", "moments"))
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_suite(tmp_path_factory.mktemp("study"), ARMS, [ToyTask(), ToyTask("hopper-medium-replay")])
    return Path(report(folder)["report"])


@pytest.mark.extras
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_the_report_in_chromium(page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    with chromium(tmp_path / "profile") as browser:
        seen = browser.see(page, width=width, scheme=scheme)
    assert seen.complaints == []
    assert seen.width <= width  # nothing runs out of the page
    assert "Verdict: helps" in seen.text  # without scrolling
    assert "chibit-28m scores higher than scratch" in seen.text
    corner = seen.picture[0, 0]
    assert corner.mean() > 200 if scheme == "light" else corner.mean() < 60
    assert (np.abs(seen.picture[:, -2:] - corner).sum(axis=2) < 30).all()
    for colour in ("#0072b2", "#d55e00") if scheme == "light" else ("#56b4e9", "#f0a030"):
        assert seen.has_colour(colour, at_least=100)  # discs above 0, squares below
