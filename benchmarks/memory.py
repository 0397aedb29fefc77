"""Memory of training: the largest resident set of a fresh process that does 20 steps of batch 64.

    .venv-extras/bin/python benchmarks/memory.py [--smoke]

Each library has a process of its own, nothing subtracted; `import torch` alone is the least that any can have. One line
more: ours on a random dataset of 10 million Hopper steps, 600 MB of memory map, whose touched pages count as resident.
"""

import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from shapes import ACTION_SIZE, OBSERVATION_SIZE
from steps import Step, d3rlpy_step, hugging_face_step, our_step
from timing import number, parse_options

BATCH_SIZE, NUM_STEPS = 64, 20
STEPS: dict[str, Callable[[], Step]] = {
    "import torch": lambda: lambda: None,
    "ours float32": lambda: our_step("float32", BATCH_SIZE),
    "ours bfloat16": lambda: our_step("bfloat16", BATCH_SIZE),
    "Hugging Face, batch ready": lambda: hugging_face_step(BATCH_SIZE),
    "d3rlpy": lambda: d3rlpy_step(BATCH_SIZE)[0],
}


LARGE = "ours float32, 10 M steps of data"


def write_large_dataset(folder: Path, num_steps: int) -> str:
    """A random dataset in our format; its id."""
    import numpy as np

    from wikirl.trajectories.dataset import build_dataset
    from wikirl.trajectories.storage import save_dataset

    draw = np.random.default_rng(0)
    starts = np.arange(0, num_steps + 1, 1000)
    observations = draw.standard_normal((num_steps, OBSERVATION_SIZE), dtype=np.float32)
    actions = draw.uniform(-1, 1, (num_steps, ACTION_SIZE)).astype(np.float32)
    rewards = draw.random(num_steps, dtype=np.float32)
    ended = np.zeros(len(starts) - 1, dtype=bool)
    save_dataset(build_dataset("large", observations, actions, rewards, starts, ended), folder / "large")
    return f"file:{folder / 'large'}"


def peak_megabytes(name: str, num_steps: int, dataset: str = "") -> float:
    """The largest resident set of a process of its own that takes these steps."""
    command = [sys.executable, __file__, "--child", name, str(num_steps), dataset]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(finished.stdout.split()[-1])


def child(name: str, num_steps: int, dataset: str) -> None:
    """Take the steps, on another dataset than usual if one is named, and print the peak of this process."""
    step = our_step("float32", BATCH_SIZE, dataset=dataset) if dataset else STEPS[name]()
    for _ in range(num_steps):
        step()
    # Not getrusage's ru_maxrss, in which Linux counts the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM")))


def main() -> None:
    options = parse_options("Memory of training.")
    num_steps = 1 if options.smoke else NUM_STEPS
    peaks = {name: peak_megabytes(name, num_steps) for name in STEPS}
    with tempfile.TemporaryDirectory() as folder:
        size = 10**5 if options.smoke else 10**7
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            large = pool.submit(write_large_dataset, Path(folder), size).result()
        peaks[LARGE] = peak_megabytes(LARGE, num_steps, large)
    print(f"## Memory of training\n\nLargest resident set of a fresh process, {num_steps} steps of {BATCH_SIZE}.\n")
    print("| | MB | memory ÷ ours float32 |\n| --- | ---: | ---: |")
    for name, peak in peaks.items():
        print(f"| {name} | {number(peak)} | {peak / peaks['ours float32']:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
