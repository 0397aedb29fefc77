"""Whether frames went through JPEG: the marks that its rounding leaves in 8 × 8 blocks.

This file knows one transform and one table. It deliberately decodes nothing; frames are arrays that some reader made.

JPEG cuts a picture into blocks of 8 × 8, takes a cosine transform of each and rounds every coefficient to a multiple of
a step that its quality sets. In a decoded picture the coefficients still lie close to these multiples. Edges between
blocks alone would prove nothing: games draw their sprites and tiles on grids of eight pixels, too.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

QUALITIES = tuple(range(40, 96))  # the steps of lower ones leave too few coefficients, of higher ones too small steps
_FEWEST = 150  # different coefficients; a tile that is drawn again and again counts once
_SMALLEST_STEP = 4  # rounding to whole pixel values blurs what is finer
_CLOSE = 0.12  # mean distance to a multiple, in steps; 0.25 where there is no connection (0.03 to 0.08 were seen)

# Source: ITU-T T.81, table K.1, the luminance steps that Pillow and most other encoders scale.
_STEPS = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
]).reshape(8, 8)  # fmt: skip
_FREQUENCY, _PIXEL = np.arange(8)[:, None], np.arange(8)
_TRANSFORM = np.cos((2 * _PIXEL + 1) * _FREQUENCY * np.pi / 16) / 2
_TRANSFORM[0] /= np.sqrt(2)


def jpeg_quality(frames: UInt8[np.ndarray, "S *O"]) -> int | None:
    """The quality at which frames were JPEG-encoded; None if they do not look like it or do not tell.

    Args:
        frames: Grey `[S, H, W]`, colour `[S, H, W, 3]`, or with channels or a stack of grey frames first or last.
    """
    blocks = _blocks(_planes(frames))
    # Clipping at black and white moves coefficients off their multiples.
    blocks = blocks[(blocks.min(axis=(1, 2)) > 0) & (blocks.max(axis=(1, 2)) < 255)]
    coefficients = np.round(_TRANSFORM @ (blocks - 128) @ _TRANSFORM.T, 1)
    different = {where: np.unique(coefficients[:, *where]) for where in np.ndindex(8, 8) if where != (0, 0)}
    distances = {quality: _distance(different, _scaled(quality)) for quality in QUALITIES}
    best = min(distances, key=lambda quality: distances[quality])
    return best if distances[best] < _CLOSE else None


def _planes(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """`[P, H, W]`: brightness of colour frames, each channel of others."""
    if frames.ndim == 3:
        return frames.astype(np.float64)
    if frames.ndim != 4:
        return np.zeros((0, 8, 8))
    if frames.shape[1] < min(frames.shape[2:]):
        frames = np.moveaxis(frames, 1, -1)
    if frames.shape[-1] == 3:
        brightness = frames @ np.array([0.299, 0.587, 0.114])  # Source: ITU-T T.871, Y of YCbCr
        return np.where(((frames == 0) | (frames == 255)).any(axis=-1), 0, brightness)
    return np.moveaxis(frames, -1, 1).reshape(-1, *frames.shape[1:3]).astype(np.float64)


def _blocks(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """All whole blocks, `[M, 8, 8]`."""
    count, height, width = len(planes), planes.shape[1] // 8, planes.shape[2] // 8
    cut = planes[:, : 8 * height, : 8 * width].reshape(count, height, 8, width, 8)
    return cut.swapaxes(2, 3).reshape(-1, 8, 8)


def _scaled(quality: int) -> npt.NDArray[np.float64]:
    """The steps at a quality. Source: the Independent JPEG Group's convention, `jpeg_quality_scaling`."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return np.clip(np.floor((_STEPS * scale + 50) / 100), 1, 255)


def _distance(different: Mapping[tuple[int, ...], npt.NDArray[np.float64]], steps: npt.NDArray[np.float64]) -> float:
    """Mean distance of different coefficients to a multiple of their step, in steps; infinite where too few tell.

    Coefficients below half a step are left out: they would count as close to zero whatever made them.
    """
    units = [values / steps[where] for where, values in different.items() if steps[where] >= _SMALLEST_STEP]
    every = np.concatenate([np.zeros(0), *units])
    every = every[np.abs(every) > 0.5]
    return float(np.abs(every - np.round(every)).mean()) if len(every) >= _FEWEST else np.inf
