"""Images in Minari's files that are stored as JPEG, minari's default: decoded, and known to be lossy.

This file knows how minari packs them (read in minari 0.5.4, `hdf5_storage.py`). It deliberately does not know episodes.
"""

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8
from PIL import Image

from wikirl.errors import DatasetError
from wikirl.trajectories.stored import StoredArray
from wikirl.types import Space

ADVICE = "write the dataset again with jpeg_encoding=False"
_MODES = {"L": (), "RGB": (3,)}  # what each adds to height and width


def is_image_space(space: Space) -> bool:
    """Whether minari would store this space as JPEG.

    Source: minari, `minari_storage.py: is_image_space`.
    """
    shape = space.shape
    large = len(shape) in (2, 3) and min(shape[:2]) >= 32
    return large and space.dtype == "uint8" and (space.low, space.high) == (0, 255)


def stored_images(where: str, frames: StoredArray, space: Space) -> StoredArray:
    """Images of a space, decoded as they are read; each is stored as the bytes of its JPEG.

    Args:
        where: Begins every error message.
        frames: `[T1]` lists of bytes, or `[T1, B]` bytes where all images take equally many.
        space: Height, width and colours.

    Returns:
        `[T1, *O]`. Its pieces raise a DatasetError if an image is damaged or is not one of the space.
    """
    # Several lists may be one and the same to the file, which is no limit to what they take together.
    at_once = 1 if frames.dtype.kind == "O" else frames.rows_per_piece()

    def pieces(rows: int) -> Iterator[npt.NDArray[Any]]:
        images: list[npt.NDArray[Any]] = []
        for number, frame in enumerate(frame for some in frames.pieces(at_once) for frame in some):
            images.append(_image(f"{where}: observation {number}", frame, space))
            if len(images) == rows:
                yield np.stack(images)
                images.clear()
        if images:
            yield np.stack(images)

    return StoredArray((*frames.shape[:1], *space.shape), np.dtype(np.uint8), 1, pieces)


def _image(where: str, frame: npt.NDArray[Any], space: Space) -> UInt8[np.ndarray, "*O"]:
    try:
        return _decode(np.asarray(frame, dtype=np.uint8).tobytes(), space)
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(f"{where} is no JPEG of shape {space.shape} ({error})") from error


def _decode(content: bytes, space: Space) -> UInt8[np.ndarray, "*O"]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content), formats=("JPEG",))
    found = (image.height, image.width, *_MODES.get(image.mode, (image.mode,)))
    if found != space.shape:  # known from the header, before anything is decoded
        raise ValueError(f"found {found}")
    return np.asarray(image, dtype=np.uint8)
