"""Pictures as tokens: the same picture back, a fixed order, and one line for each that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wikirl.errors import CorpusError
from wikirl.text.corpora import ShuffledCorpus, open_corpus
from wikirl.text.images import LEVELS, SIDE, SUFFIXES, ImageCorpus, encode, open_images, picture, read_picture
from wikirl.text.packing import pack_corpus
from wikirl.text.states import SEQUENCE_LENGTH, StateCorpus
from wikirl.text.tokenizers import state_tokenizer

PALETTE = np.array([0, 36, 73, 109, 146, 182, 219, 255])  # multiples of 255 / 7, rounded


def colours(seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Random colours of the grid."""
    return PALETTE[np.random.default_rng(seed).integers(LEVELS, size=(height, width, 3))].astype(np.uint8)


def album(folder: Path, number: int = 40) -> Path:
    """Pictures 0.png, 1.png … of one colour each, whose state is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        colour = tuple(PALETTE[[index // 64 % 8, index // 8 % 8, index % 8]].tolist())
        Image.new("RGB", (5, 4), colour).save(folder / f"{index:03}.png")
    return folder


def first_states(corpus: StateCorpus, *, held_out: bool) -> list[int]:
    return [int(row[0]) for chunk in corpus.chunks(held_out=held_out) for row in chunk]


def refused(spec: Path | str) -> str:
    with pytest.raises(CorpusError) as error:
        list(open_images(Path(spec)).chunks(held_out=False))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_picture_of_the_grids_colours_comes_back() -> None:
    pixels = colours()
    states = encode(Image.fromarray(pixels))
    assert states.shape == (SEQUENCE_LENGTH,)
    assert np.array_equal(np.asarray(picture(states + 1)), pixels)
    assert np.array_equal(np.asarray(picture((states + 1).tolist())), pixels)


def test_every_state_is_a_colour_of_its_own() -> None:
    tokens = np.arange(1, SEQUENCE_LENGTH + 1) % LEVELS**3 + 1
    shown = picture(tokens)
    assert np.array_equal(encode(shown) + 1, tokens)
    assert len(np.unique(np.asarray(shown).reshape(-1, 3), axis=0)) == LEVELS**3


def test_raster_order_and_red_first() -> None:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[0, 1], pixels[2, 0], pixels[31, 31] = (255, 0, 0), (0, 36, 0), (0, 0, 255)
    states = encode(Image.fromarray(pixels))
    assert {int(place): int(states[place]) for place in states.nonzero()[0]} == {1: 7 * 64, 64: 8, 1023: 7}


def test_a_pixel_gets_the_nearest_colour() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(8, 32, 1), 3, axis=2)
    padded = np.concatenate([ramp, np.zeros((24, 32, 3), np.uint8)])
    shown = np.asarray(picture(encode(Image.fromarray(padded)) + 1)).astype(int)[:8, :, 0].ravel()
    exact = np.arange(LEVELS) * 255 / 7
    nearest = np.abs(np.arange(256)[:, None] - exact).argmin(axis=1)
    assert np.array_equal(shown, PALETTE[nearest])


def test_the_middle_square_is_kept_and_shrunk_smoothly() -> None:
    inner = colours(1)
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 68:132] = inner.repeat(2, axis=0).repeat(2, axis=1)
    tall = wide.transpose(1, 0, 2)
    assert np.array_equal(np.asarray(picture(encode(Image.fromarray(wide)) + 1)), inner)
    assert np.array_equal(np.asarray(picture(encode(Image.fromarray(tall)) + 1)), inner.transpose(1, 0, 2))
    fine = np.zeros((96, 96, 3), np.uint8)
    fine[::2] = 255  # stripes too fine to be seen are grey, not black or white or moiré
    assert set(np.asarray(picture(encode(Image.fromarray(fine)) + 1)).ravel().tolist()) <= {73, 109, 146, 182}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats(tmp_path: Path, suffix: str) -> None:
    half = np.zeros((SIDE, SIDE, 3), np.uint8)
    half[:, 16:] = (255, 255, 255)
    # Old cameras write capitals.
    Image.fromarray(half).save(path := tmp_path / f"picture{suffix.upper()}")
    states = read_picture(path).reshape(SIDE, SIDE)
    assert (states[:, :15] == 0).all()
    assert (states[:, 17:] == LEVELS**3 - 1).all()


def test_other_kinds_of_pixels(tmp_path: Path) -> None:
    def states(made: Image.Image) -> set[int]:
        made.save(path := tmp_path / "a.png")
        return set(read_picture(path).tolist())

    white, red = LEVELS**3 - 1, 7 * 64
    assert states(Image.new("L", (9, 9), 255)) == states(Image.new("1", (9, 9), 1)) == {white}
    assert states(Image.fromarray(np.full((9, 9), 65535, np.uint16))) == {white}
    assert states(Image.fromarray(np.full((9, 9), 40, np.uint16))) == {0}
    assert states(Image.new("RGBA", (9, 9), (255, 0, 0, 255))) == states(Image.new("P", (9, 9), "red")) == {red}
    assert states(Image.new("RGBA", (9, 9), (255, 0, 0, 0))) == {0}
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(path := tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert set(read_picture(path).tolist()) == {red}


def test_every_20th_is_held_out_in_the_order_of_names(tmp_path: Path) -> None:
    album(tmp_path / "b", 30)
    album(tmp_path / "a" / "deep", 12)
    (tmp_path / "notes.txt").write_text("no picture")
    corpus = open_images(tmp_path)
    assert (corpus.num_held_out, corpus.states) == (2, 512)
    order = [*range(12), *range(30)]
    assert first_states(corpus, held_out=True) == [order[19], order[39]]
    assert first_states(corpus, held_out=False) == order[:19] + order[20:39] + order[40:]


def test_chunks_are_whole_whatever_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = open_images(album(tmp_path))
    together = np.concatenate(list(corpus.chunks(held_out=False)))
    monkeypatch.setattr("wikirl.text.images.CHUNK", 7)
    for skip in (0, 5, 14, len(together), 999):
        rest = list(corpus.chunks(held_out=False, skip=skip))
        assert np.array_equal(np.concatenate([together[:0], *rest]), together[skip:])
    chunks = list(corpus.chunks(held_out=False))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 7, 7, 3]
    assert np.array_equal(np.concatenate(chunks), together)


def test_the_fingerprint_follows_names_and_contents(tmp_path: Path) -> None:
    before = open_images(album(tmp_path / "a")).fingerprint
    assert open_images(album(tmp_path / "b")).fingerprint == before
    (tmp_path / "a" / "003.png").rename(tmp_path / "a" / "903.png")
    Image.new("RGB", (5, 4), "red").save(tmp_path / "b" / "003.png")
    prints = {before, open_images(tmp_path / "a").fingerprint, open_images(tmp_path / "b").fingerprint}
    assert len(prints) == 3


def test_it_is_packed_as_other_states_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus(f"images:{album(tmp_path / 'album')}")
    assert isinstance(corpus, ImageCorpus)
    assert corpus.name == "images:album"
    packed = pack_corpus(corpus, "training", state_tokenizer(corpus.states))
    assert (packed.num_documents, packed.num_tokens, packed.num_bytes) == (38, 38 * SEQUENCE_LENGTH, 0)
    expected = np.concatenate(list(corpus.chunks(held_out=False))).ravel() + 1
    assert packed.ids.tolist() == expected.tolist()
    with pytest.raises(CorpusError, match="at least 513 for images:album; found 512"):
        pack_corpus(corpus, "training", state_tokenizer(511))


def test_words_of_pictures_cannot_be_shuffled(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no words"):
        open_corpus(f"shuffled:images:{album(tmp_path)}")
    (tmp_path / "a.txt").write_text("text")
    assert isinstance(open_corpus(f"shuffled:{tmp_path}"), ShuffledCorpus)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert "expected a folder of pictures behind images:; found no folder at" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "expected at least 20 pictures" in (message := refused(tmp_path / "empty"))
    assert "found none" in message
    assert "found 19; add some" in refused(album(tmp_path / "few", 19))
    folder = album(tmp_path / "album")
    assert f"found no folder at '{folder / '001.png'}'" in refused(folder / "001.png")
    whole = (folder / "001.png").read_bytes()
    for damage in (b"", b"no picture", whole[:20], whole[:45], whole.replace(b"IDAT", b"IDIT")):
        (folder / "001.png").write_bytes(damage)
        assert f"expected a whole picture at {folder / '001.png'}; found: " in refused(folder)


@pytest.mark.parametrize("tokens", [[1] * 1023, [0] * 1024, [513] * 1024, []])
def test_tokens_that_are_no_picture(tokens: list[int]) -> None:
    with pytest.raises(CorpusError, match="expected 1024 tokens from 1 to 512"):
        picture(tokens)


def test_a_licence_beside_the_pictures(tmp_path: Path) -> None:
    folder = album(tmp_path)
    assert open_images(folder).attribution == ""
    (folder / "LICENSE").write_text("CC0")
    assert "CC0" in open_images(folder).attribution
