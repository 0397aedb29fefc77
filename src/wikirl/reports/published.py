"""Scores that others published for the same tasks, each with its source and how sure we are of it.

They stand beside ours and enter no statistic: other data, other simulators, other protocols. This file knows numbers
and where they were read. It deliberately compares nothing.
"""

from dataclasses import dataclass
from typing import Literal

# As in docs/differences.md: read in a primary source; read in a text that quotes it; recalled, with this confidence.
Mark = Literal["V", "V2", "R-med", "R-low"]
_WORDS: dict[Mark, str] = {
    "V": "read in the source",
    "V2": "read in a text that quotes it",
    "R-med": "recalled, not confirmed",
    "R-low": "recalled with little confidence, not confirmed",
}


@dataclass(frozen=True)
class Source:
    """Where published numbers stand.

    Attributes:
        name: Paper or repository.
        protocol: Data and rule for the checkpoint, as far as known.
        mark: How sure we are.
    """

    name: str
    protocol: str
    mark: Mark

    @property
    def words(self) -> str:
        """Source, protocol and certainty in one line."""
        return f"{self.name}; {self.protocol}; {_WORDS[self.mark]}"


@dataclass(frozen=True)
class PublishedScore:
    """A normalised score with its deviation, if one was published."""

    value: float
    deviation: float | None
    source: Source

    def __str__(self) -> str:
        """As a table shows it; what is recalled has a question mark."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.1f}"
        return f"{self.value:.1f}{spread}{'?' if self.source.mark.startswith('R') else ''}"


_REID = "Reid, Yamada and Gu 2022 (Wiki-RL)"
_REID_PROTOCOL = "D4RL v2, best of 40 checkpoints, 3 seeds"
_REID_RECALLED = Source(_REID, _REID_PROTOCOL, "R-med")
_REID_QUOTED = Source(f"{_REID}, quoted by Takagi 2022", _REID_PROTOCOL, "V2")
_REID_ATARI = Source(_REID, "1 % DQN-replay, gamer-normalised", "R-med")
_CHEN = Source("Chen et al. 2021 (Decision Transformer), quoted", "D4RL v2, last checkpoint, 3 seeds", "V2")
_CHEN_OTHERS = Source("Chen et al. 2021, quoted", "baselines as that paper gives them, CQL on D4RL v0", "V2")
_CHEN_ATARI = Source("Chen et al. 2021, quoted", "1 % DQN-replay, gamer-normalised, 3 seeds", "V2")
_CORL = Source("CORL's README", "D4RL v2, last checkpoint, 4 seeds", "V")
_WANG_DT = Source("Wang et al. 2024 (synthetic pre-training)", "D4RL v2, mean of the last four, 20 seeds", "R-med")
_WANG = Source("Wang et al. 2024 (synthetic pre-training)", "D4RL v2, mean of the last four, 20 seeds", "R-low")

_Row = tuple[float, float | None] | float | None


def published_scores(task: str, name: str | None) -> tuple[PublishedScore, ...]:
    """What is published of an arm on a task, the paper's own first; nothing where nothing is known.

    Args:
        task: As in `hopper-medium`.
        name: The arm's name in tables, as in `ChibiT`; None for an arm that no table has.
    """
    return _SCORES.get((task, name), ()) if name is not None else ()


def _table(source: Source, columns: str, rows: dict[str, tuple[_Row, ...]]) -> list[tuple[str, str, PublishedScore]]:
    entries = []
    for task, cells in rows.items():
        for name, cell in zip(columns.split(), cells, strict=True):
            if cell is not None:
                value, deviation = cell if isinstance(cell, tuple) else (cell, None)
                entries.append((task, name.replace("_", " "), PublishedScore(value, deviation, source)))
    return entries


# Takagi quotes GPT-2 and Image GPT on the medium datasets only; the rest of the paper's table is recalled.
_ENTRIES = [
    *_table(_REID_QUOTED, "GPT-2 Image_GPT", {
        "hopper-medium": ((79.1, 1.1), (5.7, 1.5)),
        "halfcheetah-medium": ((42.8, 0.1), (1.5, 0.1)),
        "walker2d-medium": ((78.3, 1.5), (0.4, 0.4)),
    }),
    *_table(_REID_RECALLED, "ChibiT GPT-2", {
        "halfcheetah-medium-expert": ((91.7, 1.1), (91.8, 0.5)),
        "hopper-medium-expert": ((110.0, 1.2), (110.9, 1.6)),
        "walker2d-medium-expert": ((108.4, 0.2), (108.9, 0.3)),
        "halfcheetah-medium": ((43.3, 0.1), None),
        "hopper-medium": ((82.1, 4.6), None),
        "walker2d-medium": ((77.8, 0.2), None),
        "halfcheetah-medium-replay": ((39.7, 0.5), (40.3, 2.3)),
        "hopper-medium-replay": ((81.3, 5.2), (94.4, 2.5)),
        "walker2d-medium-replay": ((71.3, 2.0), (72.7, 1.2)),
    }),
    *_table(_CHEN, "DT", {
        "halfcheetah-medium-expert": ((86.8, 1.3),), "hopper-medium-expert": ((107.6, 1.8),),
        "walker2d-medium-expert": ((108.1, 0.2),), "reacher2d-medium-expert": ((89.1, 1.3),),
        "halfcheetah-medium": ((42.6, 0.1),), "hopper-medium": ((67.6, 1.0),),
        "walker2d-medium": ((74.0, 1.4),), "reacher2d-medium": ((51.2, 3.4),),
        "halfcheetah-medium-replay": ((36.6, 0.8),), "hopper-medium-replay": ((82.7, 7.0),),
        "walker2d-medium-replay": ((66.6, 3.0),), "reacher2d-medium-replay": ((18.0, 2.4),),
    }),
    *_table(_CORL, "DT 10%BC BC CQL IQL TD3+BC", {
        "halfcheetah-medium": ((42.20, 0.26), 42.46, 42.40, 47.04, 48.31, 48.10),
        "halfcheetah-medium-replay": ((38.91, 0.50), 23.59, 35.66, 45.04, 44.46, 44.84),
        "halfcheetah-medium-expert": ((91.55, 0.95), 90.10, 55.95, 95.63, 94.74, 90.78),
        "hopper-medium": ((65.10, 1.61), 55.48, 53.51, 59.08, 67.53, 60.37),
        "hopper-medium-replay": ((81.77, 6.87), 70.42, 29.81, 95.11, 97.43, 64.42),
        "hopper-medium-expert": ((110.44, 0.33), 111.16, 52.30, 99.26, 107.42, 101.17),
        "walker2d-medium": ((67.63, 2.54), 67.34, 63.23, 80.75, 80.91, 82.71),
        "walker2d-medium-replay": ((59.86, 2.73), 54.35, 21.80, 73.09, 82.15, 85.62),
        "walker2d-medium-expert": ((107.11, 0.96), 108.70, 98.96, 109.56, 111.72, 110.03),
    }),
    *_table(_CHEN_OTHERS, "CQL BC", {
        "halfcheetah-medium-expert": (62.4, 59.9), "hopper-medium-expert": (111.0, 79.6),
        "walker2d-medium-expert": (98.7, 36.6), "reacher2d-medium-expert": (30.6, 73.3),
        "halfcheetah-medium": (44.4, 43.1), "hopper-medium": (58.0, 63.9),
        "walker2d-medium": (79.2, 77.3), "reacher2d-medium": (26.0, 48.9),
        "halfcheetah-medium-replay": (46.2, 4.3), "hopper-medium-replay": (48.6, 27.6),
        "walker2d-medium-replay": (26.7, 36.9), "reacher2d-medium-replay": (19.0, 5.4),
    }),
    *_table(_WANG_DT, "DT", {
        "halfcheetah-medium-expert": (44.9,), "hopper-medium-expert": (81.0,), "walker2d-medium-expert": (105.0,),
        "ant-medium-expert": (107.0,), "halfcheetah-medium": (42.4,), "hopper-medium": (58.2,),
        "walker2d-medium": (70.4,), "ant-medium": (89.0,), "halfcheetah-medium-replay": (37.5,),
        "hopper-medium-replay": (46.7,), "walker2d-medium-replay": (49.2,),
    }),
    *_table(_WANG, "ChibiT Synthetic", {
        "halfcheetah-medium-expert": (43.9, 49.5), "hopper-medium-expert": (94.0, 99.6),
        "walker2d-medium-expert": (102.7, 107.4), "ant-medium-expert": (113.9, 117.9),
        "halfcheetah-medium": (42.6, 42.5), "hopper-medium": (58.4, 60.2), "walker2d-medium": (70.8, 71.5),
        "ant-medium": (88.5, 87.8), "halfcheetah-medium-replay": (39.1, 39.3),
        "hopper-medium-replay": (51.4, 61.8), "walker2d-medium-replay": (55.2, 56.8),
    }),
    *_table(_REID_ATARI, "ChibiT GPT-2", {
        "breakout": ((280.3, 63.6), (287.8, 78.7)), "qbert": ((22.5, 12.8), (22.5, 13.8)),
        "pong": ((107.7, 8.2), (111.0, 5.7)), "seaquest": ((2.9, 0.3), (3.0, 0.2)),
    }),
    *_table(_CHEN_ATARI, "DT CQL BC", {
        "breakout": ((267.5, 97.5), 211.1, (138.9, 61.7)), "qbert": ((15.4, 11.4), 104.2, (17.3, 14.7)),
        "pong": ((106.1, 8.1), 111.9, (85.2, 20.0)), "seaquest": ((2.5, 0.4), 1.7, (2.1, 0.3)),
    }),
]  # fmt: skip

_SCORES: dict[tuple[str, str | None], tuple[PublishedScore, ...]] = {}
for _task, _name, _score in _ENTRIES:
    _SCORES[_task, _name] = (*_SCORES.get((_task, _name), ()), _score)
