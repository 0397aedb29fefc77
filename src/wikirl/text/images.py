"""Pictures as sequences of pixels: a control that has structure, two dimensions of it, and no language.

    images:FOLDER    every picture below FOLDER, in the order of their names

A picture is cropped to its middle square, shrunk to 32 × 32 and read row by row, each pixel one of 512 colours: 1,024
tokens, a block of ChibiT's length. This file knows pictures; it does not know tokenizers.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from wikirl.errors import CorpusError
from wikirl.text.notices import attribution_in
from wikirl.text.states import SEQUENCE_LENGTH, StateCorpus

SIDE = 32
# Levels of red, green and blue: 3 bits each, 9 in all, as many as Image GPT's palette.
LEVELS = 8
HELD_OUT_EVERY = 20
# Pictures read at a time.
CHUNK = 1000
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
# What Pillow raises on damaged files, some of it from deep within the reader of a format.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageCorpus(StateCorpus):
    """Pictures of 32 × 32 pixels in 512 colours; every 20th is held out.

    The colours are a fixed grid, 8 evenly spaced levels per channel, black and white among them. Image GPT's 512 are
    instead the centres of k-means over the pixels of its training data; a grid is coarser where pictures crowd, and
    the same for every corpus.

    Source: Chen et al. 2020 (Generative Pretraining from Pixels): low resolution, raster order, a palette of 9 bits.

    Attributes:
        folder: Where the pictures are.
        files: The pictures, in order.
    """

    folder: Path
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder's, marked."""
        return f"images:{self.folder.name}"

    @property
    def fingerprint(self) -> str:
        """Hash of the names and contents of all pictures, and of what is made of them."""
        digest = hashlib.sha256(f"images {SIDE} {LEVELS}".encode())
        for path in self.files:
            digest.update(path.relative_to(self.folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    @property
    def states(self) -> int:
        """Number of colours."""
        return LEVELS**3

    @property
    def num_held_out(self) -> int:
        """Pictures kept out of training."""
        return len(self.files) // HELD_OUT_EVERY

    @property
    def held_out_name(self) -> str:
        """Which those are."""
        return f"every {HELD_OUT_EVERY}th picture"

    @property
    def attribution(self) -> str:
        """What the notices beside the pictures say."""
        return attribution_in(self.folder)

    @property
    def num_sequences(self) -> int:
        """Pictures in all."""
        return len(self.files)

    def chunks(self, *, held_out: bool, skip: int = 0) -> Iterator[Int[np.ndarray, "N T"]]:
        """The pictures of training, or those held out, as states from 0, some at a time, without the first `skip`.

        Raises:
            CorpusError: a picture is damaged; the message names it.
        """
        files = [path for number, path in enumerate(self.files, start=1) if (number % HELD_OUT_EVERY == 0) == held_out]
        for first in range(skip, len(files), CHUNK):
            yield np.stack([read_picture(path) for path in files[first : first + CHUNK]])


def open_images(folder: Path) -> ImageCorpus:
    """All pictures below a folder, sorted by name.

    Raises:
        CorpusError: there is no folder, or there are fewer than 20 pictures in it.
    """
    if not folder.is_dir():
        raise CorpusError(f"expected a folder of pictures behind images:; found no folder at '{folder}'")
    files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    if len(files) < HELD_OUT_EVERY:
        raise CorpusError(
            f"expected at least {HELD_OUT_EVERY} pictures ({', '.join(SUFFIXES)}) in {folder}, so that every "
            f"{HELD_OUT_EVERY}th can be held out; found {len(files) or 'none'}; add some"
        )
    return ImageCorpus(folder, tuple(sorted(files, key=lambda path: path.relative_to(folder).as_posix())))


def read_picture(path: Path) -> Int[np.ndarray, "T"]:
    """The states of a picture file, row by row.

    Raises:
        CorpusError: it is no picture, or a damaged one.
    """
    try:
        with Image.open(path) as opened:
            return encode(opened)
    except DAMAGED as error:
        raise CorpusError(f"expected a whole picture at {path}; found: {error}; replace or remove it") from error


def encode(picture: Image.Image) -> Int[np.ndarray, "T"]:
    """The states of a picture: its middle square at 32 × 32, every pixel the nearest colour of the grid.

    Pixels are taken as they are stored, whichever side a camera says is up; what is transparent is seen before black.
    Each pixel is the mean of those it covers (Pillow's box filter), so shrinking makes no ripples; smaller pictures get
    larger pixels.
    """
    small = ImageOps.fit(_in_colours(picture), (SIDE, SIDE), method=Image.Resampling.BOX)
    levels = (np.asarray(small, dtype=np.int64) * (LEVELS - 1) + 127) // 255  # the nearest, in whole numbers
    states: np.ndarray = levels @ LEVELS ** np.array([2, 1, 0])
    return states.ravel()


def _in_colours(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    black = Image.new("RGBA", picture.size, "black")
    return Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")


def picture(tokens: Int[np.ndarray, "T"] | Sequence[int]) -> Image.Image:
    """The picture that 1,024 token ids stand for (states plus 1, as a model sees and makes them).

    Raises:
        CorpusError: another number of tokens, or ids that are no colour.
    """
    states = np.asarray(tokens, dtype=np.int64) - 1
    if states.shape != (SEQUENCE_LENGTH,) or states.min() < 0 or states.max() >= LEVELS**3:
        raise CorpusError(
            f"expected {SEQUENCE_LENGTH} tokens from 1 to {LEVELS**3} for a picture; found "
            f"{states.size} from {states.min(initial=LEVELS**3) + 1} to {states.max(initial=-1) + 1}"
        )
    levels = states[:, None] // LEVELS ** np.array([2, 1, 0]) % LEVELS
    colours: UInt8[np.ndarray, "T 3"] = ((levels * 255 + (LEVELS - 1) // 2) // (LEVELS - 1)).astype(np.uint8)
    return Image.fromarray(colours.reshape(SIDE, SIDE, 3))
