"""The process that renders: reads model.mjb and positions.npz where it stands, writes frames.npz.

This file knows MuJoCo's renderer. It deliberately imports nothing of ours, so that it starts fast, and
handles no error: `rendering` reads its exit status.
"""

import math
from pathlib import Path

import mujoco
import numpy as np

# From the side, and slightly from above so that the ground shows.
_AZIMUTH, _ELEVATION = 90.0, -8.0
_GROUND_FROM = 10.0  # half the width in metres from which a plane is the ground and no table
_SWITCHED_OFF = ("mjRND_SHADOW", "mjRND_REFLECTION")


def main() -> None:
    """Render all rows and write them as one array `[F, H, W, 3]`."""
    with np.load("positions.npz", allow_pickle=False) as archive:
        rows, centres = archive["rows"], archive["centres"]
        metres, size = float(archive["metres"]), int(archive["size"])
    model = mujoco.MjModel.from_binary_path("model.mjb")
    # The buffer must be as large as the picture; MuJoCo's default is 640 by 480.
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
    model.vis.global_.offheight = max(model.vis.global_.offheight, size)
    extend_ground(model)
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation = _AZIMUTH, _ELEVATION
    camera.distance = metres / 2 / math.tan(math.radians(float(model.vis.global_.fovy)) / 2)
    frames = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    with mujoco.Renderer(model, size, size) as renderer:
        for row, qpos in enumerate(rows):
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            # Not MuJoCo's own tracking camera: that bobs up and down with the body, and the ground with it.
            camera.lookat[:] = centres[row]
            # Twice, because MuJoCo lays infinite ground around where the camera was before.
            renderer.update_scene(data, camera=camera)
            renderer.update_scene(data, camera=camera)
            # Dear on a software renderer. The sky stays on: dark limbs vanish before black.
            for flag in _SWITCHED_OFF:
                renderer.scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
            renderer.render(out=frames[row])
    np.savez(Path("frames.npz"), frames=frames)


def extend_ground(model: mujoco.MjModel) -> None:
    """Make the ground infinite: as shipped it ends after 20 to 40 m, and a cheetah runs hundreds."""
    planes = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    for ground in np.flatnonzero(planes & (model.geom_size[:, 0] >= _GROUND_FROM)):
        material = model.geom_matid[ground]
        if material >= 0:
            # The texture repeats per half width of a finite plane, but per metre of an infinite one.
            model.mat_texrepeat[material] /= model.geom_size[ground, :2]
        model.geom_size[ground, :2] = 0.0  # MuJoCo's way to say infinite


if __name__ == "__main__":
    main()
