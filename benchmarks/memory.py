"""Memory of training: the largest resident set of a fresh process that does 20 steps of batch 64.

    .venv-extras/bin/python benchmarks/memory.py [--smoke]

Each library has a process of its own, nothing subtracted; `import torch` alone is the least that any can have.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def peak_megabytes(name: str, num_steps: int) -> float:
    """The largest resident set of a process of its own that takes these steps."""
    command = [sys.executable, __file__, "--child", name, str(num_steps)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(finished.stdout.split()[-1])


def child(name: str, num_steps: int) -> None:
    """Take the steps and print the peak of this process."""
    step = STEPS[name]()
    for _ in range(num_steps):
        step()
    # Not getrusage's ru_maxrss, in which Linux counts the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM")))


def main() -> None:
    options = parse_options("Memory of training.")
    num_steps = 1 if options.smoke else NUM_STEPS
    peaks = {name: peak_megabytes(name, num_steps) for name in STEPS}
    print(f"## Memory of training\n\nLargest resident set of a fresh process, {num_steps} steps of {BATCH_SIZE}.\n")
    print("| | MB | memory ÷ ours float32 |\n| --- | ---: | ---: |")
    for name, peak in peaks.items():
        print(f"| {name} | {number(peak)} | {peak / peaks['ours float32']:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
