"""The paper's own tables as suites, with the starting points, tasks and baselines that it compares.

Pre-trained starts get the paper's tricks and random weights do not, as in the paper; each suite also has random weights
in the same architecture, with and without the tricks, because the paper's comparison changes three things at once
(facts.md Q13). Source: Reid, Yamada and Gu 2022; what of its tables is not established is said in facts.md 6.
"""

from dataclasses import replace
from typing import Any

from wikirl.experiments.suite import ArmPlan, BudgetName, Suite
from wikirl.experiments.tasks import PAPER_TASKS, locomotion, varied
from wikirl.reports.suite_file import Budget

_THREE_SEEDS = (0, 1, 2)
BUDGETS: dict[BudgetName, Budget] = {
    "smoke": Budget("smoke", 20, 16, 1e-3, 4, 2, (0, 1)),
    "small": Budget("small", 2000, 16, 1e-3, 8, 10, (0, 1, 2, 3, 4)),
    "full": Budget("full", 100_000, 64, 1e-4, 40, 100, tuple(range(10))),
}
_SMOKE: dict[BudgetName, tuple[str, ...]] = {"smoke": ("hopper-medium", "reacher2d-medium")}
_TRICKS: dict[str, Any] = {"recipe": "paper"}
_HOPPER = locomotion("hopper", "medium"), locomotion("hopper", "medium-replay")

DT = ArmPlan("DT", "Decision Transformer as published: random weights", {"architecture": "dt"}, published="DT")
CHIBIT = ArmPlan("ChibiT", "ChibiT with the tricks", {"backbone": "chibit", **_TRICKS}, "DT", published="ChibiT")
GPT2 = ArmPlan("GPT-2", "GPT-2 small with the tricks", {"backbone": "gpt2", **_TRICKS}, "DT", published="GPT-2")
IMAGE_GPT = ArmPlan(
    "Image GPT", "Image GPT small with the tricks", {"backbone": "openai/imagegpt-small", **_TRICKS}, "DT",
    published="Image GPT",
)  # fmt: skip
CLIP = ArmPlan(
    "CLIP", "CLIP's text encoder with the tricks", {"backbone": "openai/clip-vit-base-patch32", **_TRICKS}, "DT",
    published="CLIP",
)  # fmt: skip


def _matched(name: str, backbone: str, settings: dict[str, Any], words: str) -> ArmPlan:
    return ArmPlan(name, words, {"backbone": "scratch", "architecture": backbone, **settings}, "DT")


_MATCHED = (
    _matched("scratch as ChibiT", "chibit", {}, "random weights in ChibiT's architecture"),
    _matched("scratch as ChibiT + tricks", "chibit", _TRICKS, "random weights in ChibiT's shape, with the tricks"),
)  # fmt: skip


def _baseline(name: str, words: str, **settings: Any) -> ArmPlan:
    return ArmPlan(name, words, settings, "DT", "baseline", name)


BASELINES = (
    _baseline("BC", "behaviour cloning, a perceptron", algorithm="bc"),
    _baseline("10%BC", "behaviour cloning of the best tenth", algorithm="bc", top_fraction=0.1),
    _baseline("TD3+BC", "d3rlpy's TD3+BC", algorithm="td3+bc"),
    _baseline("CQL", "d3rlpy's conservative Q-learning", algorithm="cql"),
    _baseline("IQL", "d3rlpy's implicit Q-learning", algorithm="iql"),
)


def _suite(name: str, question: str, primary: tuple[str, str], **parts: Any) -> Suite:
    return Suite(name, question, primary, **({"budgets": BUDGETS} | parts))


PAPER_GYM = _suite(
    "paper-gym", "Do pre-trained starts score higher on the paper's control tasks?", ("ChibiT", "DT"),
    tasks=PAPER_TASKS, arms=(DT, CHIBIT, GPT2, IMAGE_GPT, CLIP, *_MATCHED, *BASELINES), tasks_of=_SMOKE,
)  # fmt: skip
PAPER_CONVERGENCE = _suite(
    "paper-convergence", "Do pre-trained starts learn three to six times faster?", ("ChibiT", "DT"),
    tasks=tuple(locomotion(name, "medium") for name in ("hopper", "halfcheetah", "walker2d")),
    arms=(DT, CHIBIT, GPT2, *_MATCHED), tasks_of={"smoke": ("hopper-medium",)},
)  # fmt: skip


def _without(name: str, words: str, **settings: Any) -> ArmPlan:
    return ArmPlan(name, words, {**CHIBIT.settings, **settings}, "ChibiT")


PAPER_ABLATION = _suite(
    "paper-ablation", "Which of the paper's tricks matter?", ("ChibiT", "DT"), tasks=_HOPPER,
    arms=(
        DT,
        CHIBIT,
        _without("no alignment", "ChibiT without the pull towards words", alignment="none"),
        _without("released alignment", "ChibiT with the released code's alignment", alignment="released"),
        replace(
            _without("co-training", "ChibiT that goes on modelling text"),
            unavailable="it needs --corpus TEXT, the text to go on modelling",
        ),
        _without("own positions", "ChibiT with a fresh timestep table", share_positions=False),
        _without("own projection", "ChibiT with a fresh action head", share_projection=False),
        _without("frozen", "ChibiT with frozen blocks", freeze="blocks"),
        _without("no tricks", "ChibiT trained as plainly as DT", recipe="fair"),
        _MATCHED[1],
    ),
)  # fmt: skip
_SIZES = {"ChibiT": "chibit", "GPT-2": "gpt2", "GPT-2 medium": "gpt2-medium"}
PAPER_SCALING = _suite(
    "paper-scaling", "Does the gain grow with the model, and with less data?", ("ChibiT", "scratch as ChibiT"),
    tasks=tuple(
        varied(locomotion("hopper", "medium"), f"{share:.0%} of the data", {"data_fraction": share})
        for share in (1.0, 0.1, 0.01)
    ),
    arms=tuple(
        arm
        for name, backbone in _SIZES.items()
        for arm in (
            ArmPlan(name, f"{name}, plain", {"backbone": backbone}, f"scratch as {name}"),
            ArmPlan(f"scratch as {name}", f"random weights, {name}", {"architecture": backbone}),
        )
    ),
)  # fmt: skip
PAPER_CONTEXT = _suite(
    "paper-context", "Does a longer context help, and a pre-trained start more so?",
    ("ChibiT, K = 20", "scratch, K = 20"),
    tasks=_HOPPER,
    arms=tuple(
        arm
        for steps in (1, 5, 20, 40)
        for arm in (
            ArmPlan(
                f"ChibiT, K = {steps}", f"ChibiT, windows of {steps}", {"backbone": "chibit", "context_length": steps},
                f"scratch, K = {steps}",
            ),
            ArmPlan(
                f"scratch, K = {steps}", f"random weights in ChibiT's architecture, windows of {steps}",
                {"architecture": "chibit", "context_length": steps},
            ),
        )
    ),
)  # fmt: skip
PAPER_PERPLEXITY = _suite(
    "paper-perplexity", "Does a better language model make a better start?", ("67 M tokens", "0 tokens"), tasks=_HOPPER,
    arms=(
        ArmPlan("0 tokens", "ChibiT's architecture before pre-training", {"architecture": "chibit"}),
        ArmPlan("28.7 M tokens", "101.7 held-out perplexity a token", {"backbone": "chibit-28m"}, "0 tokens"),
        ArmPlan("67 M tokens", "85.2 held-out perplexity a token", {"backbone": "chibit"}, "0 tokens"),
    ),
)  # fmt: skip
PAPER_ATARI = _suite(
    "paper-atari", "Do pre-trained starts score higher in games from pixels?", ("ChibiT", "DT"), tasks=(),
    arms=tuple(
        ArmPlan(name, f"{name} on games", {}, None if name == "DT" else "DT", unavailable="this version plays no games")
        for name in ("DT", "ChibiT", "GPT-2", "BC", "CQL")
    ),
)  # fmt: skip
PAPER_SUITES = (
    PAPER_GYM, PAPER_CONVERGENCE, PAPER_ABLATION, PAPER_SCALING, PAPER_CONTEXT, PAPER_PERPLEXITY, PAPER_ATARI,
)  # fmt: skip
