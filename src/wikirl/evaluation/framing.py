"""Where to look: how large a MuJoCo figure is and where it stands in each row of a recording.

This file knows forward kinematics, no GL and no drawing; renderer and stick figures share it, so that both
show the same part of the world.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

GROUND_AT = 0.86  # share of the picture above the ground under the figure
_MARGIN = 1.3


@dataclass(frozen=True)
class Framing:
    """One scale for a whole recording, so that the figure does not pulse, and one centre per row.

    Attributes:
        metres: Height and width of the world that a picture shows.
        centres: The point in the middle of each picture; it follows the figure along the ground and keeps its
            height.
    """

    metres: float
    centres: Float[np.ndarray, "F 3"]


def frame_recording(model: mujoco.MjModel, rows: Float[np.ndarray, "F Q"]) -> Framing:
    """Make the largest figure of the recording just fit."""
    moving = np.flatnonzero(model.geom_bodyid > 0)
    radius = model.geom_rbound[moving]
    sizes, centres = [0.1], np.zeros((len(rows), 3))
    for row, data in enumerate(positions(model, rows)):
        points = data.geom_xpos[moving]
        if len(moving):
            centres[row, :2] = points[:, :2].mean(axis=0)
            sizes.append(float((points[:, 2] + radius).max()) / GROUND_AT)
            sizes.append(float((points[:, 0] + radius).max() - (points[:, 0] - radius).min()))
    metres = _MARGIN * max(sizes)
    centres[:, 2] = metres * (GROUND_AT - 0.5)
    return Framing(metres, centres)


def positions(model: mujoco.MjModel, rows: Float[np.ndarray, "F Q"]) -> Iterator[mujoco.MjData]:
    """The simulator's state at each row; always the same object, so read it before going on."""
    data = mujoco.MjData(model)
    for qpos in rows:
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        yield data
