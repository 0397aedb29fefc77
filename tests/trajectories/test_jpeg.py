from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from wikirl.trajectories.jpeg import jpeg_quality

Frames = npt.NDArray[np.uint8]


def games(count: int = 32, size: tuple[int, int] = (96, 80), seed: int = 0) -> Frames:
    """Flat tiles on a grid of eight pixels, which look like blocks, and small sprites anywhere."""
    generator = np.random.default_rng(seed)
    frames = np.full((count, *size), 60, dtype=np.uint8)
    for frame in frames:
        for _ in range(8):
            row, column = 8 * generator.integers(0, size[0] // 8), 8 * generator.integers(0, size[1] // 8)
            frame[row : row + 8, column : column + 8] = generator.integers(0, 256)
            row, column = generator.integers(0, size[0] - 5), generator.integers(0, size[1] - 5)
            frame[row : row + 5, column : column + 3] = generator.integers(0, 256)
    return frames


def scenes(count: int = 16, size: tuple[int, int] = (96, 80), seed: int = 0) -> Frames:
    """Soft waves with a little noise, as a camera sees them."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    frames = []
    for _ in range(count):
        one, other, shift = generator.uniform(0.02, 0.5, 3)
        wave = 128 + 60 * np.sin(one * rows + shift) * np.cos(other * columns) + generator.normal(0, 4, size)
        frames.append(np.clip(wave, 30, 225))
    return np.array(frames).astype(np.uint8)


def coloured(frames: Frames) -> Frames:
    return np.stack([frames, frames // 2 + 30, 255 - frames], axis=-1)


def through_jpeg(frames: Frames, quality: int) -> Frames:
    decoded = []
    for frame in frames:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return np.array(decoded)


SETS = {
    "games": games(), "coloured games": coloured(games()), "scenes": scenes(), "coloured scenes": coloured(scenes()),
    "noise": np.random.default_rng(0).integers(0, 256, (8, 96, 80)).astype(np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_frames_without_loss_look_like_it(name: str) -> None:
    assert jpeg_quality(SETS[name]) is None


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("quality", [50, 75])  # 75 is what Pillow, and so Minari, does unasked
def test_frames_through_jpeg_look_like_it(name: str, quality: int) -> None:
    found = jpeg_quality(through_jpeg(SETS[name], quality))
    assert found is not None
    assert abs(found - quality) <= 2


def test_channels_and_stacks_first_or_last() -> None:
    colour = through_jpeg(coloured(games()), 75)
    assert jpeg_quality(np.moveaxis(colour, -1, 1)) == jpeg_quality(colour) == 75
    stack = through_jpeg(games(), 75).reshape(8, 4, 96, 80)
    assert jpeg_quality(stack) == jpeg_quality(np.moveaxis(stack, 1, -1)) == 75


def test_what_does_not_tell_is_not_accused() -> None:
    tile = np.random.default_rng(0).integers(50, 200, (8, 8))
    for frames in (
        np.tile(tile, (16, 10, 10)).astype(np.uint8),  # one block, again and again
        np.zeros((4, 84, 84), dtype=np.uint8),
        np.full((4, 7, 7), 9, dtype=np.uint8),  # no whole block
        np.zeros((4, 2, 3, 8, 8), dtype=np.uint8),  # no frames
        through_jpeg(games(), 100),  # hardly any loss
    ):
        assert jpeg_quality(frames) is None
