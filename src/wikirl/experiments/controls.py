"""The suites that the paper lacks: what of a gain is left when language, order, content or weights are taken away.

Every rung of the ladder has ChibiT's architecture and trains as its neighbours do; only the starting weights differ.
docs/controls.md says what each keeps and destroys.
"""

from typing import Any

from wikirl.experiments.suite import ArmPlan, BudgetName, Suite
from wikirl.experiments.tasks import maze, shipped, varied
from wikirl.reports.suite_file import Budget

# The backbones that compare with each other: 28.7 M tokens each, in as many updates (docs/results/backbones.md).
_BASE = "chibit-28m"
_SEEDS = (0, 1, 2, 3, 4)
BUDGETS: dict[BudgetName, Budget] = {
    "smoke": Budget("smoke", 40, 16, 1e-3, 4, 4, (0, 1)),
    # Rates ten times the usual for runs a hundred times shorter than usual, as in the demo.
    "small": Budget("small", 1000, 16, 1e-3, 8, 10, _SEEDS),
    "full": Budget("full", 100_000, 64, 1e-4, 40, 100, tuple(range(10))),
}
_LADDER = (
    ("chibit-28m", "ChibiT after 28.7 M tokens of Wikipedia text", {"backbone": _BASE}),
    ("shuffled", "as ChibiT, on the same words in shuffled order", {"backbone": "chibit-shuffled"}),
    ("markov", "as ChibiT, on a Markov chain of 100 states", {"backbone": "chibit-markov"}),
    ("iid", "as ChibiT, on states drawn at random: nothing to learn", {"backbone": "chibit-iid"}),
    ("permuted", "ChibiT's weights, each tensor's entries permuted", {"backbone": f"permuted:{_BASE}"}),
    ("moments", "normal weights, mean and deviation as in ChibiT's tensors", {"backbone": f"moments:{_BASE}"}),
)  # fmt: skip


def _ladder(suffix: str, settings: dict[str, Any]) -> tuple[ArmPlan, ...]:
    """All rungs under the same settings, down to random weights of the same architecture."""
    scratch = f"scratch{suffix}"
    rungs = [
        ArmPlan(
            f"{name}{suffix}", f"{text}{', with the tricks' if suffix else ''}", {**start, **settings}, scratch,
            published="ChibiT" if name == _BASE else None, control=name != _BASE if not suffix else None,
        )
        for name, text, start in _LADDER
    ]  # fmt: skip
    fresh = {"backbone": "scratch", "architecture": _BASE, **settings}
    words = "random weights in ChibiT's architecture"
    return (
        *rungs,
        ArmPlan(scratch, f"{words}, with the tricks" if suffix else words, fresh, "scratch" if suffix else None),
    )


CONTROLS = Suite(
    name="controls",
    question="Does a start from Wikipedia text help, and if so, is it the language?",
    primary=(_BASE, "scratch"),
    tasks=(shipped("hopper-medium"), shipped("hopper-medium-replay")),
    arms=(*_ladder("", {}), *_ladder(" + tricks", {"recipe": "paper"})),
    budgets=BUDGETS,
)


def _pair(suffix: str, words: str, settings: dict[str, Any]) -> tuple[ArmPlan, ArmPlan]:
    """ChibiT and random weights of its architecture under the same settings."""
    return (
        ArmPlan(f"chibit{suffix}", f"ChibiT{words}", {"backbone": "chibit", **settings}, f"scratch{suffix}"),
        ArmPlan(f"scratch{suffix}", f"random weights{words}", {"architecture": "chibit", **settings}),
    )


_BEST_TENTH = ArmPlan(
    "10%BC",
    "behaviour cloning of the best tenth",
    {"algorithm": "bc", "top_fraction": 0.1},
    "scratch",
    "baseline",
    "10%BC",
)
RELEASED_VERSUS_PAPER = Suite(
    name="released-versus-paper",
    question="Does the paper's alignment, a true cosine, do what the released code's does not?",
    primary=("paper's alignment", "no alignment"),
    tasks=CONTROLS.tasks,
    arms=(
        ArmPlan("paper's alignment", "ChibiT, recipe paper", {"backbone": "chibit", "recipe": "paper"}, "no alignment"),
        ArmPlan(
            "released alignment", "ChibiT, recipe paper, alignment as released",
            {"backbone": "chibit", "recipe": "paper", "alignment": "released"}, "no alignment",
        ),
        ArmPlan(
            "released recipe", "ChibiT, all as released", {"backbone": "chibit", "recipe": "released"}, "no alignment"
        ),
        ArmPlan("no alignment", "ChibiT, recipe paper", {"backbone": "chibit", "recipe": "paper", "alignment": "none"}),
    ),
    budgets=BUDGETS,
)  # fmt: skip
LOW_DATA = Suite(
    name="low-data",
    question="Does a pre-trained start need less data?",
    primary=("chibit", "scratch"),
    tasks=tuple(
        varied(shipped("hopper-medium-replay"), f"{share:.1%} of the episodes", {"data_fraction": share})
        for share in (1.0, 0.1, 0.01, 0.005)
    ),
    arms=(
        *_pair("", "", {}),
        _BEST_TENTH,
    ),
    budgets=BUDGETS,
)  # fmt: skip
NO_CONTEXT = Suite(
    name="no-context",
    question="Is what a pre-trained start brings a way of using context?",
    primary=("chibit, K = 1", "scratch, K = 1"),
    tasks=CONTROLS.tasks,
    arms=(
        *_pair(", K = 1", ", windows of one step", {"context_length": 1}),
        *_pair(", K = 20", ", windows of 20 steps", {"context_length": 20}),
    ),
    budgets=BUDGETS,
)
LONG_HORIZON = Suite(
    name="long-horizon",
    question="Does pre-trained attention hurt where the past matters for long?",
    primary=("chibit", "scratch"),
    tasks=(
        maze("medium"),
        maze("expert"),
        varied(shipped("hopper-medium-replay"), "reward at the end", {"delayed_reward": True}),
    ),
    arms=(
        *_pair("", "", {}),
        _BEST_TENTH,
    ),
    budgets=BUDGETS,
)  # fmt: skip
CONTROL_SUITES = (CONTROLS, RELEASED_VERSUS_PAPER, LOW_DATA, NO_CONTEXT, LONG_HORIZON)
