"""Bootstrap intervals: ours beside rliable's, in time and in result; and how often those of few runs cover the truth.

    .venv-extras/bin/python benchmarks/intervals.py [--rounds 3] [--num-threads 1] [--smoke]

10 runs × 9 tasks and 2,000 bootstrap samples, the size of a table of D4RL scores. What is timed begins with two arrays
and ends with an estimate and an interval. rliable draws from NumPy's global generator, which is seeded.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from rliable import library, metrics
from timing import Contender, Options, interleave, milliseconds, number, parse_options, repeated, table

from wikirl.analysis.intervals import Interval
from wikirl.analysis.paired import detectable_gap, paired_difference, student_interval
from wikirl.analysis.statistics import (
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    mean,
    performance_profile,
    profile_band,
)

NUM_RUNS, NUM_TASKS, NUM_SAMPLES = 10, 9, 2000
THRESHOLDS = np.linspace(0, 100, 101)
Scores = Float[np.ndarray, "R T"]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def made_up_scores(seed: int) -> Scores:
    return np.random.default_rng(seed).normal(50 + seed, 10, (NUM_RUNS, NUM_TASKS))


def rliable_interval(scores: Scores | list[Scores], metric: Callable[..., object], num_samples: int) -> Interval:
    points, ends = library.get_interval_estimates({"x": scores}, lambda *x: np.array([metric(*x)]), reps=num_samples)
    low, high = ends["x"][:, 0]
    return Interval(points["x"][0], low, high, 0.95, num_samples)


def comparisons(num_samples: int) -> dict[str, tuple[Callable[[], Interval], Callable[[], Interval]]]:
    """By name of the statistic: ours and rliable's."""
    x, y = made_up_scores(0), made_up_scores(3)
    return {
        "interquartile mean": (
            lambda: bootstrap_interval(x, interquartile_mean, rng=rng(), num_samples=num_samples),
            lambda: rliable_interval(x, metrics.aggregate_iqm, num_samples),
        ),
        "probability of improvement": (
            lambda: improvement_interval(x, y, rng=rng(), num_samples=num_samples),
            lambda: rliable_interval([x, y], metrics.probability_of_improvement, num_samples),
        ),
    }


def profiles(num_samples: int) -> tuple[Callable[[], object], Callable[[], object]]:
    x = made_up_scores(0)

    def ours() -> object:
        band = profile_band(x, THRESHOLDS, rng=rng(), num_samples=num_samples)
        return performance_profile(x, THRESHOLDS), band

    return ours, lambda: library.create_performance_profile({"x": x}, THRESHOLDS, reps=num_samples)


def speed(options: Options) -> str:
    """A table for each statistic: milliseconds for one interval."""
    num_samples = 20 if options.smoke else NUM_SAMPLES
    repeats = 1 if options.smoke else 20
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        **comparisons(num_samples),
        "profile with its band, 101 thresholds": profiles(num_samples),
    }
    parts = []
    for name, (ours, theirs) in pairs.items():
        contenders: dict[str, Contender] = {"ours": repeated(ours, repeats), "rliable": repeated(theirs, 1)}
        timings = interleave(contenders, options.rounds)
        parts.append(f"### {name}\n\n{table(timings, options, unit='ms', show=milliseconds, ours=('ours',))}\n")
    x, y = made_up_scores(0), made_up_scores(3)
    alone: dict[str, Contender] = {
        "paired difference": repeated(lambda: paired_difference(x, y, rng=rng(), num_samples=num_samples), repeats),
        "interval by Student's t": repeated(lambda: student_interval(x, y), repeats),
        "detectable gap": repeated(lambda: detectable_gap(x, y), repeats),
    }
    timings = interleave(alone, options.rounds)
    parts.append(f"### What rliable has not\n\n{table(timings, options, unit='ms', show=milliseconds, ours=())}\n")
    return "\n".join(parts)


def results(options: Options) -> str:
    """The same estimates, and ends that differ by the bootstrap's own noise."""
    lines = ["| | ours | rliable |", "| --- | --- | --- |"]
    for name, contenders in comparisons(20 if options.smoke else NUM_SAMPLES).items():
        cells = [
            f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})" for found in (each() for each in contenders)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def normal(draws: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
    return draws.normal(size=shape)


def lopsided(draws: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
    """Differences of two arms of which one fails in a quarter of its runs: 50 points lost, noise of 14 points."""
    return draws.normal(0, 14, shape) - 50 * (draws.random(shape) < 0.25) + 12.5


def coverage(options: Options) -> str:
    """Share of made-up studies (paired differences whose true mean is 0) whose 95 % interval holds the truth."""
    num_studies, draws = (4 if options.smoke else 2000), rng()
    kinds = {"normal": normal, "lopsided": lopsided}
    heading = ["pairs", "tasks", *(f"{kind}, {method}" for kind in kinds for method in ("bootstrap", "Student's t"))]
    lines = [heading, ["---:"] * len(heading)]
    for num_tasks in (1, 2, 9):
        for num_runs in (3, 5, 10, 20):
            shares = [
                share for make in kinds.values() for share in covered(make, num_studies, num_runs, num_tasks, draws)
            ]
            lines.append([str(num_runs), str(num_tasks), *(f"{number(100 * share)} %" for share in shares)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def covered(
    make: Callable[[np.random.Generator, tuple[int, ...]], Scores],
    num_studies: int,
    num_runs: int,
    num_tasks: int,
    draws: np.random.Generator,
) -> list[float]:
    """Share of studies, by the bootstrap and by Student's t."""
    nothing = np.zeros((num_runs, num_tasks))
    found = [
        (
            bootstrap_interval(study, mean, rng=draws, num_samples=1000).contains(0.0),
            student_interval(study, nothing).contains(0.0),
        )
        for study in make(draws, (num_studies, num_runs, num_tasks))
    ]
    return list(np.mean(found, axis=0))


def main() -> None:
    options = parse_options("Bootstrap intervals: ours beside rliable's.")
    np.random.seed(0)
    size = f"{NUM_RUNS} runs × {NUM_TASKS} tasks, {NUM_SAMPLES:,} bootstrap samples"
    print(f"## Intervals\n\n{size}.\n\n{speed(options)}\n### Results\n\n{results(options)}\n")
    print(f"### Coverage\n\n{coverage(options)}")


if __name__ == "__main__":
    main()
