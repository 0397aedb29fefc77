"""The command line's verb suite: list, run, status."""

import argparse
from pathlib import Path
from typing import Any

from wikirl.cli_parts import Result, finishing, lines, machine_flags, table

# As in experiments, whose imports a --help shall not pay for.
_BUDGETS = ("smoke", "small", "full")
_BACKENDS = ("processes", "stacked", "ray", "slurm")


def add_suite(parser: argparse.ArgumentParser) -> None:
    """Its actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text, fill in (
        ("list", "the suites there are", _list),
        ("run", "make what is missing of a suite, or go on with it", _run),
        ("status", "how far a suite is", _status),
    ):
        fill(actions.add_parser(name, help=text, description=text))


def _list(parser: argparse.ArgumentParser) -> None:
    def run() -> Result:
        from wikirl.experiments.suites import SUITES

        rows = [
            {
                "name": suite.name, "arms": len(suite.arms), "tasks": len(suite.tasks),
                "primary": " against ".join(suite.primary), "question": suite.question,
            }
            for suite in SUITES.values()
        ]  # fmt: skip
        return {"suites": rows}

    finishing(parser, run, lambda result: table(result["suites"]))


def _folder(name: str, budget: str, out: Path | None) -> Path:
    return out or Path("runs", "suites", f"{Path(name).stem}-{budget}")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a suite's name (wikirl suite list), or a Python file with SUITE")
    parser.add_argument("--budget", choices=_BUDGETS, default="small", help="how large (default: small)")
    parser.add_argument("--out", type=Path, help="its folder (default: runs/suites/NAME-BUDGET)")


def _run(parser: argparse.ArgumentParser) -> None:
    def run(name: str, budget: Any, out: Path | None, **options: Any) -> Result:
        from wikirl.experiments import suite_run
        from wikirl.experiments.suites import find_suite, with_backbones, with_corpus
        from wikirl.experiments.worker import Machine

        machine = Machine(options["device"], options["precision"], max(options["num_threads"] or 1, 1))
        folder = _folder(name, budget, out)
        suite = find_suite(name)
        suite = with_backbones(suite, options["backbones"]) if options["backbones"] else suite
        suite = with_corpus(suite, options["corpus"]) if options["corpus"] else suite
        asked = (suite, budget, folder, machine)
        if options["job"] is not None:
            return suite_run.run_job(*asked, job=options["job"], seeds=options["seeds"])
        if options["backend"] == "slurm":
            words = ["wikirl", "suite", "run", name, "--budget", budget, "--out", str(folder)]
            return suite_run.slurm_jobs(*asked, command=[*words, *_repeated(options)], seeds=options["seeds"])
        way = suite_run.Way(options["backend"], options["num_processes"], options["ray_address"])
        return suite_run.run_suite(*asked, way=way, seeds=options["seeds"], only_plan=options["only_plan"])

    _name(parser)
    parser.add_argument(
        "--backend",
        choices=_BACKENDS,
        help="what makes the runs (default: processes on a CPU, stacked on a GPU)",
    )
    parser.add_argument("--num-processes", type=int, metavar="N", help="runs at a time (default: one for each core)")
    parser.add_argument(
        "--ray-address", metavar="HOST:PORT", help="a running Ray cluster (default: one of this machine)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="training seeds (default: the budget's)")
    parser.add_argument("--backbones", nargs="+", metavar="B", help="more starting points, trained as the primary arm")
    parser.add_argument("--corpus", metavar="TEXT", help="text for an arm that goes on modelling one")
    parser.add_argument("--job", type=int, metavar="K", help="make run K alone, counted from 0, as a Slurm array asks")
    parser.add_argument(
        "--plan", action="store_true", dest="only_plan", help="say what it would make and cost, no more"
    )
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    machine_flags(parser)
    finishing(parser, run, _show)


def _repeated(options: dict[str, Any]) -> list[str]:
    """The flags that every job of an array needs too."""
    words: list[str] = []
    for name in ("seeds", "backbones", "corpus", "device", "precision", "num_threads"):
        value = options[name]
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _show(result: Result) -> str:
    if "script" in result:
        return str(result["script"])
    shown = {key: result[key] for key in ("suite", "budget", "out", "num_runs", "num_finished")}
    if result["num_finished"] == result["num_runs"]:
        shown["next"] = f"wikirl report {result['out']}"
    return lines(shown)


def _status(parser: argparse.ArgumentParser) -> None:
    def run(name: str, budget: str, out: Path | None) -> Result:
        from wikirl.experiments.suite_run import suite_status

        return suite_status(_folder(name, budget, out))

    def show(result: Result) -> str:
        begun = [f"{name}: {state}" for name, state in result["missing"].items() if state != "not begun"]
        counts = {key: result[key] for key in ("suite", "budget", "out", "num_finished", "num_runs")}
        return "\n".join([lines(counts), "", table(result["arms"]), *begun])

    _name(parser)
    finishing(parser, run, show)
