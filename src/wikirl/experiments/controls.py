"""The suites that the paper lacks: what of a gain is left when language, order, content or weights are taken away.

Every rung of the ladder has ChibiT's architecture and trains as its neighbours do; only the starting weights differ.
docs/controls.md says what each keeps and destroys.
"""

from typing import Any

from wikirl.experiments.suite import ArmPlan, BudgetName, Suite
from wikirl.experiments.suite_file import Budget
from wikirl.experiments.tasks import shipped

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
