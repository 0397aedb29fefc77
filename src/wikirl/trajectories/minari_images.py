"""Images in Minari's files that are stored as JPEG, minari's default: decoded, and known to be lossy.

This file knows how minari packs them (read in minari 0.5.4, `hdf5_storage.py`). It deliberately does not know episodes.
"""

import io
import warnings
from typing import Any

import h5py
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wikirl.errors import DatasetError
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


def decode_images(where: str, stored: h5py.Dataset, space: Space) -> UInt8[np.ndarray, "T1 *O"]:
    """Decode one JPEG after the other, each stored as its bytes.

    Raises:
        DatasetError: one is damaged, or is not an image of the space; begins with `where`.
    """
    frames: Any = stored[()]
    images = np.empty((len(frames), *space.shape), dtype=np.uint8)
    for number, frame in enumerate(frames):
        try:
            images[number] = _decode(np.asarray(frame, dtype=np.uint8).tobytes(), space)
        except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DatasetError(f"{where}: observation {number} is no JPEG of shape {space.shape} ({error})") from error
    return images


def _decode(content: bytes, space: Space) -> UInt8[np.ndarray, "*O"]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content), formats=("JPEG",))
    found = (image.height, image.width, *_MODES.get(image.mode, (image.mode,)))
    if found != space.shape:  # known from the header, before anything is decoded
        raise ValueError(f"found {found}")
    return np.asarray(image, dtype=np.uint8)
