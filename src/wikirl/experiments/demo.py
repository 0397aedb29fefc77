"""`wikirl demo`: the whole road on shipped data, from scratch and from ChibiT, with an honest report.

Both arms have the same budget, seeds, architecture and recipe; only the starting weights differ. Read `demo`
first: `many_runs` makes the runs, `demo_summary` reads them, `demo_page` shows them.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wikirl.errors import ConfigError, RunError
from wikirl.evaluation.references import reference_for
from wikirl.experiments.demo_page import draw_episode, report, score_chart_png
from wikirl.experiments.demo_summary import summarize_demo
from wikirl.experiments.many_runs import RunPlan, make_runs
from wikirl.models.backbone import load_backbone, weights_fingerprint
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import available_cpus
from wikirl.runs import read_json, write_bytes, write_json
from wikirl.trajectories.sources import load_trajectories


@dataclass(frozen=True)
class DemoSettings:
    """The budget; on two CPU cores it takes about five minutes, seven without bfloat16.

    Attributes:
        dataset: What both arms learn from.
        environment: Where they are scored; it needs reference scores.
        backbones: The two starting points; `scratch` gets the architecture of the other.
        seeds: Training seeds, the same for each arm.
        num_steps: Updates of each run.
        batch_size: Windows a step.
        learning_rate: Ten times the usual one, because the run is a hundred times shorter than usual.
        target_return: The return asked for; one that the data contain.
        num_evaluations: Scores in the course of a run.
        eval_episodes: Episodes a score.
    """

    dataset: str = "builtin:hopper-medium-replay"
    environment: str = "Hopper-v5"
    backbones: tuple[str, str] = ("scratch", "chibit")
    seeds: tuple[int, ...] = (0, 1)
    num_steps: int = 720
    batch_size: int = 64
    learning_rate: float = 1e-3
    target_return: float = 2800.0
    num_evaluations: int = 6
    eval_episodes: int = 10

    def plans(self, out: Path) -> list[RunPlan]:
        """All runs, those of one seed next to each other."""
        return [
            RunPlan(Path(backbone).name, self._config(backbone, seed), out / f"{Path(backbone).name}-seed-{seed}")
            for seed in self.seeds
            for backbone in self.backbones
        ]

    def _config(self, backbone: str, seed: int) -> FinetuneConfig:
        others = [name for name in self.backbones if name != "scratch"]
        return FinetuneConfig(
            dataset=self.dataset,
            environment=self.environment,
            backbone=backbone,
            architecture=others[0],
            seed=seed,
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            target_returns=(self.target_return,),
            eval_every=max(self.num_steps // self.num_evaluations, 1),
            eval_episodes=self.eval_episodes,
        )


def demo(out: Path, *, settings: DemoSettings = DemoSettings(), num_threads: int | None = None) -> dict[str, Any]:
    """Make or finish the runs, and leave `report.html`, `summary.json` and `curves.png` in `out`.

    Args:
        out: Folder for runs and report; a demo that was stopped there goes on.
        settings: What to run.
        num_threads: CPU threads for each run; default 1. As many runs as the cores allow go on at a time.

    Returns:
        The content of `summary.json`.

    Raises:
        WikiRLError: settings or folder that cannot work; the message says which.
    """
    started = time.monotonic()
    _check(settings)
    dataset = load_trajectories(settings.dataset)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"expected a folder for the demo at {out}; found: {error}; choose another --out") from error
    num_threads = max(num_threads or 1, 1)
    num_parallel = max(available_cpus() // num_threads, 1)
    plans = settings.plans(out)
    unfinished = [plan for plan in plans if not _is_finished(plan, dataset.fingerprint)]
    make_runs(unfinished, num_parallel=num_parallel, num_threads=num_threads)

    # The first seed, whatever it came to: chosen before there was anything to choose.
    with _threads(num_threads):
        first = plans[: len(settings.backbones)]
        episodes = {plan.arm: draw_episode(plan.folder, settings.environment) for plan in first}
    summary = {
        **summarize_demo(plans, dataset, settings.environment),
        "settings": asdict(settings) | {"num_threads": num_threads, "num_parallel": num_parallel},
        "commands": [plan.shell_command(num_threads) for plan in plans],
        "rendering": {arm: episode.to_json() for arm, episode in episodes.items()},
        "provenance": read_json(plans[0].folder / "provenance.json"),
        "report": str(out / "report.html"),
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    summary["table"] += f"\nReport: {summary['report']}"
    write_bytes(out / "curves.png", score_chart_png(summary))
    write_bytes(out / "report.html", report(summary, episodes).encode())
    write_json(out / "summary.json", summary)
    return summary


def _check(settings: DemoSettings) -> None:
    if len({Path(backbone).name for backbone in settings.backbones}) != 2:
        raise ConfigError(f"expected two starting points of different names; found {settings.backbones}")
    if not settings.seeds or settings.num_evaluations < 1:
        found = f"{settings.seeds} and {settings.num_evaluations}"
        raise ConfigError(f"expected at least one seed and one evaluation; found {found}")
    if reference_for(settings.environment) is None:
        raise ConfigError(
            f"expected an environment with reference scores, like Hopper-v5; found {settings.environment!r}"
        )


def _is_finished(plan: RunPlan, dataset_fingerprint: str) -> bool:
    """Whether a run folder is complete and made from what is asked for; if not, `finetune` has the say."""
    if not (plan.folder / "scores.json").exists():
        return False
    asked = {name: value for name, value in asdict(plan.config).items() if value is not None}
    asked["dataset_fingerprint"] = dataset_fingerprint
    assert isinstance(plan.config, FinetuneConfig)  # the demo has no other arms
    if plan.config.backbone != "scratch":
        asked["backbone_fingerprint"] = weights_fingerprint(load_backbone(plan.config.backbone, plan.config.seed))
    found = read_json(plan.folder / "config.json")
    return all(found.get(name) == value for name, value in json.loads(json.dumps(asked)).items())


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    """As many threads as the runs had: one is faster than several for a single environment."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
