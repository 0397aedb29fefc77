"""What every section of the benchmark shares: interleaved rounds, medians, the machine's matrix rate, the table.

Contenders take turns (ours, peer 1, peer 2, ours, …) in one process, so that whatever else the machine does hits all
alike; figures are medians over the rounds, with the range of the ratios beside them. CPU time is that of the whole
process, helper threads included.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

Contender = Callable[[], float]
"""Does one round of work and returns how many units (steps, tokens, episodes) that was."""

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Options:
    """What the command line of every section says."""

    rounds: int
    num_threads: int
    smoke: bool


def parse_options(description: str, *, num_threads: int = 1) -> Options:
    """Read the options of a section and set PyTorch's threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; figures are their medians")
    parser.add_argument("--num-threads", type=int, default=num_threads, help="threads of every contender")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, to see that it runs; figures mean nothing")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.num_threads)
    return Options(2 if parsed.smoke else parsed.rounds, parsed.num_threads, parsed.smoke)


@dataclass(frozen=True)
class Timing:
    """Seconds per unit of work, one value for each round."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def times(self, factor: float) -> "Timing":
        """The timing of `factor` units."""
        return Timing(tuple(factor * value for value in self.cpu), tuple(factor * value for value in self.wall))


def interleave(contenders: Mapping[str, Contender], rounds: int, *, warm_up: bool = True) -> dict[str, Timing]:
    """Let the contenders take turns, `rounds` times, after one turn each that is not counted."""
    if warm_up:
        for run in contenders.values():
            run()
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            wall_started, cpu_started = time.perf_counter(), time.process_time()
            units = run()
            cpu[name].append((time.process_time() - cpu_started) / units)
            wall[name].append((time.perf_counter() - wall_started) / units)
    return {name: Timing(tuple(cpu[name]), tuple(wall[name])) for name in contenders}


def repeated(step: Callable[[], object], count: int) -> Contender:
    """A round of `count` steps."""

    def run() -> float:
        for _ in range(count):
            step()
        return count

    return run


def matrix_products(rows: int, inner: int, columns: int, *, smoke: bool) -> dict[str, Contender]:
    """Contenders that only multiply `[rows,inner]` by `[inner,columns]`; their unit is one GFLOP.

    float32 twice: as a plain product, which PyTorch hands to MKL, and through oneDNN, which is faster on AMD.
    """
    left, weight, bias = torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(columns)
    gflop = 2e-9 * rows * inner * columns
    repeats = 1 if smoke else max(1, round(20 / gflop))

    def product(convert: Callable[[torch.Tensor], torch.Tensor]) -> Contender:
        operands = convert(left), convert(weight), convert(bias)

        def run() -> float:
            for _ in range(repeats):
                F.linear(*operands)
            return repeats * gflop

        return run

    return {
        "float32": product(torch.Tensor.float),
        "float32 through oneDNN": product(torch.Tensor.to_mkldnn),
        "bfloat16": product(torch.Tensor.bfloat16),
    }


def floors(products: Mapping[str, Timing], gflop: float, options: Options) -> dict[str, Timing]:
    """What one unit of `gflop` would take if it consisted of matrix products alone, with the rate they reached."""
    clock = judged_by(options)
    size = f"{number(gflop)} GFLOP" if gflop >= 1 else f"{number(1e3 * gflop)} MFLOP"
    return {
        f"floor: {size}, {name}, {number(1 / median(timing, clock))} GFLOP/s": timing.times(gflop)
        for name, timing in products.items()
    }


def measure_with_floors(
    contenders: Mapping[str, Contender],
    products: Mapping[str, Contender],
    gflop: float,
    options: Options,
    *,
    warm_up: bool = True,
) -> dict[str, Timing]:
    """`interleave` contenders and matrix products in the same rounds; products become floors of a unit of `gflop`."""
    for run in products.values():
        run()
    timings = interleave({**contenders, **products}, options.rounds, warm_up=warm_up)
    floor = floors({name: timings[name] for name in products}, gflop, options)
    return {name: timings[name] for name in contenders} | floor


def judged_by(options: Options) -> Clock:
    """CPU time for one thread, wall time for several: threads that wait for each other burn CPU time."""
    return "cpu" if options.num_threads == 1 else "wall"


def median(timing: Timing, clock: Clock) -> float:
    """Median over rounds of the seconds per unit."""
    return statistics.median(timing.cpu if clock == "cpu" else timing.wall)


def table(
    timings: Mapping[str, Timing],
    options: Options,
    *,
    unit: str,
    show: Callable[[float], float],
    ours: tuple[str, ...],
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """A Markdown table: a line for each contender.

    Args:
        timings: The contenders' figures, in the order of the lines.
        options: Decide the clock of the ratios.
        unit: What the figures are in.
        show: From seconds per unit of work to that unit.
        ours: Rows that all are compared with: a column each, saying how many times their time a row takes.
        more: Further columns, by heading and contender.
    """
    clock, more = judged_by(options), more or {}
    heading = ["", f"CPU, {unit}", f"wall, {unit}", *(f"time ÷ {name}" for name in ours), *more]
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    for name, timing in timings.items():
        figures = [number(show(statistics.median(seconds))) for seconds in (timing.cpu, timing.wall)]
        ratios = [_ratio(timing, timings[base], clock) for base in ours]
        lines.append([name, *figures, *ratios, *(column.get(name, "") for column in more.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio(timing: Timing, base: Timing, clock: Clock) -> str:
    if timing is base:
        return "1"
    pairs = zip(getattr(timing, clock), getattr(base, clock), strict=True)
    each = [value / other for value, other in pairs]
    return f"{median(timing, clock) / median(base, clock):.2f} ({min(each):.2f}–{max(each):.2f})"


def number(value: float) -> str:
    """Three significant digits, without powers of ten."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def milliseconds(seconds: float) -> float:
    """For `show`."""
    return 1e3 * seconds


def per_second(seconds: float) -> float:
    """For `show`."""
    return 1 / seconds
