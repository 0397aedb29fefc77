"""The tables of a report as rows of text: scores, differences, rules side by side, convergence.

This file knows what stands in which column. It deliberately computes nothing and knows no markup.
"""

from wikirl.reports import report_words as words
from wikirl.reports.published import PublishedScore, published_scores
from wikirl.reports.report_words import NOTHING
from wikirl.reports.study import Analysis
from wikirl.reports.study_convergence import Convergence
from wikirl.reports.study_scores import RULES, Comparison, Level

Row = dict[str, str]
RULE_WORDS = {"mean_last_four": "mean of last four", "last": "last", "best": "best (chosen by score)"}


class Notes:
    """Sources of published numbers, numbered in the order in which tables name them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, score: PublishedScore) -> str:
        """The number with the number of its note."""
        text = score.source.words
        if text not in self.texts:
            self.texts.append(text)
        return f"{score} [{self.texts.index(text) + 1}]"


def overview_rows(analysis: Analysis) -> list[Row]:
    """Mean and deviation of every arm on every task."""
    tasks: list[str | None] = [*analysis.scores.tasks]
    if len(tasks) > 1 and analysis.scores.apart is None:
        tasks.append(None)
    return [
        {"arm": arm} | {task or "all tasks": _spread(analysis.primary.level(arm, task)) for task in tasks}
        for arm in analysis.scores.arms
    ]


def score_rows(analysis: Analysis, task: str | None, notes: Notes) -> list[Row]:
    """Scores of all arms on a task, or on all tasks together."""
    rows = []
    for arm in analysis.scores.arms:
        level = analysis.primary.level(arm, task)
        if level is None:
            continue
        row = {
            "arm": arm,
            "seeds": words.seeds(level.seeds),
            "mean ± deviation": _spread(level),
            "median": words.plain(level.median),
            "IQM [95 %]": words.estimate(level.iqm),
        }
        if task is not None and analysis.scores.scales[task] == "normalized":
            found = published_scores(task, analysis.results.arm(arm).published)
            row["published"] = "; ".join(notes.mark(score) for score in found) or NOTHING
        rows.append(row)
    if all(row.get("published") == NOTHING for row in rows):
        return [{name: cell for name, cell in row.items() if name != "published"} for row in rows]
    return rows


def _spread(level: Level | None) -> str:
    return NOTHING if level is None else words.spread(level.mean, level.deviation)


def difference_rows(analysis: Analysis, task: str | None) -> list[Row]:
    """Paired differences on a task, or on all together."""
    return [
        {
            "arm − reference": f"{one.arm} − {one.against}",
            "seeds": words.seeds(one.seeds),
            "difference [95 %, bootstrap]": words.difference(one.difference),
            "Student's 95 %": words.span(one.student),
            "effect size": NOTHING if one.effect_size is None else words.signed(one.effect_size),
            "P(arm is better) [95 %]": words.chance(one.improvement),
            "gap it could show": NOTHING if one.detectable is None else words.plain(one.detectable),
        }
        for one in _comparisons(analysis, task)
    ]


def _comparisons(analysis: Analysis, task: str | None) -> list[Comparison]:
    found = (analysis.primary.comparison(arm, task) for arm in analysis.scores.arms)
    return [one for one in found if one is not None]


def some_tasks_only(analysis: Analysis) -> list[str]:
    """Comparisons over several tasks that lack one of the study's."""
    total = len(analysis.scores.tasks)
    return [
        f"{one.arm} − {one.against} is over {len(one.tasks)} of {total} tasks only: {words.listed(one.tasks)}."
        for one in _comparisons(analysis, None)
        if len(one.tasks) < total
    ]


def rule_rows(analysis: Analysis, task: str | None) -> list[Row]:
    """Each arm's score and difference under the three rules for choosing the checkpoint."""
    rows = []
    for arm in analysis.scores.arms:
        if analysis.primary.level(arm, task) is None:
            continue
        row = {"arm": arm}
        for rule in RULES:
            row[RULE_WORDS[rule]] = _spread(analysis.rules[rule].level(arm, task))
        for rule in RULES:
            one = analysis.rules[rule].comparison(arm, task)
            row[f"difference, {RULE_WORDS[rule].split(' (')[0]}"] = (
                NOTHING if one is None else words.difference(one.difference)
            )
        rows.append(row)
    return rows


def convergence_rows(analysis: Analysis, task: str) -> list[Row]:
    """How soon each arm reached the threshold; a second line where pre-training has a price."""
    rows = []
    for one in analysis.convergence:
        if one.task != task:
            continue
        rows.append(_convergence_row(one))
        if one.steps_ratio_paid is not None:
            cost = f"{one.pretraining_steps:,.0f}" if one.pretraining_steps is not None else NOTHING
            rows.append({
                "arm": f"+ pre-training, {cost} updates",
                "threshold": "",
                "reached": "",
                "median updates": "",
                "times fewer updates [95 %]": words.factor(one.steps_ratio_paid),
                "times less time [95 %]": words.factor(one.seconds_ratio_paid),
                "updates to own best − 2": "",
            })  # fmt: skip
    return rows


def _convergence_row(one: Convergence) -> Row:
    return {
        "arm": one.arm,
        "threshold": words.plain(one.threshold),
        "reached": f"{one.num_reached} of {len(one.seeds)}",
        "median updates": "never by half" if one.median_steps is None else f"{one.median_steps:,.0f}",
        "times fewer updates [95 %]": words.factor(one.steps_ratio),
        "times less time [95 %]": words.factor(one.seconds_ratio),
        "updates to own best − 2": NOTHING if one.own_best_steps is None else f"{one.own_best_steps:,.0f}",
    }


def protocol_values(analysis: Analysis) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """How scores were made: what all tasks share, and the rest by task."""
    values = {task: _protocol(analysis, task) for task in analysis.scores.tasks}
    first = next(iter(values.values()))
    shared = {name: value for name, value in first.items() if all(one[name] == value for one in values.values())}
    rest = {task: {name: value for name, value in one.items() if name not in shared} for task, one in values.items()}
    return shared, rest


def _protocol(analysis: Analysis, task: str) -> dict[str, str]:
    runs = [run for run in analysis.results.runs if run.task == task]
    asked = [run.protocol for run in runs if run.protocol.target_return is not None]
    unasked = sorted({run.arm for run in runs if run.protocol.target_return is None})
    one = (asked or [runs[0].protocol])[0]
    target = NOTHING if one.target_return is None else f"{one.target_return:g}"
    return {
        "environment": one.environment_id,
        "simulator": f"Gymnasium {one.gymnasium}, MuJoCo {one.mujoco}",
        "target return": target + (f"; not asked for one: {words.listed(unasked)}" if unasked and asked else ""),
        "episodes a score": f"{one.num_episodes}, from seed {', '.join(map(str, one.seeds))}",
        "0 and 100 are": one.reference or "not known; raw returns",
        "data": f"{next(t.dataset for t in analysis.results.tasks if t.name == task)}, made in "
        f"{one.dataset_environment or 'an unknown environment'}",
        "fingerprint of the data": runs[0].dataset_fingerprint[:12],
        "rewards told": "at the end of an episode" if one.delayed_reward else "after every step",
        "actions": " ".join(filter(None, [one.action_selection, f"{one.acting} context"])),
        "warning": one.version_warning or "none",
        "note": next(t.note for t in analysis.results.tasks if t.name == task) or "none",
    }
