"""Reading speed: steps a second and peak memory of every format, beside Minari's own reading and d3rlpy's MDPDataset.

    taskset -c 1 .venv-extras/bin/python benchmarks/importing.py [--rounds 3] [--only CSV …] [--smoke]

Hopper shape: 11 observations, 3 actions, episodes of 1,000 steps. Every turn is a process of its own, contenders take
turns, and what is timed begins after the imports. Ours ends with a checked dataset on disk, ready to be mapped; Minari
hands out one episode after the other; d3rlpy's buffer is in memory. At the end: what drawing a batch costs of a step.
"""

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shapes import ACTION_SIZE, CONTEXT_LENGTH, OBSERVATION_SIZE
from timing import number

EPISODE, BATCH_SIZE = 1000, 64
MINARI_ID = "benchmark/hopper-v0"
TEXT_STEPS = 100_000  # written once, then repeated
Arrays = dict[str, Any]


def hopper_like(num_steps: int) -> Arrays:
    """Random numbers in Hopper's shape; half of the episodes end in a terminal state."""
    draw = np.random.default_rng(0)
    ends = np.arange(1, num_steps + 1) % EPISODE == 0
    terminals = ends & (np.arange(num_steps) // EPISODE % 2 == 0)
    return {
        "observations": draw.standard_normal((num_steps, OBSERVATION_SIZE), dtype=np.float32),
        "actions": np.tanh(draw.standard_normal((num_steps, ACTION_SIZE), dtype=np.float32)),
        "rewards": draw.random(num_steps, dtype=np.float32),
        "terminals": terminals,
        "timeouts": ends & ~terminals,
    }


def write_npz(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def write_packed_npz(path: Path, arrays: Arrays) -> None:
    np.savez_compressed(path, **{key: _doubles(values) for key, values in arrays.items()})


def write_hdf5(path: Path, arrays: Arrays) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values


def write_packed_hdf5(path: Path, arrays: Arrays) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=_doubles(values), compression="gzip", chunks=True)


def write_csv(path: Path, arrays: Arrays) -> None:
    steps = len(arrays["rewards"])
    columns = [*(f"obs_{i}" for i in range(OBSERVATION_SIZE)), *(f"action_{i}" for i in range(ACTION_SIZE))]
    values = np.column_stack([arrays[key][:TEXT_STEPS] for key in ("observations", "actions", "rewards")])
    ends = np.column_stack([arrays[key][:TEXT_STEPS] for key in ("terminals", "timeouts")]).astype(int)
    rows = zip(values.tolist(), ends.tolist(), strict=True)
    block = "".join(f"{','.join(format(x, '.8g') for x in row)},{end[0]},{end[1]}\n" for row, end in rows)
    with path.open("w") as file:
        file.write(",".join([*columns, "reward", "terminated", "truncated"]) + "\n")
        for _ in range(max(steps // TEXT_STEPS, 1)):
            file.write(block)


def write_json_lines(path: Path, arrays: Arrays) -> None:
    import json

    with path.open("w") as file:
        for observation, action, reward, terminal, timeout in zip(*(values.tolist() for values in arrays.values())):  # noqa: B905
            step = {
                "obs": observation,
                "action": action,
                "reward": reward,
                "terminated": terminal,
                "truncated": timeout,
            }
            file.write(json.dumps(step) + "\n")


def write_parquet(path: Path, arrays: Arrays) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {key: list(values) if values.ndim > 1 else values for key, values in arrays.items()}
    parquet.write_table(pyarrow.table(columns), path)


def write_pickle(path: Path, arrays: Arrays) -> None:
    import pickle

    steps = range(0, len(arrays["rewards"]), EPISODE)
    episodes = [{key: values[start : start + EPISODE] for key, values in arrays.items()} for start in steps]
    path.write_bytes(pickle.dumps(episodes))


def write_minari(path: Path, arrays: Arrays) -> None:
    """Through the library itself, without an environment."""
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    os.environ["MINARI_DATASETS_PATH"] = str(path)
    buffers = []
    for start in range(0, len(arrays["rewards"]), EPISODE):
        part = {key: values[start : start + EPISODE] for key, values in arrays.items()}
        observations = np.concatenate([part["observations"], part["observations"][-1:]])
        ends = {"terminations": part["terminals"].tolist(), "truncations": part["timeouts"].tolist()}
        rewards = part["rewards"].tolist()
        buffers.append(EpisodeBuffer(None, None, None, observations, part["actions"], rewards, infos={}, **ends))
    minari.create_dataset_from_buffers(
        MINARI_ID,
        buffers,
        observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32),
        action_space=gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32),
    )


def ours(path: Path, out: Path) -> int:
    from wikirl.trajectories.columns import ColumnMapping
    from wikirl.trajectories.importing import import_trajectories

    source = str(path / MINARI_ID) if path.is_dir() else str(path)
    return import_trajectories(source, ColumnMapping(), out).num_steps


def minari_itself(path: Path, out: Path) -> int:
    import minari

    os.environ["MINARI_DATASETS_PATH"] = str(path)
    return sum(len(episode.rewards) for episode in minari.load_dataset(MINARI_ID).iterate_episodes())


def d3rlpy_buffer(path: Path, out: Path) -> int:
    import d3rlpy
    import h5py

    with h5py.File(path) as file:
        arrays = {key: file[key][:] for key in file}
    return int(d3rlpy.dataset.MDPDataset(**arrays).transition_count)


WRITERS: dict[str, Callable[[Path, Arrays], None]] = {
    "plain.npz": write_npz,
    "packed.npz": write_packed_npz,
    "plain.hdf5": write_hdf5,
    "packed.hdf5": write_packed_hdf5,
    "logs.csv": write_csv,
    "logs.jsonl": write_json_lines,
    "logs.parquet": write_parquet,
    "logs.pkl": write_pickle,
    "minari": write_minari,
}
CONTENDERS: dict[str, tuple[str, Callable[[Path, Path], int]]] = {
    "ours, .npz": ("plain.npz", ours),
    "ours, .npz, float64, deflate": ("packed.npz", ours),
    "ours, D4RL HDF5": ("plain.hdf5", ours),
    "ours, D4RL HDF5, float64, gzip": ("packed.hdf5", ours),
    "ours, CSV": ("logs.csv", ours),
    "ours, JSON Lines": ("logs.jsonl", ours),
    "ours, Parquet": ("logs.parquet", ours),
    "ours, DT pickle": ("logs.pkl", ours),
    "ours, Minari": ("minari", ours),
    "Minari itself, episode by episode": ("minari", minari_itself),
    "d3rlpy, HDF5 to MDPDataset": ("plain.hdf5", d3rlpy_buffer),
}
LARGE = ("ours, .npz", "ours, D4RL HDF5", "ours, CSV", "ours, Minari", "d3rlpy, HDF5 to MDPDataset")


def child(name: str, folder: Path) -> None:
    """One turn: read once, and print steps, seconds of CPU and wall, and the peak of this process in MB."""
    file, run = CONTENDERS[name]
    if run is ours:
        import wikirl.trajectories.importing  # noqa: F401 - not to be timed
    elif run is minari_itself:
        import minari  # noqa: F401
    else:
        import d3rlpy  # noqa: F401
    wall, cpu = time.perf_counter(), time.process_time()
    steps = run(folder / file, folder / "out")
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    # Not getrusage's ru_maxrss, in which Linux counts the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM"))
    print("measured", steps, *seconds, peak)


def turn(name: str, folder: Path) -> tuple[float, float, float]:
    """Steps a second of CPU time and of wall time, and the peak in MB, of a fresh process."""
    command = [sys.executable, __file__, "--child", name, str(folder)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    steps, cpu, wall, peak = map(float, finished.stdout.split("measured")[-1].split())
    shutil.rmtree(folder / "out", ignore_errors=True)
    return steps / cpu, steps / wall, peak


def compare(names: tuple[str, ...], num_steps: int, rounds: int) -> str:
    """A Markdown table: contenders take turns on the same files."""
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        needed = dict.fromkeys(CONTENDERS[name][0] for name in names)
        writing = f"import importing; importing.write({list(needed)!r}, {folder!r}, {num_steps})"
        subprocess.run([sys.executable, "-c", writing], cwd=Path(__file__).parent, check=True)
        for _, name in itertools.product(range(rounds), names):
            figures[name].append(turn(name, Path(folder)))
    lines = ["| | steps/s of CPU | steps/s of wall | range of CPU | peak, MB |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, turns in figures.items():
        cpu, wall, peak = (statistics.median(column) for column in zip(*turns, strict=True))
        spread = f"{min(one[0] for one in turns):,.0f}–{max(one[0] for one in turns):,.0f}"
        lines.append(f"| {name} | {cpu:,.0f} | {wall:,.0f} | {spread} | {number(peak)} |")
    return "\n".join(lines)


def write(files: list[str], folder: str, num_steps: int) -> None:
    """Write the files, in a process whose memory does not count."""
    arrays = hopper_like(num_steps)
    for file in files:
        WRITERS[file](Path(folder) / file, arrays)


def sampling_share(rounds: int, batch_size: int, count: int) -> str:
    """What drawing a batch takes of a training step, 3 × 128."""
    import torch
    from steps import DATASET, our_step
    from timing import interleave, repeated

    from wikirl.reproducibility import generator
    from wikirl.trajectories.sampling import ContextSampler
    from wikirl.trajectories.sources import load_trajectories

    torch.set_num_threads(1)
    sampler = ContextSampler(load_trajectories(f"builtin:{DATASET}"), CONTEXT_LENGTH, generator(0, "batches"))
    step = our_step("float32", batch_size)
    contenders = {"draw": repeated(lambda: sampler.sample(batch_size), 10 * count), "step": repeated(step, count)}
    seconds = {name: statistics.median(timing.cpu) for name, timing in interleave(contenders, rounds).items()}
    share = seconds["draw"] / seconds["step"]
    return (
        f"Drawing a batch of {batch_size} × {CONTEXT_LENGTH} takes {1e3 * seconds['draw']:.2f} ms, a training step "
        f"{1e3 * seconds['step']:.0f} ms: {share:.2%}."
    )


def _doubles(values: Any) -> Any:
    return values.astype(np.float64) if values.dtype == np.float32 else values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--large", type=int, default=10**7, help="steps of the second table; 0: none")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="contenders whose name contains it")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, to see that it runs; figures mean nothing")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.steps, options.large = 1, 2000, 3000
    print(f"## Reading speed\n\n{options.steps:,} steps, {options.rounds} rounds.\n")
    chosen = tuple(name for name in CONTENDERS if any(text in name for text in options.only))
    print(compare(chosen, options.steps, options.rounds), flush=True)
    if options.large:
        large = compare(tuple(name for name in LARGE if name in chosen), options.large, 1)
        print(f"\n{options.large:,} steps, one round.\n\n{large}", flush=True)
    print(f"\n{sampling_share(options.rounds, 4 if options.smoke else BATCH_SIZE, 1 if options.smoke else 10)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
