"""Suites by name: the paper's, those it lacks, and anybody's own from a Python file that defines SUITE.

This file knows where suites are and how a user bends one: other seeds are `plan`'s business, more starting points and a
text to go on modelling are added here.
"""

import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wikirl.errors import ConfigError
from wikirl.experiments.controls import CONTROL_SUITES
from wikirl.experiments.paper import PAPER_SUITES
from wikirl.experiments.suite import Suite

SUITES = {suite.name: suite for suite in (*CONTROL_SUITES, *PAPER_SUITES)}


def find_suite(name: str) -> Suite:
    """A suite by its name, or the SUITE of a Python file, which is run to get it.

    Raises:
        ConfigError: there is no such suite, or the file defines none.
    """
    if name in SUITES:
        return SUITES[name]
    if not name.endswith(".py"):
        raise ConfigError(
            f"expected a suite of {', '.join(SUITES)}, or a Python file that defines SUITE; found {name!r}"
        )
    if not Path(name).is_file():
        raise ConfigError(f"expected a Python file that defines SUITE at {name}; found none")
    suite = runpy.run_path(name).get("SUITE")
    if not isinstance(suite, Suite):
        raise ConfigError(f"expected {name} to define SUITE, a wikirl.experiments.suite.Suite; found {suite!r}")
    return suite


def with_backbones(suite: Suite, backbones: Sequence[str]) -> Suite:
    """The suite with more starting points, trained as its primary arm and compared with the same arm.

    Raises:
        ConfigError: its primary arm has no starting point.
    """
    primary = next((arm for arm in suite.arms if arm.name == suite.primary[0]), None)
    if primary is None or primary.backbone is None or primary.unavailable:
        raise ConfigError(f"expected a suite of starting points to add {', '.join(backbones)} to; {suite.name} is none")
    added = [
        replace(
            primary, name=name, description=f"as {primary.name}, from {name}", published=None, control=None,
            settings={**primary.settings, "backbone": name},
        )
        for name in backbones
    ]  # fmt: skip
    return replace(suite, arms=(*suite.arms, *added))


def with_corpus(suite: Suite, corpus: str) -> Suite:
    """The suite with a text for its arm that goes on modelling one.

    Raises:
        ConfigError: it has no such arm.
    """
    if not any(arm.name == "co-training" for arm in suite.arms):
        raise ConfigError(f"expected a suite with co-training to use --corpus in; {suite.name} has none")
    arms = [
        replace(arm, unavailable=None, settings={**arm.settings, "cotraining_corpus": corpus})
        if arm.name == "co-training" else arm
        for arm in suite.arms
    ]  # fmt: skip
    return replace(suite, arms=tuple(arms))
