"""`wikirl`: one verb per stage of the road. Each flag is a field of the verb's configuration.

Nothing heavy is imported before a verb runs, so that `--help` answers at once. Exit codes:
0 done; 1 a bug; 2 the user can mend it (one line on stderr); 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wikirl.cli_baseline import add_baseline
from wikirl.cli_data import add_actions
from wikirl.cli_parts import Result, add_fields, finishing, lines, machine_flags, run_lines, table, use_threads
from wikirl.cli_report import add_report
from wikirl.cli_suite import add_suite
from wikirl.errors import UnsoundDatasetError, WikiRLError, refusal_of_the_system

ABOUT = "Does pre-training a sequence model on something else make it a better learner of decisions from logged data?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = vars(_parser(arguments).parse_args(arguments))
    run: Callable[..., Result] = options.pop("run")
    show: Callable[[Result], str] = options.pop("show")
    as_json: bool = options.pop("json")
    for name in ("verb", "action"):
        options.pop(name, None)
    try:
        result, complaint = _outcome(run, options)
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks
            _say(json.dumps(result) if as_json else show(result))
        if complaint is not None:
            raise complaint
    except WikiRLError as error:
        print(f"wikirl: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "wikirl: interrupted; demo, pretrain, finetune, baseline, suite run and data collect go on where they "
            "stopped if asked again",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        return 0
    except Exception as error:
        if not (refusal := refusal_of_the_system(error)):
            raise
        print(f"wikirl: {refusal}", file=sys.stderr)
        return 2
    return 0


def _outcome(run: Callable[..., Result], options: dict[str, Any]) -> tuple[Result, WikiRLError | None]:
    """The result of a verb; of a check that found errors too, beside its complaint."""
    try:
        return run(**options), None
    except UnsoundDatasetError as error:
        return error.result, error


def _say(text: str) -> None:
    """Print a result; where nothing can be printed, Python shall not try again when it ends."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; flags that need a configuration class are added only for the verb that is asked for."""
    parser = argparse.ArgumentParser(prog="wikirl", description=ABOUT)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asked = next((word for word in arguments if not word.startswith("-")), "")

    def add(name: str, text: str, fill: Callable[[argparse.ArgumentParser], None]) -> None:
        verb = verbs.add_parser(name, help=text, description=text)
        if name == asked:
            fill(verb)

    add("demo", "the whole road on shipped data: scratch against ChibiT on Hopper, with a report", _demo)
    add("pretrain", "text to a language model: a backbone in a Hugging Face folder", _pretrain)
    add("data", "trajectories: list, show, import, check, collect, download, transform", add_actions)
    add("finetune", "a backbone and logged trajectories to a policy: a run folder", _finetune)
    add("baseline", "behaviour cloning, TD3+BC, CQL or IQL on the same trajectories: a run folder", add_baseline)
    add("evaluate", "score the policy of a run", _evaluate)
    add("suite", "studies: list, run, status", add_suite)
    add("report", "a study's verdict, with everything it rests on: a page, a text and the numbers", add_report)
    return parser


def _demo(parser: argparse.ArgumentParser) -> None:
    def run(out: Path, num_threads: int | None) -> Result:
        from wikirl.experiments.demo import demo

        return demo(out, num_threads=num_threads)

    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder for runs and report (default: runs/demo)"
    )
    parser.add_argument("--num-threads", type=int, help="CPU threads for each run (default: 1)")
    finishing(parser, run, lambda result: result["table"])


def _pretrain(parser: argparse.ArgumentParser) -> None:
    from wikirl.recipes.pretrain_settings import PRESETS, PretrainConfig, from_preset

    def run(preset: Any, out: Path, num_threads: int | None, **options: Any) -> Result:
        from wikirl.recipes.pretrain import pretrain

        machine = {name: options.pop(name) for name in ("device", "precision", "push_to_hub")}
        use_threads(num_threads)
        return {"backbone": str(out), **pretrain(from_preset(preset, **options), out, **machine)}

    parser.add_argument("--out", type=Path, required=True, help="folder for the model; run again to continue")
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="small",
        help="settings to start from (default: small, whose are below)",
    )
    add_fields(parser, PretrainConfig, only_given=True)
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub as well")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    machine_flags(parser)
    finishing(parser, run, lines)


def _finetune(parser: argparse.ArgumentParser) -> None:
    from wikirl.recipes.settings import FinetuneConfig

    def run(out: Path, seeds: list[int] | None, num_threads: int | None, **options: Any) -> Result:
        from wikirl.experiments.many_runs import finetune_seeds
        from wikirl.recipes.finetune import finetune

        machine = {name: options.pop(name) for name in ("device", "precision")}
        config = FinetuneConfig(**options)
        if seeds is not None:
            return {"runs": finetune_seeds(config, out, seeds, num_threads=num_threads, **machine)}
        use_threads(num_threads)
        return {
            "run": str(out),
            **finetune(config, out, **machine),
        }

    def show(result: Result) -> str:
        if "runs" in result:
            return "\n\n".join(show(run) for run in result["runs"])
        return run_lines(result)

    parser.add_argument("--out", type=Path, required=True, help="run folder; run again to continue")
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="several runs at once, in OUT/seed-N each, in place of --seed"
    )
    add_fields(parser, FinetuneConfig)
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    machine_flags(parser)
    finishing(parser, run, show)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    def run(**options: Any) -> Result:
        from wikirl.recipes.evaluate import evaluate_run

        use_threads(options.pop("num_threads"))
        return evaluate_run(**options)

    def show(result: Result) -> str:
        if "evaluations" not in result:
            return lines(result)
        return table(
            [
                {key: value for key, value in entry.items() if key not in ("returns", "lengths", "protocol")}
                for entry in result["evaluations"]
            ]
        )

    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder that finetune or baseline left")
    parser.add_argument("--environment", help="Gymnasium id (default: the run's own)")
    parser.add_argument(
        "--target-return",
        type=float,
        nargs="+",
        dest="target_returns",
        metavar="R",
        help="returns to ask for (default: the run's)",
    )
    parser.add_argument(
        "--episodes",
        type=int,
        default=100,
        dest="num_episodes",
        metavar="N",
        help="episodes per target (default: 100)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes (default: 0)")
    parser.add_argument(
        "--reference",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="returns that a normalised score puts at 0 and 100 (default: the run's, the published, or the data's own)",
    )
    parser.add_argument(
        "--cached",
        action="store_true",
        help="keep keys and values between steps: faster, another policy once the window is full",
    )
    choosing = parser.add_mutually_exclusive_group()
    for way, text in (("greedy", "take the likeliest"), ("sampled", "draw one with the model's probabilities")):
        choosing.add_argument(
            f"--{way}",
            action="store_const",
            const=way,
            dest="action_selection",
            help=f"of discrete actions, {text} (default: as the run says)",
        )
    parser.add_argument(
        "--num-processes", type=int, metavar="N", help="processes that share the episodes (default: as many as help)"
    )
    machine_flags(parser)
    finishing(parser, run, show)


if __name__ == "__main__":
    sys.exit(main())
