"""The card that lies beside a collected family: who played, how well, with which versions, and how to do it again."""

import re
import shlex
from typing import Any


def data_card(card: dict[str, Any]) -> str:
    """The card in Markdown; `card` is what `collect` returns."""
    reference, provenance = card["reference"], card["provenance"]
    lines = [
        f"# {card['name']}: trajectories of {_plain(card['environment'])}",
        "",
        "| dataset | steps | episodes | return mean ± deviation (min … max) | from random to expert | made by |",
        "|---|---|---|---|---|---|",
        *(_row(kind, figures, reference) for kind, figures in card["datasets"].items()),
        "",
        *(f"**Warning**: {warning}.\n" for warning in card["warnings"]),
        f"Behaviour: {card['behaviour']}, seed {card['seed']}. Actions are as the policy draws them when it explores. "
        f"Episodes end after {card['max_episode_steps']} steps or in a terminal state; the last of each dataset is cut "
        "to its number of steps.",
        "",
        f"Reference of normalised scores: {reference['minimum']:.3f} (random) and {reference['maximum']:.3f} (expert); "
        f"{reference['source']}.",
        "",
        f"Made with {', '.join(f'{package} {version}' for package, version in card['versions'].items())} in "
        f"{card['minutes']} minutes of the last call ({_plain(provenance['machine']['processor'])}):",
        "",
        f"    wikirl {shlex.join(provenance['command'][1:])}",
        "",
    ]
    if card["scores"]:
        lines += ["Score of the behaviour policy while it trained:", "", "| steps | mean return |", "|---|---|"]
        lines += [f"| {steps:,} | {score:.1f} |" for steps, score in card["scores"]] + [""]
    return "\n".join(lines)


def _row(kind: str, figures: dict[str, Any], reference: dict[str, Any]) -> str:
    span = reference["maximum"] - reference["minimum"]
    share = f"{100 * (figures['return_mean'] - reference['minimum']) / span:.0f} %" if span else "–"
    spread = (
        f"{figures['return_mean']:.1f} ± {figures['return_std']:.1f} "
        f"({figures['return_min']:.1f} … {figures['return_max']:.1f})"
    )
    numbers = f"{figures['num_steps']:,} | {figures['num_episodes']:,}"
    return f"| {kind} | {numbers} | {spread} | {share} | {_plain(figures['policy'])} |"


def _plain(text: str) -> str:
    """Text that cannot break out of a table or a heading."""
    return re.sub(r"[|`<>\n]", " ", text)
