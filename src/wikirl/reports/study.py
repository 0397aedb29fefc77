"""From a study's results to everything that a report shows of them.

All of it is a pure function of the results, random numbers included: each interval draws from a generator of its own
name, so that another arm in the study moves no interval.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wikirl.errors import ConfigError
from wikirl.evaluation.protocol import CheckpointRule
from wikirl.reports.results import StudyResults
from wikirl.reports.study_convergence import Convergence, NoThreshold, study_convergence
from wikirl.reports.study_curves import Curve, Profile, study_curves, study_profiles
from wikirl.reports.study_scores import PRIMARY_RULE, RULES, RuleStudy, Scores, study_rule
from wikirl.reports.verdict import Verdict, reach_verdict

THRESHOLD_SHARE = 0.9  # of the reference's final mean; the paper's follow-up takes the same


@dataclass(frozen=True)
class Analysis:
    """What a study came to.

    Attributes:
        scores: Its tables, and the results behind them.
        rules: Levels and comparisons under each rule for choosing the checkpoint.
        curves: Learning curves.
        profiles: Performance profiles; empty where tasks cannot be put together.
        convergence: How soon each arm reaches the threshold.
        no_threshold: Tasks on which there is none.
        threshold_share: Of the reference arm's final mean.
        verdict: What it allows to be said.
    """

    scores: Scores
    rules: dict[CheckpointRule, RuleStudy]
    curves: tuple[Curve, ...]
    profiles: tuple[Profile, ...]
    convergence: tuple[Convergence, ...]
    no_threshold: tuple[NoThreshold, ...]
    threshold_share: float
    verdict: Verdict

    @property
    def results(self) -> StudyResults:
        """What it is all made from."""
        return self.scores.results

    @property
    def primary(self) -> RuleStudy:
        """Under the rule that the verdict uses."""
        return self.rules[PRIMARY_RULE]

    def to_json(self) -> dict[str, Any]:
        """Every number of the report; an end that is not bounded is null."""
        names = ("curves", "profiles", "convergence", "no_threshold", "threshold_share", "verdict")
        rules = {rule: asdict(study) for rule, study in self.rules.items()}
        value: dict[str, Any] = _bounded({
            "scales": self.scores.scales,
            "why_not_together": self.scores.apart,
            "rules": rules,
            **{name: _plain(getattr(self, name)) for name in names},
        })  # fmt: skip
        return value


def analyse(results: StudyResults, threshold_share: float = THRESHOLD_SHARE) -> Analysis:
    """Everything that is computed from results.

    Raises:
        ConfigError: no run is finished, or a share that is none.
    """
    if not 0 < threshold_share <= 1:
        raise ConfigError(f"expected a threshold share above 0 and up to 1; found {threshold_share:g}; 0.9 is usual")
    if not results.runs:
        raise ConfigError(
            f"expected a finished run in {results.suite}; found none of {len(results.missing)}; run it first"
        )
    scores = Scores(results)
    rules = {rule: study_rule(scores, rule) for rule in RULES}
    convergence, no_threshold = study_convergence(scores, threshold_share)
    return Analysis(
        scores, rules, tuple(study_curves(scores)), tuple(study_profiles(scores)), tuple(convergence),
        tuple(no_threshold), threshold_share, reach_verdict(scores, rules[PRIMARY_RULE]),
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _bounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
