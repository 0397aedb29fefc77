import io
from functools import cache

import numpy as np
import pytest
from PIL import Image

from wikirl.errors import ConfigError
from wikirl.evaluation.recording import Recording, record_episode
from wikirl.evaluation.rendering import (
    Method,
    RenderedFrames,
    filmstrip,
    render_recording,
    to_gif,
    to_png,
)

from .toys import Remembering

TASKS = {"Hopper-v5": (3, 11), "HalfCheetah-v5": (6, 17), "Walker2d-v4": (6, 17), "Ant-v5": (8, 105)}


@cache
def recorded(environment_id: str) -> Recording:
    return record_episode(Remembering(*TASKS[environment_id]), environment_id, seed=1, max_steps=24)


def draw(environment_id: str, methods: tuple[Method, ...], size: int = 96, every: int = 8) -> RenderedFrames:
    return render_recording(recorded(environment_id).qpos, environment_id, size=size, every=every, methods=methods)


@pytest.mark.parametrize("environment_id", TASKS)
def test_stick_figures_stand_in_the_middle_of_every_frame(environment_id: str) -> None:
    drawn = draw(environment_id, ("joints",))
    assert (drawn.method, drawn.note, drawn.every) == ("joints", "", 8)
    assert drawn.frames.shape == (len(recorded(environment_id).qpos[::8]), 96, 96, 3)
    for frame in drawn.frames:
        red, blue = frame[..., 0].astype(int), frame[..., 2].astype(int)
        limbs = blue - red > 40  # the figure is the only blue thing
        columns, rows = np.flatnonzero(limbs.any(axis=0)), np.flatnonzero(limbs.any(axis=1))
        assert limbs.mean() > 0.01
        assert 1 < columns[0] <= 48 <= columns[-1] < 94
        assert rows[0] > 1
        assert rows[-1] < 94
        assert max(np.ptp(columns), np.ptp(rows)) > 30  # and it is large enough to be recognised


def test_stick_figures_are_followed() -> None:
    rows = recorded("HalfCheetah-v5").qpos[:1]
    drawn = [
        render_recording(rows + np.array([x] + [0.0] * 8), "HalfCheetah-v5", size=64, methods=("joints",))
        for x in (0.0, 50.0)  # ticks are longer every 5 m, so the two pictures are the same
    ]
    difference = np.abs(drawn[0].frames.astype(int) - drawn[1].frames.astype(int))
    assert difference.mean() < 0.5


def test_stick_figures_move() -> None:
    first, *_, last = draw("HalfCheetah-v5", ("joints",)).frames
    assert (first != last).any()


@pytest.mark.parametrize("environment_id", ["Hopper-v5", "Ant-v5"])
def test_rendering_in_a_process_of_its_own(environment_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    drawn = draw(environment_id, ("egl", "osmesa", "joints"))
    if drawn.method == "joints":
        pytest.skip(f"no GL on this machine: {drawn.note}")
    assert drawn.frames.shape == (len(recorded(environment_id).qpos[::8]), 96, 96, 3)
    for frame in drawn.frames:
        centre, left = frame[40:80, 24:72].astype(int), frame[:30, :6].astype(int)
        # Bodies are brown, sky and ground grey: only the figure is redder than blue.
        assert (centre[..., 0] - centre[..., 2] > 25).mean() > 0.005
        assert not (left[..., 0] - left[..., 2] > 25).any()


def test_the_ground_does_not_end() -> None:
    near = recorded("HalfCheetah-v5").qpos[:1]
    far = near + np.array([800.0] + [0.0] * 8)  # a whole number of tiles of 4/3 m
    here, there = (
        render_recording(rows, "HalfCheetah-v5", size=64, methods=("egl", "osmesa", "joints")) for rows in (near, far)
    )
    if here.method == "joints":
        pytest.skip(f"no GL on this machine: {here.note}")
    difference = np.abs(here.frames.astype(int) - there.frames.astype(int))
    assert difference.mean() < 1


def test_a_renderer_that_fails_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    drawn = draw("Hopper-v5", ("egl", "osmesa", "joints"), size=32)
    assert drawn.method == "joints"
    assert "egl: exit status 1" in drawn.note
    assert "osmesa: exit status 1" in drawn.note
    with pytest.raises(ConfigError, match=r"nothing could be drawn .*egl: exit status 1"):
        draw("Hopper-v5", ("egl",), size=32)


def test_a_renderer_that_hangs_is_ended() -> None:
    rows = recorded("Hopper-v5").qpos
    drawn = render_recording(rows, "Hopper-v5", size=32, methods=("egl", "joints"), timeout_seconds=0.01)
    assert (drawn.method, drawn.note) == ("joints", "egl: gave no picture within 0.01 s")


def test_positions_that_do_not_fit_are_refused() -> None:
    rows = recorded("Hopper-v5").qpos
    with pytest.raises(ConfigError, match="9 finite joint positions"):
        render_recording(rows, "Walker2d-v5", methods=("joints",))
    with pytest.raises(ConfigError, match="6 finite joint positions"):
        render_recording(np.full_like(rows, np.nan), "Hopper-v5", methods=("joints",))
    with pytest.raises(ConfigError, match="positive"):
        render_recording(rows, "Hopper-v5", every=0)
    with pytest.raises(ConfigError, match="not a MuJoCo task"):
        render_recording(rows, "CartPole-v1")


def test_filmstrips_are_evenly_spaced_and_keep_the_ends() -> None:
    frames = np.arange(11, dtype=np.uint8).reshape(11, 1, 1, 1) * np.ones((1, 2, 2, 3), dtype=np.uint8)
    assert filmstrip(frames, 3)[:, 0, 0, 0].tolist() == [0, 5, 10]
    assert filmstrip(frames, 1)[:, 0, 0, 0].tolist() == [0]
    assert len(filmstrip(frames, 50)) == 11
    with pytest.raises(ConfigError, match="at least 1"):
        filmstrip(frames, 0)


def test_png_and_gif_can_be_read_back() -> None:
    frames = draw("HalfCheetah-v5", ("joints",), every=1).frames
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(to_png(frames[0])))), frames[0])
    with Image.open(io.BytesIO(to_gif(frames, 0.05))) as gif:
        assert gif.format == "GIF"
        assert gif.size == (96, 96)
        assert getattr(gif, "n_frames", 1) == len(frames)
        assert gif.info["duration"] == 50
        # The palette is small, but nearly every pixel keeps its colour.
        difference = np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[0].astype(int))
        assert difference.mean() < 3
    with Image.open(io.BytesIO(to_gif(frames, 0.001))) as gif:
        assert gif.info["duration"] == 20
    with pytest.raises(ConfigError, match="at least one"):
        to_gif(frames[:0], 0.05)
