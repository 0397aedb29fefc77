"""The demo's report: one HTML page with curves, policies in motion, what was run and what it cannot show.

This file knows the summary that `demo` makes and how to draw an episode. It deliberately computes no score.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wikirl import charts, pages
from wikirl.charts import Chart, Series
from wikirl.evaluation.recording import record_episode
from wikirl.evaluation.rendering import filmstrip, render_recording, to_gif, to_png
from wikirl.experiments.demo_summary import protocol_line, score_caption, score_rows
from wikirl.models.backbone import backbone_folder
from wikirl.models.bundle import load_policy
from wikirl.pages import Html
from wikirl.reports.report_words import num_seeds
from wikirl.runs import read_json

Json = Mapping[str, Any]

_SIZE = 240  # pixels
_MOST_FRAMES = 80  # two films of that size stay under 2 MB
_STRIP = 8  # as many as `pages.film` has room for
_SHORTEST_FRAME = 0.03  # seconds; browsers slow down what is faster
_METHODS = {
    "egl": "rendered by MuJoCo through EGL",
    "osmesa": "rendered by MuJoCo through OSMesa",
    "joints": "drawn from the joint positions, without a renderer",
}


@dataclass(frozen=True)
class DrawnEpisode:
    """The first scored episode of a final policy, in pictures.

    Attributes:
        film: Animated GIF at about the true speed.
        strip: Eight PNG files from the first moment to the last.
        method: How they were made: `egl`, `osmesa` or `joints`.
        note: Why better methods did not work.
        total_return: Its return, in environment units.
        num_steps: Its length.
        seconds: Simulated time.
    """

    film: bytes
    strip: tuple[bytes, ...]
    method: str
    note: str
    total_return: float
    num_steps: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All but the pictures."""
        names = ("method", "note", "total_return", "num_steps", "seconds")
        return {name: getattr(self, name) for name in names}


def draw_episode(folder: Path, environment: str) -> DrawnEpisode:
    """Play and draw episode 0 of the evaluation with the policy that a run left behind.

    Raises:
        WikiRLError: the policy cannot be read or does not fit the environment.
    """
    seed = read_json(folder / "config.json")["evaluation_seed"]
    recording = record_episode(load_policy(folder / "policy"), environment, seed=seed)
    num_steps = len(recording.rewards)
    slow = min(math.ceil(_SHORTEST_FRAME / recording.dt), num_steps // _STRIP)  # short ones still fill a strip
    every = max(slow, math.ceil(num_steps / _MOST_FRAMES))
    rendered = render_recording(recording.qpos, environment, size=_SIZE, every=every)
    return DrawnEpisode(
        film=to_gif(rendered.frames, every * recording.dt),
        strip=tuple(to_png(frame) for frame in filmstrip(rendered.frames, _STRIP)),
        method=rendered.method,
        note=rendered.note,
        total_return=recording.total_return,
        num_steps=num_steps,
        seconds=num_steps * recording.dt,
    )


def score_chart_png(summary: Json) -> bytes:
    """Score against updates for both arms, for a README."""
    return charts.png_line_chart(_score_chart(summary))


def report(summary: Json, episodes: Mapping[str, DrawnEpisode]) -> str:
    """The whole page."""
    one, other = summary["arms"]
    return pages.page(
        f"wikirl demo: {one} against {other} on {summary['protocol']['environment_id']}",
        _opening(summary),
        pages.section("Curves", _charts(summary)),
        pages.section("What the policies do", _films(summary, episodes)),
        pages.section("What so small a run can and cannot show", _limits(summary)),
        pages.section("What was run", _settings(summary)),
        pages.section("Data", _data(summary["data"])),
        pages.section("Starting weights", _weights(summary)),
        pages.section("Run it again", _commands(summary)),
    )


def _opening(summary: Json) -> Html:
    data, arms = summary["data"], summary["arms"]
    one, other = arms
    introduction = pages.paragraph(
        f"Two copies of a small sequence model learnt to act from {data['num_steps']:,} logged steps ",
        f"({data['num_episodes']:,} episodes of ", pages.code_word(data["name"]), "), ",
        f"starting from different weights: {one} and {other}. Everything else is the same: ",
        "architecture, data, batches, updates, and how they are scored.",
    )  # fmt: skip
    verdict = pages.paragraph(pages.strong("Verdict. "), summary["verdict"])
    protocol = pages.paragraph(pages.quiet(protocol_line(summary["protocol"])))
    scores = pages.table(score_rows(arms, data), score_caption(arms))
    return pages.join([introduction, scores, pages.note(verdict), protocol])


def _charts(summary: Json) -> Html:
    runs = next(iter(summary["arms"].values()))["runs"]
    lines = "" if len(runs) == 1 else f"Lines: means over {num_seeds(len(runs))}; shades: from lowest to highest."
    score = charts.line_chart(_score_chart(summary))
    title = "Training loss against updates"
    loss = charts.line_chart(Chart(title, "updates", "squared action error", _curves(summary, "loss")))
    episodes, size = summary["protocol"]["num_episodes"], runs[0]["loss"]["num_steps_averaged"]
    return pages.side_by_side(
        pages.figure(score, f"Score: mean return of {episodes} episodes in the simulator. {lines}"),
        pages.figure(
            loss,
            f"Training loss, averaged over every {size} updates. {lines} "
            "A lower loss is a closer copy of the data, not a better policy.",
        ),
    )


def _curves(summary: Json, kind: str) -> list[Series]:
    curves = []
    for name, arm in summary["arms"].items():
        curve, several = arm[kind], len(arm["runs"]) > 1
        low, high = (curve["low"], curve["high"]) if several else (None, None)
        curves.append(Series(name, curve["step"], curve["mean"], low, high))
    return curves


def _score_chart(summary: Json) -> Chart:
    return Chart(
        title=f"Score in {summary['protocol']['environment_id']} against updates",
        x_label="updates",
        y_label="normalised score (100: expert)",
        series=_curves(summary, "score"),
        references={"data's mean": summary["data"]["normalized_mean"]},
    )


def _films(summary: Json, episodes: Mapping[str, DrawnEpisode]) -> Html:
    drawn = next(iter(episodes.values()))
    why = f" Other methods did not work here: {drawn.note}." if drawn.note else ""
    parts = [
        pages.paragraph(
            "The final policy of each arm plays the first of the episodes it was scored on: moving, and in ",
            "eight pictures from start to end. The first seed is shown, whatever it came to. ",
            f"Pictures are {_METHODS[drawn.method]}.{why}",
        )
    ]
    for arm, episode in episodes.items():
        moving = pages.image(episode.film, "image/gif", f"{arm}: the episode as an animation")
        stills = [
            pages.image(png, "image/png", f"{arm}: picture {number} of {len(episode.strip)}")
            for number, png in enumerate(episode.strip, 1)
        ]
        seed = summary["arms"][arm]["runs"][0]["seed"]
        length = f"{episode.num_steps} steps ({episode.seconds:.1f} s)"
        caption = f"{arm}, seed {seed}: return {episode.total_return:.0f} in {length}."
        parts.append(pages.figure(pages.film(moving, stills), caption))
    return pages.join(parts)


def _limits(summary: Json) -> Html:
    seeds = num_seeds(len(summary["settings"]["seeds"]))
    return pages.bullets(
        "It shows that the road works from end to end on this machine, and that "
        f"{summary['settings']['num_steps']:,} updates are enough to act at all.",
        "It does not show that pre-training on text helps, nor that it does not. With "
        f"{seeds} per arm, a difference between arms cannot be told from one between seeds, whatever its "
        "size; studies use five to ten seeds or more, and confidence intervals.",
        "Single checkpoints of one run swing by tens of points, so the last one says little. The best one "
        "says less: it was picked by the very scores it reports, and is too high for that reason alone.",
        "The budget is about a hundredth of what is usual. What shows only early, or only late, in training "
        "would look different there.",
        "One task, one data set, one small model. Scores are normalised with returns measured on older "
        "versions of the task: a unit of measurement, good within this page, not beside published tables.",
        "Both arms see the same batches for the same seed, and all are scored from the same starting states, "
        "so that chance plays less of a part; it still plays one.",
    )


def _settings(summary: Json) -> Html:
    settings, arms, provenance = summary["settings"], summary["arms"], summary["provenance"]
    run = next(iter(arms.values()))["runs"][0]
    shape, machine, git = run["architecture"], provenance["machine"], provenance["git"]
    seconds = sum(run["seconds"] for arm in arms.values() for run in arm["runs"])
    versions = provenance["versions"]
    heads = "1 head" if shape["num_heads"] == 1 else f"{shape['num_heads']} heads"
    figures = {
        "recipe": "fair: every starting point trains alike",
        "updates": f"{settings['num_steps']:,} of {settings['batch_size']} windows each",
        "learning rate": f"{settings['learning_rate']:g} after warm-up over a tenth of the updates",
        "seeds": ", ".join(map(str, settings["seeds"])),
        "scored": f"every {run['evaluations'][0]['step']} updates, {settings['eval_episodes']} episodes",
        "model": f"{shape['num_layers']} layers of width {shape['hidden_size']}, {heads}",
        "parameters": f"{run['num_parameters']:,}, in {run['precision']}",
        "runs at a time": f"{settings['num_parallel']}, with {settings['num_threads']} CPU thread(s) each",
        "time": f"this call {summary['wall_seconds']:.0f} s; all runs together {seconds:.0f} s",
        "machine": f"{machine['processor']}, {machine['num_cpus']} CPUs, CUDA: {machine['cuda'] or 'none'}",
        "system": machine["system"],
        "made": provenance["created"],
        "git commit": f"{git['commit'][:12]}{', changed' if git['dirty'] else ''}" if git else "none",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
    }
    return pages.facts(figures)


def _data(data: Json) -> Html:
    middle = f"{data['return_mean']:.0f} ± {data['return_std']:.0f}, median {data['return_median']:.0f}"
    figures = {
        "name": data["name"],
        "made in": data["environment"] or "unknown",
        "size": f"{data['num_steps']:,} steps in {data['num_episodes']:,} episodes",
        "return of an episode": middle,
        "from … to": f"{data['return_min']:.0f} … {data['return_max']:.0f}",
        "normalised": f"mean {data['normalized_mean']:.1f}, best {data['normalized_max']:.1f}",
        "length of an episode": f"{data['length_mean']:.0f} steps on average, {data['length_max']} at most",
        "ended by failing": f"{data['terminated_fraction']:.0%}",
        "fingerprint": data["fingerprint"],
        **{name.replace("_", " "): value for name, value in data["details"].items()},
    }
    return pages.facts(figures)


def _weights(summary: Json) -> Html:
    parts = []
    for (name, arm), backbone in zip(summary["arms"].items(), summary["settings"]["backbones"], strict=True):
        fingerprint = arm["runs"][0]["backbone_fingerprint"]
        card = backbone_folder(backbone) / "README.md"
        if backbone == "scratch":
            origin = "drawn at random from the run's seed; for the first seed they have fingerprint "
        else:
            origin = "the same for every seed; fingerprint "
        parts.append(pages.paragraph(pages.strong(name), f": {origin}", pages.code_word(fingerprint), "."))
        if card.is_file():
            parts.append(pages.code(card.read_text(errors="replace").strip()))
    return pages.join(parts)


def _commands(summary: Json) -> Html:
    names = [run["run"] for arm in summary["arms"].values() for run in arm["runs"]]
    return pages.join(
        [
            pages.paragraph("The demo is these commands, and this page is made from what they leave behind."),
            *(pages.code(command) for command in summary["commands"]),
            pages.paragraph("Run folders: ", pages.join([pages.link(f"{name}/", name) for name in names], ", "), "."),
            pages.paragraph("Every number of this page: ", pages.link("summary.json"), "."),
        ]
    )
