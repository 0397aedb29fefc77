"""The benchmark: every section in a process of its own, into one Markdown page.

    make benchmark
    .venv-extras/bin/python benchmarks/speed.py [--only SECTION…] [--rounds 3] [--num-threads 1] [--smoke] [--out FILE]

Ours, Hugging Face and d3rlpy side by side: same model, batch, dropout and threads. In the columns "time ÷ …" the
figure is how many times as long a line takes, with its smallest and largest value over the rounds in brackets.
"""

import argparse
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SECTIONS = ("training", "memory", "scoring", "gpt2_small", "pretraining", "word_clusters")
PACKAGES = ("torch", "transformers", "d3rlpy", "accelerate", "faiss-cpu", "scikit-learn", "gymnasium", "mujoco")
EXPLANATION = """\
Medians of interleaved rounds in one process for each table. "Time ÷ X" is how many times as long a line takes as X,
with the smallest and the largest value over the rounds in brackets: of CPU time with one thread, of wall time with
several. A floor is the time of the matrix products alone at the rate measured in the same rounds.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole benchmark, into one Markdown page.")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num-threads", type=int, help="default: each section's own; 2 for word_clusters, else 1")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, to see that it runs")
    parser.add_argument("--out", type=Path, help="write the page there instead of printing it")
    options = parser.parse_args()
    smoke = (
        "\n**A smoke run: tiny counts under full-size headings; the figures mean nothing.**\n" if options.smoke else ""
    )
    parts = [f"# Benchmark\n\n{machine()}\n\n{EXPLANATION}{smoke}"]
    for section in options.only:
        print(f"{section} …", file=sys.stderr, flush=True)
        parts.append(run_section(section, options))
    page = "\n".join(parts)
    if options.out:
        options.out.write_text(page)
    else:
        print(page)


def run_section(section: str, options: argparse.Namespace) -> str:
    """What a section prints, run with everything that could use more threads or the network held back."""
    command = [sys.executable, str(Path(__file__).with_name(f"{section}.py")), f"--rounds={options.rounds}"]
    threads = options.num_threads or (2 if section == "word_clusters" else 1)
    command += [f"--num-threads={threads}", *(["--smoke"] if options.smoke else [])]
    quiet = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
    finished = subprocess.run(command, env=os.environ | quiet, stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout


def machine() -> str:
    """Processor, load, versions, commit and command."""
    processors = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    folder = Path(__file__).parent
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True)
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} × {processors[0] if processors else 'unknown'}, load at the start {os.getloadavg()[0]:.1f}; "
        f"wikirl at {commit.stdout.strip() or 'no commit'}; {packages}.\n\n`python {' '.join(sys.argv)}`"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    main()
