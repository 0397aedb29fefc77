import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Finished

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=2000",
)  # fmt: skip


@pytest.mark.extras
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_the_report_in_chromium(finished: Finished, tmp_path: Path, width: int, scheme: str) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "expected Chromium; apt-get install chromium"
    shot = tmp_path / "shot.png"
    command = [
        browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2400",
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}",
        f"--screenshot={shot}", (finished.out / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert picture.shape == (2400, width, 3)
    corner = picture[0, 0]
    assert corner.mean() > 200 if scheme == "light" else corner.mean() < 60
    assert (np.abs(picture - corner).sum(axis=2) > 30).mean() > 0.1  # a tenth of it is not background
    lines = [[0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]] if scheme == "light" else [[0x56, 0xB4, 0xE9], [0xF0, 0xA0, 0x30]]
    for colour in lines:
        assert (np.abs(picture - colour).sum(axis=2) < 30).sum() > 300  # both arms have a curve
