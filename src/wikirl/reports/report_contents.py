"""What a report says, from the verdict to the commands, in the order of the page.

This file knows the order and the sentences between. Tables, pictures and provenance come from files of their own.
"""

from wikirl.reports import report_charts, report_tables
from wikirl.reports.document import (
    Answer,
    Commands,
    Document,
    FileLink,
    Grid,
    Heading,
    Items,
    Pairs,
    Part,
    Section,
    Words,
)
from wikirl.reports.report_charts import TOGETHER
from wikirl.reports.report_origins import commands_of, origin_facts, unlike
from wikirl.reports.study import Analysis


def report_document(analysis: Analysis) -> Document:
    """The whole report."""
    results = analysis.results
    sections = [
        ("Scores", _scores),
        ("Differences", _differences),
        ("Learning curves", _curves),
        ("Performance profiles", _profiles),
        ("How soon", _convergence),
        ("Which checkpoint", _rules),
        ("What is missing", _missing),
        ("How every number was made", _protocol),
        ("What was run", _origin),
        ("Run it again", _commands),
    ]
    filled = [(title, make(analysis)) for title, make in sections]
    return Document(
        f"{results.suite}: {results.question}",
        _opening(analysis),
        [Section(title, parts) for title, parts in filled if parts],
    )


def _opening(analysis: Analysis) -> list[Part]:
    verdict, results = analysis.verdict, analysis.results
    parts: list[Part] = [Answer(verdict.word, verdict.sentence, verdict.details)]
    if results.missing:
        total = len(results.runs) + len(results.missing)
        parts.append(
            Words(f"Not finished: {len(results.missing)} of {total} runs are missing; all of this may change.")
        )
    if (picture := report_charts.forest_picture(analysis)) is not None:
        parts.append(picture)
    return [*parts, Items([f"{arm.name}: {arm.description}" for arm in results.arms], "What the arms are")]


def _groups(analysis: Analysis) -> list[str | None]:
    """All tasks together, where they can be, and each task."""
    together: list[str | None] = [None] if len(analysis.scores.tasks) > 1 and analysis.scores.apart is None else []
    return [*together, *analysis.scores.tasks]


def _title(analysis: Analysis, task: str | None) -> str:
    if task is None:
        return f"{TOGETHER.capitalize()}, each weighing the same"
    unit = "normalised score" if analysis.scores.scales[task] == "normalized" else "return, environment units"
    return f"{task} ({unit})"


def _scores(analysis: Analysis) -> list[Part]:
    notes = report_tables.Notes()
    parts: list[Part] = [Words(
        "Mean of the last four checkpoints. ± is the deviation over seeds. IQM is the mean of the middle half of all "
        "runs; its interval, as all in square brackets here, is a stratified bootstrap over seeds."
    )]  # fmt: skip
    if len(analysis.scores.tasks) > 1:
        parts.append(Grid(report_tables.overview_rows(analysis), "Mean ± deviation, every arm and task"))
    for task in _groups(analysis):
        if rows := report_tables.score_rows(analysis, task, notes):
            parts.append(Grid(rows, _title(analysis, task)))
    if notes.texts:
        parts += [Words(_remark(analysis)), Items([f"[{k}] {text}" for k, text in enumerate(notes.texts, 1)])]
    return parts


def _remark(analysis: Analysis) -> str:
    remark = "Published numbers stand here to be looked at, not to be compared: they enter no statistic. "
    own = [task.name for task in analysis.results.tasks if not task.dataset.startswith("d4rl:")]
    if own:
        remark += (
            f"They come from D4RL's own v2 data and another protocol; {', '.join(own)} "
            f"{'is' if len(own) == 1 else 'are'} other data of that name. "
        )
    return remark + "A question mark: recalled, not confirmed."


def _differences(analysis: Analysis) -> list[Part]:
    tables: list[Part] = []
    for task in _groups(analysis):
        if rows := report_tables.difference_rows(analysis, task):
            tables.append(Grid(rows, _title(analysis, task)))
    if not tables:
        return []
    partial = report_tables.some_tasks_only(analysis)
    return [
        Words(
            "Arm minus reference, paired: the same seed means the same batches, new layers and episodes. Only seeds "
            "that both arms have are used; the column says which. Effect size: mean difference over the deviation of "
            "differences, with Hedges' correction. The last column is the true gap that so many pairs of such spread "
            "would have shown with 80 % power."
        ),
        *tables,
        *([Items(partial)] if partial else []),
    ]


def _curves(analysis: Analysis) -> list[Part]:
    parts: list[Part] = []
    for task in analysis.scores.tasks:
        parts += [Heading(task), report_charts.curve_picture(analysis, task)]
    return parts


def _profiles(analysis: Analysis) -> list[Part]:
    picture = report_charts.profile_picture(analysis)
    if picture is None:
        return [Words(f"None: {analysis.scores.apart}.")] if analysis.scores.apart else []
    return [picture]


def _convergence(analysis: Analysis) -> list[Part]:
    share = f"{100 * analysis.threshold_share:g} %"
    parts: list[Part] = [Words(
        f"Updates until an arm first scores {share} of its reference's final mean, a threshold fixed before the arm is "
        "looked at. Runs that never do are censored, not left out: medians are Kaplan and Meier's, ratios are of means "
        "up to the end of training (restricted means), with bootstrap intervals. Above 1 the arm is faster. The second "
        "line adds all of pre-training, as if it served this one run: tokens in updates of three tokens a timestep, "
        "seconds as its card gives them. The last column is the rule of the paper's follow-up, the first evaluation "
        "within 2 points of the run's own best: a run that learns nothing is soon there."
    )]  # fmt: skip
    for task in analysis.scores.tasks:
        if rows := report_tables.convergence_rows(analysis, task):
            parts.append(Grid(rows, _title(analysis, task)))
    parts += [Words(f"No threshold on {one.task}: {one.reason}.") for one in analysis.no_threshold]
    return [*parts, *_costs(analysis)]


def _costs(analysis: Analysis) -> list[Part]:
    costs = [
        f"{arm.name}: {cost.num_tokens:,} tokens in {cost.seconds:,.0f} s ({cost.source})"
        for arm in analysis.results.arms
        if (cost := arm.pretraining)
    ]
    return [Items(costs, "What pre-training cost")] if costs else []


def _rules(analysis: Analysis) -> list[Part]:
    parts: list[Part] = [Words(
        "The same runs under three rules. The best checkpoint was chosen by the very scores it reports, so it is too "
        "high for that reason alone; it stands here because papers print it, and nothing rests on it."
    )]  # fmt: skip
    return parts + [
        Grid(rows, _title(analysis, task))
        for task in _groups(analysis)
        if (rows := report_tables.rule_rows(analysis, task))
    ]


def _missing(analysis: Analysis) -> list[Part]:
    results, parts = analysis.results, list[Part]()
    if results.skipped:
        parts.append(Words("Skipped, and why:"))
        parts.append(Items([f"{one.arm} on {one.task or 'all tasks'}: {one.reason}" for one in results.skipped]))
    if results.missing:
        title = f"Runs without scores: {len(results.missing)}"
        parts.append(Items([f"{run.name} ({run.arm}, seed {run.seed}): {run.state}" for run in results.missing], title))
    return parts


def _protocol(analysis: Analysis) -> list[Part]:
    shared, rest = report_tables.protocol_values(analysis)
    parts: list[Part] = [Words("All runs of a task share this; a report refuses others."), Pairs(shared)]
    for task, values in rest.items():
        if values:
            parts += [Heading(task), Pairs(values)]
    warnings = sorted({f"{run.arm}: {text}" for run in analysis.results.runs for text in run.warnings})
    return [*parts, *([Items(warnings)] if warnings else [])]


def _origin(analysis: Analysis) -> list[Part]:
    differing = unlike(analysis.results)
    said: list[Part] = (
        [Words("Not all runs were made alike:"), Items(differing)]
        if differing
        else [Words("All runs share precision, versions, machine and budget.")]
    )
    return [Pairs(origin_facts(analysis.results)), *said]


def _commands(analysis: Analysis) -> list[Part]:
    folded: list[Part] = [Commands(task, commands_of(analysis.results, task)) for task in analysis.scores.tasks]
    return [
        *folded,
        FileLink("Every score that this page is made from, with the commands of all runs:", "results.json"),
        FileLink("Every number that was computed from them:", "analysis.json"),
    ]
