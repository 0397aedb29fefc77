"""Return histograms of collected families, for docs/results/families.md.

    python benchmarks/families.py CARD.json [CARD.json …] --out PICTURE.png

One row a family, one histogram a dataset, from the datasets that the cards name.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from wikirl.trajectories.sources import load_trajectories

COLOUR = "#2f6690"


def draw(cards: list[Path], picture: Path) -> None:
    """One panel a dataset, all of a family on one axis of returns."""
    families = [json.loads(card.read_text()) for card in cards]
    columns = max(len(family["datasets"]) for family in families)
    size = (2.3 * columns, 1.9 * len(families))
    figure, rows = plt.subplots(len(families), columns, figsize=size, squeeze=False, layout="constrained")
    for family, axes in zip(families, rows, strict=True):
        returns = {kind: load_trajectories(entry["minari"]).returns for kind, entry in family["datasets"].items()}
        every = np.concatenate(list(returns.values()))
        bins = np.linspace(every.min(), every.max(), 31)
        for axis in axes[len(returns) :]:
            axis.set_visible(False)
        for axis, (kind, values) in zip(axes, returns.items(), strict=False):
            axis.hist(values, bins=bins, weights=np.full(len(values), 100 / len(values)), color=COLOUR)
            axis.axvline(float(values.mean()), color="#d1603d", linewidth=1.2)
            axis.set_title(f"{family['name']}-{kind}", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("% of episodes", fontsize=8)
        axes[0].set_xlabel("return", fontsize=8)
    figure.savefig(picture, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description="Return histograms of collected families.")
    parser.add_argument("cards", nargs="+", type=Path, metavar="CARD")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw(options.cards, options.out)


if __name__ == "__main__":
    main()
