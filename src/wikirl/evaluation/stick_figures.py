"""Stick figures of MuJoCo bodies, drawn without GL by Pillow.

This file knows which shapes are limbs and how to draw them from the side. It deliberately knows no episodes
and no files.
"""

import mujoco
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from wikirl.evaluation.framing import GROUND_AT, frame_recording, positions

_OVERSAMPLING = 3  # draw larger and shrink: Pillow's lines have no smooth edges
_SKY, _GROUND, _TICK, _LIMB, _JOINT = "#ffffff", "#e8e4dc", "#8a8578", "#2f6690", "#f2a541"
_LONG = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)
_TURNING = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_BALL)


def draw_stick_figures(
    model: mujoco.MjModel, rows: Float[np.ndarray, "F Q"], size: int
) -> UInt8[np.ndarray, "F H W 3"]:
    """One square side view per row, x to the right and z up, centred on the figure; a tick every metre."""
    framing = frame_recording(model, rows)
    # Joints on a body of the world only place the figure (the planar tasks' root slides); dots there would
    # mislead.
    joints = np.isin(model.jnt_type, _TURNING) & (model.body_parentid[model.jnt_bodyid] > 0)
    frames = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for row, data in enumerate(positions(model, rows)):
        x = float(framing.centres[row, 0])
        frames[row] = _draw(_limbs(model, data), data.xanchor[joints][:, [0, 2]], x, framing.metres, size)
    return frames


def _limbs(model: mujoco.MjModel, data: mujoco.MjData) -> npt.NDArray[np.float64]:
    """Start x, start z, end x, end z and radius of each limb in metres, the farthest from the viewer first.

    A capsule or cylinder is a line along its axis; any other shape is a dot of about its size.
    """
    moving = np.flatnonzero(model.geom_bodyid > 0)
    moving = moving[np.argsort(-data.geom_xpos[moving, 1], kind="stable")]
    long = np.isin(model.geom_type[moving], _LONG)
    half = np.where(long, model.geom_size[moving, 1], 0.0)
    # The third column of a geom's rotation matrix is its own z axis, along which capsules lie.
    axis = data.geom_xmat[moving].reshape(-1, 3, 3)[:, :, 2] * half[:, None]
    start, end = data.geom_xpos[moving] - axis, data.geom_xpos[moving] + axis
    return np.column_stack([start[:, [0, 2]], end[:, [0, 2]], model.geom_size[moving, 0]])


def _draw(
    limbs: npt.NDArray[np.float64], joints: npt.NDArray[np.float64], x: float, metres: float, size: int
) -> npt.NDArray[np.uint8]:
    """One picture with the point `x` of the ground in its middle."""
    canvas = size * _OVERSAMPLING
    scale, ground, hair = canvas / metres, GROUND_AT * canvas, _OVERSAMPLING
    image = Image.new("RGB", (canvas, canvas), _SKY)
    brush = ImageDraw.Draw(image)
    brush.rectangle((0, ground, canvas, canvas), fill=_GROUND)
    brush.line((0, ground, canvas, ground), fill=_TICK, width=hair)
    for metre in range(int(np.floor(x - metres / 2)), int(np.ceil(x + metres / 2)) + 1):
        across = canvas / 2 + (metre - x) * scale
        length = canvas * (0.05 if metre % 5 == 0 else 0.025)
        brush.line((across, ground, across, ground + length), fill=_TICK, width=hair)

    def dot(place: npt.NDArray[np.float64], radius: float, colour: str) -> None:
        across, down = place
        brush.ellipse((across - radius, down - radius, across + radius, down + radius), fill=colour)

    offset = np.array([canvas / 2 - x * scale, ground])
    for limb in limbs:
        ends = offset + limb[:4].reshape(2, 2) * (scale, -scale)
        radius = max(float(limb[4]) * scale, float(hair))
        brush.line([tuple(end) for end in ends], fill=_LIMB, width=round(2 * radius))
        for end in ends:
            dot(end, radius, _LIMB)
    for joint in joints:
        dot(offset + joint * (scale, -scale), 2.0 * hair, _JOINT)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
