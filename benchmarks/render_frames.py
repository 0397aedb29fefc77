"""Pictures of MuJoCo tasks under random actions, for `wikirl pretrain --corpus images:OUT`.

    python benchmarks/render_frames.py OUT --environment Hopper-v5 [Walker2d-v5 …] [--num-frames N]

Plays episodes of uniformly random actions and renders states from them, OUT/ENVIRONMENT/0000000.png and on; the same
number of pictures for each environment, the same ones under the same seed. Needs EGL or OSMesa (libegl1).
"""

import argparse
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from wikirl.evaluation.collecting import RandomPolicy
from wikirl.evaluation.environments import describe_environment
from wikirl.evaluation.recording import record_episode
from wikirl.evaluation.rendering import render_recording, to_png

# Rows that one rendering process draws; with the camera they share its scale.
TOGETHER = 256


def poses(environment: str, seed: int, every: int) -> Iterator[Float[np.ndarray, "Q"]]:
    """Joint positions from episode after episode, `every` steps apart."""
    policy = RandomPolicy(describe_environment(environment).action_space)
    for episode in count():
        recording = record_episode(policy, environment, seed=seed, episode=episode, max_steps=100 * every)
        yield from recording.qpos[::every]


def render(environment: str, folder: Path, options: argparse.Namespace) -> None:
    """Fill a folder with pictures of one environment."""
    folder.mkdir(parents=True, exist_ok=True)
    source = poses(environment, options.seed, options.every)
    for first in tqdm(range(0, options.num_frames, TOGETHER), desc=environment, unit=" batches"):
        rows = np.stack(list(islice(source, min(TOGETHER, options.num_frames - first))))
        drawn = render_recording(rows, environment, size=options.size, every=1, methods=("egl", "osmesa"))
        for number, frame in enumerate(drawn.frames, start=first):
            (folder / f"{number:07}.png").write_bytes(to_png(frame))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of MuJoCo tasks under random actions.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--environment", nargs="+", default=["Hopper-v5"], metavar="ID")
    parser.add_argument("--num-frames", type=int, default=1000, help="of each environment (default: 1000)")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side (default: 64, twice what is read)")
    parser.add_argument("--every", type=int, default=4, help="steps between pictures (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for environment in options.environment:
        render(environment, options.out / environment.replace("/", "-"), options)


if __name__ == "__main__":
    main()
