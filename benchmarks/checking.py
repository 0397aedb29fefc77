"""Seconds to check a random dataset of Hopper's shape from its memory maps, and the memory it took.

python benchmarks/checking.py --num-steps 10000000
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from shapes import ACTION_SIZE, OBSERVATION_SIZE

from wikirl.trajectories.checking import check_dataset
from wikirl.trajectories.checking_page import checking_page
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.storage import open_dataset, save_dataset


def write_dataset(folder: Path, num_steps: int) -> None:
    draw = np.random.default_rng(0)
    starts = np.arange(0, num_steps + 1, 1000)
    observations = draw.standard_normal((num_steps, OBSERVATION_SIZE), dtype=np.float32)
    actions = draw.uniform(-1, 1, (num_steps, ACTION_SIZE)).astype(np.float32)
    rewards = draw.random(num_steps, dtype=np.float32)
    ended = np.zeros(len(starts) - 1, dtype=bool)
    save_dataset(build_dataset("large", observations, actions, rewards, starts, ended), folder)


def own_megabytes() -> float:
    """Memory of this process that is no file; touched pages of a memory map can be dropped at any time."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("RssAnon:")[2].split()[0]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=10_000_000, metavar="N", help="a multiple of 1,000")
    num_steps = parser.parse_args().num_steps
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "large", num_steps)
        dataset = open_dataset(Path(folder) / "large")
        before = peak = own_megabytes()
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.01):
                peak = max(peak, own_megabytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        wall, cpu = time.perf_counter(), time.process_time()
        report = check_dataset(dataset)
        page = checking_page(report)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        done.set()
        watcher.join()
    print(
        f"{num_steps:,} steps checked in {wall:.1f} s wall, {cpu:.1f} s of one core, {peak - before:,.0f} MB more "
        f"memory, {len(page) / 1e3:,.0f} kB of page"
    )


if __name__ == "__main__":
    main()
