import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.experiments.test_demo_in_browser import FLAGS
from tests.trajectories.making import sound_fields
from wikirl.trajectories.checking import check_dataset
from wikirl.trajectories.checking_page import write_page
from wikirl.trajectories.dataset import build_dataset


@pytest.mark.extras
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_in_chromium(tmp_path: Path, width: int, scheme: str) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "expected Chromium; apt-get install chromium"
    fields = sound_fields()
    fields["observations"][:, 1] = 3
    fields["actions"][:, 0] *= 2
    write_page(check_dataset(build_dataset("<b>mine</b>", **fields)), tmp_path / "page.html")
    shot = tmp_path / "shot.png"
    command = [
        browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},4000",
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}",
        f"--screenshot={shot}", (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert picture.shape == (4000, width, 3)
    corner = picture[0, 0]
    assert corner.mean() > 200 if scheme == "light" else corner.mean() < 60
    # Target returns in the histogram, and the line of a warning, in the colours of this scheme.
    colours = (
        [[0xD5, 0x5E, 0x00], [0xB0, 0x56, 0x8A]] if scheme == "light" else [[0xF0, 0xA0, 0x30], [0xE5, 0x9A, 0xC5]]
    )
    for colour in colours:
        assert (np.abs(picture - colour).sum(axis=2) < 30).sum() > 100
    # Nothing runs out of the page: its right edge is background all the way down.
    assert (np.abs(picture[:, -2:] - corner).sum(axis=2) < 30).all()
