"""Judgements on observations, actions and rewards, step by step.

Each check is a generator of findings; what it does not mention is sound. Thresholds carry their reason. This file
deliberately knows nothing of how episodes end (`episode_checks`).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.findings import Finding, number, percent, plural, some
from wikirl.trajectories.profile import ActionUse, Columns, Profile, equal_returns

_FEW_VALUES = 32  # distinct values of what may be choices


def value_findings(dataset: TrajectoryDataset, profile: Profile) -> Iterator[Finding]:
    """All that concerns single steps."""
    yield from _rewards(dataset, profile)
    if dataset.observations.ndim > 2:
        yield from _frames(dataset, profile)
    else:
        yield from _observations(dataset, profile.observations)
        yield from _extremes(profile)
        if profile.equal_observations:
            pairs = [f"{one} and {other}" for one, other in profile.equal_observations]
            yield Finding(
                "note", "observations", f"coordinates are equal at every step: {'; '.join(pairs[:4])}",
                "harmless, but one of them may have been meant to be another column",
            )  # fmt: skip
    if profile.choices is not None:
        yield from _choices(profile.choices)
    elif profile.action_use is not None:
        yield from _constant_actions(profile)
        yield from _bounds(dataset, profile.actions, profile.action_use)
        yield from _few_values(dataset, profile.actions, profile.action_use)


def _rewards(dataset: TrajectoryDataset, profile: Profile) -> Iterator[Finding]:
    if profile.nonzero_rewards == 0:
        return
    if profile.rewards.constant.all():
        if not equal_returns(dataset):
            yield Finding(
                "note", "rewards", f"every step earns {number(profile.rewards.low[0])}: returns only count steps",
                "right where lasting longer, or being done sooner, is the goal",
            )  # fmt: skip
    elif profile.only_last_rewards and dataset.lengths.max() > 1:
        yield Finding(
            "note", "rewards", "rewards come only with the last step of an episode",
            "nothing to mend: the return-to-go is then the same at all steps before",
        )  # fmt: skip
    elif profile.nonzero_rewards < 0.01:
        yield Finding(
            "note", "rewards", f"{percent(profile.nonzero_rewards)} of the steps earn a reward",
            "nothing to mend: returns-to-go spread it over the steps before",
        )  # fmt: skip


def _observations(dataset: TrajectoryDataset, columns: Columns) -> Iterator[Finding]:
    low, high, std = columns.low, columns.high, columns.std
    constant = columns.constant
    if constant.all():
        yield Finding(
            "warning", "observations", "no observation differs from any other",
            "name the columns that hold them; a policy needs something to react to",
        )  # fmt: skip
        return
    if constant.any():  # environments have such coordinates; in logs of one's own they are most often a wrong column
        yield Finding(
            "note" if dataset.environment else "warning", "observations",
            _coordinates(np.flatnonzero(constant), "never change"),
            "leave them out, unless the environment gives them; should one change when the policy acts, "
            "it is a huge input to the model",
        )  # fmt: skip
    changing = np.flatnonzero(~constant)
    size, spread = np.maximum(np.abs(low), np.abs(high))[changing], std[changing]
    # The model divides by the deviation plus 1e-6; at ten times that a tenth of the scale is lost.
    if (tiny := changing[spread < 1e-5]).size:
        yield Finding(
            "warning", "observations", _coordinates(tiny, "have a deviation below 0.00001"),
            "give them in a smaller unit, or leave them out",
        )  # fmt: skip
    # Fewer than a hundred float32 numbers within a deviation.
    if (coarse := changing[np.spacing(size.astype(np.float32)) > 0.01 * spread]).size:
        yield Finding(
            "warning", "observations", _coordinates(coarse, "lie so far from 0 that float32 rounds changes off"),
            "subtract a constant before writing the data, such as the first timestamp",
        )  # fmt: skip
    if spread.max() > 1e4 * spread.min():
        yield Finding(
            "note", "observations",
            f"deviations run from {number(spread.min())} (coordinate {changing[spread.argmin()]}) "
            f"to {number(spread.max())} (coordinate {changing[spread.argmax()]})",
            "nothing to mend: wikirl divides by them; other programs may not",
        )  # fmt: skip


def _extremes(profile: Profile) -> Iterator[Finding]:
    if profile.usual_observations is None:
        return
    (low, high), columns = profile.usual_observations, profile.observations
    beyond = np.maximum(columns.high - high, low - columns.low)
    # Simulators' own reach 5 such ranges; a marker such as -999 for a missing value does not.
    if (wild := np.flatnonzero((high > low) & (beyond > 100 * (high - low)))).size:
        yield Finding(
            "warning", "observations",
            _coordinates(wild, "reach more than a hundred times as far as nine in ten of their values"),
            "look for glitches, or for a number that stands for a missing value; to the model they are huge inputs",
        )  # fmt: skip


def _frames(dataset: TrajectoryDataset, profile: Profile) -> Iterator[Finding]:
    if profile.observations.constant.all():
        yield Finding("warning", "observations", "no frame differs from any other", "check how they were recorded")
    advice = (
        "write the frames without loss (in Minari jpeg_encoding=False); if all there is was compressed, ignore this"
    )
    if dataset.details.get("lossy_images"):
        yield Finding("warning", "pixels", "the frames were stored with loss, as JPEG", advice)
    elif profile.jpeg_quality is not None:
        yield Finding(
            "warning", "pixels",
            f"the frames carry the marks of JPEG, of quality {profile.jpeg_quality} or so; "
            "a policy will act on frames without them",
            advice,
        )  # fmt: skip


def _choices(counts: npt.NDArray[np.int64]) -> Iterator[Finding]:
    used, unused = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    share = float(counts.max() / counts.sum())
    if len(used) == 1:
        yield Finding(
            "error",
            "actions",
            f"every action is choice {used[0]}",
            "check the column of actions; there is nothing to learn",
        )
        return
    if unused.size:
        yield Finding(
            "note", "actions", f"choices of 0 to {len(counts) - 1:,} that were never taken: {some(unused.tolist())}",
            "right if the task has them and the behaviour avoids them; else number the choices without gaps",
        )  # fmt: skip
    if share > 0.95:  # a policy that ignores everything is then right in 19 of 20 steps
        yield Finding(
            "warning", "actions", f"choice {counts.argmax()} makes up {percent(share)} of all actions",
            "always taking it is hard to beat in action error; judge the policy by its return",
        )  # fmt: skip


def _constant_actions(profile: Profile) -> Iterator[Finding]:
    constant = profile.actions.constant
    if constant.all():
        yield Finding(
            "error",
            "actions",
            "no action differs from any other",
            "check the columns of actions; there is nothing to learn",
        )
    elif constant.any():
        yield Finding(
            "warning", "actions", _coordinates(np.flatnonzero(constant), "never change"),
            "leave them out, or check that the right columns were read",
        )  # fmt: skip


def _bounds(dataset: TrajectoryDataset, columns: Columns, use: ActionUse) -> Iterator[Finding]:
    low, high = use.low, use.high
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        if not columns.constant.all():
            yield Finding(
                "error", "actions", "the action space is unbounded, or a bound equals the opposite one",
                "give bounds when writing or importing the data, and leave out coordinates that never change",
            )  # fmt: skip
        return
    if use.outside > 0:
        over = np.maximum(columns.high - high, low - columns.low) / (high - low)
        yield Finding(
            "warning", "actions",
            f"{percent(use.outside)} of the steps hold an action outside its bounds, "
            f"by up to {percent(float(over.max()))} of the range (coordinate {over.argmax()})",
            "the policy cannot leave the bounds: clip the actions if the environment did, or widen the bounds",
        )  # fmt: skip
    changing = ~columns.constant
    # More than half of the steps at one or the other: the mean squared error then aims between the two.
    if (full := np.flatnonzero((use.at_low + use.at_high > 0.5) & (use.num_values > _FEW_VALUES))).size:
        yield Finding(
            "note", "actions", _coordinates(full, "are at a bound in more than half of the steps"),
            "the policy predicts a mean, which lies between two bounds; if they are choices, log them as integers",
        )  # fmt: skip
    used = (columns.high - columns.low) / (high - low)
    if (narrow := np.flatnonzero((used < 0.1) & changing)).size:  # errors are then a hundredth of what they look like
        yield Finding(
            "warning", "actions", _coordinates(narrow, "use less than a tenth of the range between their bounds"),
            "check that actions and bounds are in the same unit, or give narrower bounds",
        )  # fmt: skip
    extent = high - low
    if extent.max() > 10 * extent.min():
        yield Finding(
            "warning", "actions",
            f"ranges differ: {number(extent.max())} (coordinate {extent.argmax()}) "
            f"against {number(extent.min())} (coordinate {extent.argmin()})",
            "the action error has these units, so the widest counts most; bring them to one range, such as -1 to 1",
        )  # fmt: skip
    guessed = np.array_equal(low, columns.low) and np.array_equal(high, columns.high)
    if guessed and dataset.environment is None:
        yield Finding(
            "note", "actions", "the bounds are the smallest and largest actions seen",
            "if the true ones are wider, say so when writing or importing the data: the policy cannot go beyond",
        )  # fmt: skip


def _few_values(dataset: TrajectoryDataset, columns: Columns, use: ActionUse) -> Iterator[Finding]:
    few = (use.num_values <= _FEW_VALUES) & ~columns.constant & (dataset.num_steps >= 10 * use.num_values)
    if not few.any():
        return
    if len(few) == 1 and _whole(dataset.actions):
        yield Finding(
            "warning", "actions", f"actions are {plural(int(use.num_values[0]), 'whole number')}: choices, it seems",
            "log them as integers in one column, and they are treated as choices",
        )  # fmt: skip
        return
    yield Finding(
        "note", "actions", _coordinates(np.flatnonzero(few), f"take at most {use.num_values[few].max()} values"),
        "the policy predicts values in between too; if they are choices, log them as integers in one column",
    )  # fmt: skip


def _whole(actions: npt.NDArray[np.float32]) -> bool:
    some_actions = np.asarray(actions[:: max(len(actions) // 100_000, 1)])
    return bool((some_actions == np.round(some_actions)).all())


def _coordinates(indices: npt.NDArray[np.int64], what: str) -> str:
    return f"coordinates that {what}: {some(indices.tolist())}"
