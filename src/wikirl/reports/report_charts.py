"""The pictures of a report: differences with their intervals, learning curves, profiles.

This file knows which numbers make which picture. It deliberately knows nothing of drawing (`wikirl.panels`).
"""

from collections.abc import Sequence

from wikirl.charts import Series
from wikirl.panels import Estimate, Forest, Panel, Panels
from wikirl.reports.document import Picture
from wikirl.reports.study import Analysis
from wikirl.reports.study_curves import Curve, Profile
from wikirl.reports.study_scores import Comparison

TOGETHER = "all tasks together"


def forest_picture(analysis: Analysis) -> Picture | None:
    """Every arm's difference to its reference, on each task and on all; None where nothing can be compared."""
    scores, study = analysis.scores, analysis.primary
    arms = list(dict.fromkeys(comparison.arm for comparison in study.comparisons))
    if not arms:
        return None
    than = analysis.results.primary[1]
    others = {arm: against for arm in arms if (against := _against(analysis, arm)) != than}
    labels = {arm: f"* {arm}" if arm in others else arm for arm in arms}
    columns: dict[str, list[Estimate | None]] = {}
    groups: list[str | None] = [*([None] if len(scores.tasks) > 1 and scores.apart is None else []), *scores.tasks]
    for task in groups:
        column = [_estimate(study.comparison(arm, task)) for arm in arms]
        if any(estimate is not None for estimate in column):
            columns[TOGETHER if task is None else task] = column
    shared = len(set(scores.scales.values())) == 1 and "return" not in scores.scales.values()
    unit = "points" if shared else "score"
    chart = Forest(
        title=f"Difference to {than}, with 95 % intervals",
        x_label=f"{unit} above {than}",
        rows=[labels[arm] for arm in arms],
        columns=columns,
        marked=[labels[analysis.results.primary[0]]] if analysis.results.primary[0] in labels else [],
        same_scale=shared,
    )
    exceptions = "".join(f" (* {arm} minus {against})" for arm, against in others.items())
    caption = (
        f"Mean of the last four checkpoints, arm minus {than}{exceptions}, paired by seed. Thick: 95 % interval by "
        "stratified bootstrap; thin: by Student's t, which few seeds do not make too narrow. A blue disc lies above 0, "
        "an orange square below it by both; a grey ring does not. Bold: what the verdict is about."
    )
    return Picture("verdict", chart, caption)


def _against(analysis: Analysis, arm: str) -> str:
    return analysis.results.arm(arm).against or arm


def _estimate(comparison: Comparison | None) -> Estimate | None:
    if comparison is None:
        return None
    inner, outer = comparison.difference, comparison.student
    ends = (outer.low, outer.high) if outer.is_bounded else None
    return Estimate(inner.value, inner.low, inner.high, ends)


def curve_picture(analysis: Analysis, task: str) -> Picture:
    """Learning curves of all arms on a task, each before its reference's."""
    curves = {curve.arm: curve for curve in analysis.curves if curve.task == task}
    panels = [
        Panel(_series(curve), _reference(analysis, curve, curves), arm == analysis.results.primary[0])
        for arm, curve in curves.items()
    ]
    normalized = analysis.scores.scales[task] == "normalized"
    unit = "normalised score" if normalized else "return"
    title = f"Learning curves on {task}"
    caption = (
        f"{task}: {unit} against updates; lines are means over seeds, shades 95 % bootstrap intervals of the mean at "
        "each evaluation. Grey and dashed: the arm's reference."
    )
    return Picture(f"curves-{_slug(task, analysis.scores.tasks)}", Panels(title, "updates", unit, panels), caption)


def _reference(analysis: Analysis, curve: Curve, curves: dict[str, Curve]) -> Series | None:
    against = analysis.results.arm(curve.arm).against
    return _series(curves[against]) if against in curves else None


def _series(curve: Curve) -> Series:
    return Series(curve.arm, curve.steps, curve.mean, curve.low, curve.high)


def profile_picture(analysis: Analysis) -> Picture | None:
    """Performance profiles of all arms; None where there is none."""
    profiles = {profile.arm: profile for profile in analysis.profiles}
    if not profiles:
        return None
    panels = []
    for arm, profile in profiles.items():
        against = analysis.results.arm(arm).against
        compared = _line(profiles[against]) if against in profiles else None
        panels.append(Panel(_line(profile), compared, arm == analysis.results.primary[0]))
    unit = "normalised score" if "return" not in analysis.scores.scales.values() else "return"
    caption = (
        f"Share of all runs of all tasks that score above what stands below the axis ({unit}, mean of the last four); "
        "shades are 95 % bootstrap bands, point by point. Grey and dashed: the arm's reference. Further to the "
        "upper right is better."
    )
    return Picture("profiles", Panels("Performance profiles", unit, "share of runs above", panels), caption)


def _line(profile: Profile) -> Series:
    return Series(profile.arm, profile.thresholds, profile.share, profile.low, profile.high)


def _slug(task: str, tasks: Sequence[str]) -> str:
    """A file name for a task, whatever its name; numbered, so that no two are the same."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in task).strip("-").lower()
    return f"{tasks.index(task) + 1}-{plain or 'task'}"
