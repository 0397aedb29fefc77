"""Pictures of recorded episodes: rendered in a process of their own, or stick figures where GL is missing.

This file knows how to get frames from joint positions and how to pack them. It deliberately knows no policy
and no page. GL runs in a subprocess because a broken driver kills its process, and because MuJoCo wants
MUJOCO_GL set before its first import, which a library cannot ask of its caller.
"""

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import make_environment
from wikirl.evaluation.framing import frame_recording
from wikirl.evaluation.recording import mujoco_task
from wikirl.evaluation.stick_figures import draw_stick_figures

Method = Literal["egl", "osmesa", "joints"]
_SOURCE_ROOT = Path(__file__).parents[2]
_GIF_COLOURS = 64  # these scenes have few colours; a GIF half the size of one with 256


@dataclass(frozen=True)
class RenderedFrames:
    """Frames of one episode.

    Attributes:
        frames: RGB pictures.
        every: Simulation steps from one frame to the next.
        method: How they were made: rendered through `egl` or `osmesa`, or drawn as stick figures (`joints`).
        note: Why the methods before it did not work, one line; empty if the first one worked.
    """

    frames: UInt8[np.ndarray, "F H W 3"]
    every: int
    method: Method
    note: str


def render_recording(
    qpos: Float[np.ndarray, "T Q"],
    environment_id: str,
    *,
    size: int = 240,
    every: int = 4,
    methods: Sequence[Method] = ("egl", "osmesa", "joints"),
    timeout_seconds: float = 120.0,
) -> RenderedFrames:
    """Draw every `every`-th row of a recording with the first method that works.

    Stick figures are a side view; for tasks that move in a horizontal plane only rendering shows much.

    Args:
        qpos: Joint positions, as in `Recording`.
        environment_id: The task they belong to.
        size: Height and width of a frame, in pixels.
        every: Steps from one frame to the next.
        methods: What to try, in this order.
        timeout_seconds: How long one rendering process may take.

    Raises:
        ConfigError: not a MuJoCo task, positions that do not fit it or are not finite, a number below 1, or
            no method worked (the message says why for each).
        EnvironmentNotFoundError: as `make_environment`.
        MissingExtraError: as `make_environment`.
    """
    if min(size, every, len(methods), len(qpos)) < 1:
        raise ConfigError("size and every must be positive, and there must be a method and a row to draw")
    model = _model_of(environment_id)
    if qpos.shape[1] != model.nq or not np.isfinite(qpos).all():
        raise ConfigError(
            f"{environment_id} has {model.nq} finite joint positions, found an array of shape {qpos.shape}"
        )
    rows = np.ascontiguousarray(qpos[::every], dtype=np.float64)
    failures: list[str] = []
    for method in methods:
        if method == "joints":
            return RenderedFrames(draw_stick_figures(model, rows, size), every, method, "; ".join(failures))
        result = _render_in_subprocess(model, rows, size, method, timeout_seconds)
        if not isinstance(result, str):
            return RenderedFrames(result, every, method, "; ".join(failures))
        failures.append(f"{method}: {result}")
    raise ConfigError(f"nothing could be drawn ({'; '.join(failures)}); install libegl1 or allow 'joints'")


def filmstrip(frames: UInt8[np.ndarray, "F H W 3"], count: int) -> UInt8[np.ndarray, "C H W 3"]:
    """`count` frames evenly spaced from the first to the last; all of them if there are fewer.

    Raises:
        ConfigError: `count` is below 1.
    """
    if count < 1:
        raise ConfigError(f"a filmstrip needs at least 1 frame, asked for {count}")
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return np.take(frames, chosen, axis=0)


def to_png(frame: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """One frame as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def to_gif(frames: UInt8[np.ndarray, "F H W 3"], seconds_per_frame: float) -> bytes:
    """An endless animated GIF; about 1 MB at most for 60 frames of 240 pixels.

    GIF counts in hundredths of a second and browsers slow anything below two of them down, so the duration is
    rounded, and 0.02 s is the least: drop frames rather than ask for less.

    Raises:
        ConfigError: there is no frame.
    """
    if len(frames) == 0:
        raise ConfigError("a GIF needs at least one frame")
    # One palette for all frames (from a sample of them), without dither: still parts then stay still and pack
    # well.
    sample = np.concatenate(list(filmstrip(frames, 6)))
    palette = Image.fromarray(sample).quantize(_GIF_COLOURS)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(20, round(seconds_per_frame * 100) * 10)
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()


def _model_of(environment_id: str) -> mujoco.MjModel:
    environment = make_environment(environment_id)
    try:
        return mujoco_task(environment, environment_id).model
    finally:
        environment.close()


def _render_in_subprocess(
    model: mujoco.MjModel, rows: Float[np.ndarray, "F Q"], size: int, method: Method, timeout_seconds: float
) -> UInt8[np.ndarray, "F H W 3"] | str:
    """Frames, or in one line why there are none."""
    with tempfile.TemporaryDirectory(prefix="wikirl-render-") as folder:
        mujoco.mj_saveModel(model, str(Path(folder) / "model.mjb"))
        framing = frame_recording(model, rows)
        np.savez(
            Path(folder) / "positions.npz",
            rows=rows,
            centres=framing.centres,
            metres=np.array(framing.metres),
            size=np.array(size),
        )
        path = [str(_SOURCE_ROOT), *(p for p in sys.path if p)]
        environment = os.environ | {
            "MUJOCO_GL": method,
            "PYOPENGL_PLATFORM": method,
            "PYTHONPATH": os.pathsep.join(path),
        }
        command = [sys.executable, "-P", "-m", "wikirl.evaluation.rendering_worker"]
        try:
            # In that folder, because MuJoCo writes MUJOCO_LOG.TXT to where it stands.
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                capture_output=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"gave no picture within {timeout_seconds:g} s"
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            # GL libraries print clean-up errors after the cause, so prefer the line that names an exception.
            causes = [line for line in lines if "Error:" in line and not line.startswith(" ")] or lines
            return f"exit status {done.returncode}, {causes[0].strip()[:200]}"
        try:
            with np.load(Path(folder) / "frames.npz", allow_pickle=False) as archive:
                frames = np.asarray(archive["frames"], dtype=np.uint8)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            return f"left no readable frames ({error})"
        return frames if np.ptp(frames) > 0 else "drew nothing but one colour"
