"""The verdict of a study: one word that it allows, and the sentences that say what the word rests on.

`helps` and `hurts` need two paired 95 % intervals that leave out 0: the stratified bootstrap's, and Student's, because
the bootstrap's is too narrow for few seeds. Everything else is `no difference shown`, which is not the same as no
difference. This file knows what may be said. It deliberately computes no interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wikirl.reports.report_words import listed, num_seeds, signed, span
from wikirl.reports.study_scores import LAST_FEW, PRIMARY_RULE, Comparison, Outcome, RuleStudy, Scores, compare
from wikirl.reports.suite_file import Task

Word = Literal["helps", "no difference shown", "hurts", "cannot be said"]
_WORDS: dict[Outcome, Word] = {
    "better": "helps", "worse": "hurts", "not shown": "no difference shown", "one seed": "cannot be said",
}  # fmt: skip
_BY_CHANCE = 20  # of so many 95 % intervals one leaves out 0 though there is nothing


@dataclass(frozen=True)
class Verdict:
    """What a study allows to be said of its primary arm.

    Attributes:
        word: The answer.
        sentence: On which data, at which budget, with how many seeds, and the interval.
        details: What else a reader must know before quoting it, a sentence each.
        comparisons: What it rests on: one, or one per task where tasks cannot be put together.
        best_control: The primary arm against the best of the arms that are compared with the same reference.
    """

    word: Word
    sentence: str
    details: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    best_control: Comparison | None


def reach_verdict(scores: Scores, study: RuleStudy) -> Verdict:
    """The verdict on the primary pair under the primary rule."""
    arm, against = scores.results.primary
    found = compare(scores, PRIMARY_RULE, arm, against)
    if not found:
        sentence = (
            f"{arm} and {against} have no finished run of the same seed on the same task, so nothing can be said."
        )
        return Verdict("cannot be said", sentence, (), (), None)
    together = [comparison for comparison in found if len(comparison.tasks) > 1]
    basis = together or found
    words = {_WORDS[comparison.outcome] for comparison in basis}
    word: Word = words.pop() if len(words) == 1 else "cannot be said"
    control = _best_control(scores, study, basis)
    details = [*_doubts(scores, basis), *_control_words(scores, study, control), *_chance(study)]
    return Verdict(word, _sentence(scores, word, basis), tuple(details), tuple(basis), control)


def _sentence(scores: Scores, word: Word, basis: Sequence[Comparison]) -> str:
    results, budget = scores.results, scores.results.budget
    arm, against = results.primary
    says = {
        "helps": f"{arm} scores higher than {against}",
        "hurts": f"{arm} scores lower than {against}",
        "no difference shown": f"No difference between {arm} and {against} is shown",
        "cannot be said": f"Whether {arm} differs from {against} cannot be said",
    }[word]
    if basis[0].outcome == "one seed":
        says += " from one seed"
    elif word == "cannot be said":
        says += " for all tasks at once"
    numbers = "; ".join(_number(scores, comparison, len(basis) > 1) for comparison in basis)
    runs = [run for run in results.runs if run.arm == arm]
    steps = sorted({run.num_steps for run in runs})
    trained = " or ".join(f"{count:,}" for count in steps)
    seeds = sorted({len(comparison.seeds) for comparison in basis})
    counted = num_seeds(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    data = _described(_tasks(scores, basis))
    few = min(LAST_FEW, *(len(run.scores) for run in runs))
    return (
        f"{says}: {numbers}. On {data}, after {trained} updates of {budget.batch_size} windows, with {counted} an arm, "
        f"scored as the mean of the last {few} checkpoints."
    )


def _number(scores: Scores, comparison: Comparison, named: bool) -> str:
    unit = "points" if scores.scales[comparison.tasks[0]] == "normalized" else "units of return"
    where = f"{comparison.tasks[0]} " if named else ""
    return f"{where}{signed(comparison.difference.value)} {unit}, {_intervals(comparison)}"


def _intervals(comparison: Comparison) -> str:
    if not comparison.difference.is_bounded:
        return "no interval"
    return f"95 % interval {span(comparison.difference)} (by Student's t {span(comparison.student)})"


def _doubts(scores: Scores, basis: Sequence[Comparison]) -> list[str]:
    doubts = []
    for comparison in basis:
        where = f" on {comparison.tasks[0]}" if len(basis) > 1 else ""
        inner, outer = comparison.difference, comparison.student
        if not inner.is_bounded:
            doubts.append(f"One seed{where} gives no interval: runs differ by seed alone, and by how much is unknown.")
            continue
        doubts.append(
            f"With {num_seeds(len(comparison.seeds))} of this spread, a true gap of {comparison.detectable or 0:.1f} "
            f"would have been shown with 80 % power{where}; a smaller one would more often have been missed."
        )
        if inner.contains(0.0) != outer.contains(0.0):
            doubts.append(
                f"The two intervals disagree about 0{where}, so no difference counts as shown: the bootstrap's is too "
                "narrow for few seeds, Student's is not."
            )
    left_out = [task for task in scores.tasks if not any(task in comparison.tasks for comparison in basis)]
    if left_out:
        doubts.append(f"Without {listed(left_out)}, where the two share no seed.")
    if scores.apart is not None:
        doubts.append(f"Tasks are not put together: {scores.apart}.")
    return doubts


def _best_control(scores: Scores, study: RuleStudy, basis: Sequence[Comparison]) -> Comparison | None:
    """Against the arm of the highest mean among the controls on the same tasks; None where there is none."""
    arm = scores.results.primary[0]
    if len(basis) > 1:
        return None
    others = [one.arm for one in _controls(study, scores) if one.tasks == basis[0].tasks and one.arm != arm]
    if not others:
        return None
    ranked = {one.arm: one.difference.value for one in study.comparisons if one.tasks == basis[0].tasks}
    best = max(others, key=lambda name: ranked[name])
    return next((one for one in compare(scores, PRIMARY_RULE, arm, best) if one.tasks == basis[0].tasks), None)


def _controls(study: RuleStudy, scores: Scores) -> list[Comparison]:
    """Comparisons of the arms that are said to be controls; if none is, of all that have the same reference."""
    said = {arm.name for arm in scores.results.arms if arm.control}
    against = scores.results.primary[1]
    return [one for one in study.comparisons if one.against == against and (one.arm in said or not said)]


def _control_words(scores: Scores, study: RuleStudy, control: Comparison | None) -> list[str]:
    if control is None:
        return []
    count = len({one.arm for one in _controls(study, scores)} - {control.arm})
    said = any(arm.control for arm in scores.results.arms)
    kind = "content-free control" if said else "other arm compared with the same reference"
    named = f"the only {kind} ({control.against})"
    if count > 1:
        named = (
            f"the best of {count} {kind.replace('control', 'controls').replace(' arm', ' arms')} ({control.against})"
        )
    shown = {
        "better": f"{control.arm} beats {named} as well",
        "worse": f"{control.arm} scores lower than {named}",
        "not shown": f"That {control.arm} beats {named} is not shown",
        "one seed": f"Whether {control.arm} beats {named} cannot be said from one seed",
    }[control.outcome]
    chosen = " The best of several was picked by these very scores, which flatters it." if count > 1 else ""
    return [f"{shown}: {signed(control.difference.value)}, {_intervals(control)}.{chosen}"]


def _chance(study: RuleStudy) -> list[str]:
    """How many comparisons are on the page, and how many of them chance alone would make."""
    count = len(study.comparisons)
    if count < 2:
        return []
    return [
        f"{count} comparisons stand on this page, and no interval is widened for that: if no arm differed from its "
        f"reference, about {count / _BY_CHANCE:.1f} of them would leave out 0 by chance. The primary pair is named "
        "by the suite, not picked from its results."
    ]


def _tasks(scores: Scores, basis: Sequence[Comparison]) -> list[Task]:
    names = {name for comparison in basis for name in comparison.tasks}
    return [task for task in scores.results.tasks if task.name in names]


def _described(tasks: Sequence[Task]) -> str:
    """Tasks with their notes, one note for all of them where it is the same."""
    notes = {task.note for task in tasks}
    if len(notes) == 1 and (note := notes.pop()):
        return f"{listed([task.name for task in tasks])} ({note})"
    return listed([f"{task.name} ({task.note})" if task.note else task.name for task in tasks])
