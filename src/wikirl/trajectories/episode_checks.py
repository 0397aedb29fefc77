"""Judgements on episodes: how they end, how long they are, what they return, and whether there are enough of them.

Each check is a generator of findings; what it does not mention is sound. Thresholds carry their reason. This file
deliberately knows nothing of single observations or actions (`value_checks`).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.findings import Finding, number, percent, plural, some
from wikirl.trajectories.profile import Profile, equal_returns, near_best


def episode_findings(dataset: TrajectoryDataset, profile: Profile, context_length: int) -> Iterator[Finding]:
    """All that concerns whole episodes."""
    yield from _ends(dataset)
    yield from _lost_ends(dataset, profile)
    yield from _short_episodes(dataset, context_length)
    yield from _repeats(dataset, profile)
    yield from _returns(dataset, profile)
    yield from _rare_returns(dataset)
    yield from _amount(dataset, context_length)


def _ends(dataset: TrajectoryDataset) -> Iterator[Finding]:
    """Terminal states against time limits; a log that mixes them up shows it in its lengths."""
    lengths, terminated = dataset.lengths, dataset.terminated
    if dataset.num_episodes < 3:  # coincidence
        return
    if limit := _limit_among_terminals(dataset):
        yield Finding(
            "warning", "ends",
            f"{int((terminated & (lengths == limit)).sum()):,} of {plural(dataset.num_episodes, 'episode')} terminated "
            f"after exactly {limit:,} steps, the longest there is, and none was cut there: "
            "a time limit seems to be logged as a terminal state",
            "if a time limit ended them, mark them as truncated (timeouts in D4RL's layout), not as terminated; "
            "if the task truly ends there, ignore this",
        )  # fmt: skip
    elif terminated.all() and np.ptp(lengths) > 0:
        yield Finding(
            "note", "ends", f"all {dataset.num_episodes:,} episodes terminated, none was cut",
            "right if no time limit and no end of the log ever cut an episode; otherwise mark those as truncated",
        )  # fmt: skip
    # The end of the log may cut the last episode anywhere. A few short ones are interruptions, 5 % no longer.
    shorter = (lengths[:-1] < lengths.max()).mean()
    if not terminated.any() and shorter >= 0.05:
        yield Finding(
            "warning", "ends",
            f"no episode terminated, yet {percent(float(shorter))} of them are shorter than the longest "
            f"({int(lengths.min()):,} to {int(lengths.max()):,} steps): terminal states seem to be lost",
            "name the column that marks terminal states; if there are none and the log was cut at will, ignore this",
        )  # fmt: skip


def _limit_among_terminals(dataset: TrajectoryDataset) -> int:
    """The longest length, if terminated episodes pile up there as at no other length nearby; else 0.

    Among fewer than 20 possible lengths piles are common, so there every episode must have that length.
    """
    lengths, longest = dataset.lengths, int(dataset.lengths.max())
    at_longest = lengths == longest
    count = int(at_longest.sum())
    if longest < 2 or count < 3 or not dataset.terminated[at_longest].all():
        return 0
    if count == len(lengths):
        return longest
    nearby = np.bincount(lengths[~at_longest & (lengths >= longest // 2)], minlength=1)
    return longest if longest >= 20 and count >= 3 * max(nearby.max(), 1) else 0


def _lost_ends(dataset: TrajectoryDataset, profile: Profile) -> Iterator[Finding]:
    steps, longest = dataset.num_steps, int(dataset.lengths.max())
    if dataset.num_episodes == 1 and steps > 1:
        yield Finding(
            "warning", "ends", f"all {steps:,} steps are one episode",
            "if the log holds several, mark their ends or name the column that numbers them; "
            "with one return there is nothing to compare, and the policy can only imitate",
        )  # fmt: skip
    # A long tail of lengths is common; half of all steps in one of many episodes is not.
    elif dataset.num_episodes > 2 and longest > steps / 2 and longest > 10 * np.median(dataset.lengths):
        yield Finding(
            "warning", "ends",
            f"episode {int(np.argmax(dataset.lengths))} holds {longest:,} of {steps:,} steps, "
            f"half of the others have at most {number(float(np.median(dataset.lengths)))}: its ends seem to be lost",
            "mark the ends of the episodes in it, or leave it out",
        )  # fmt: skip
    hidden = profile.hidden_starts
    if hidden is not None and len(hidden) >= 3:  # fewer may be chance
        episodes = np.searchsorted(dataset.starts, hidden[:3], side="right") - 1
        places = [f"episode {e} step {s - dataset.starts[e]:,}" for e, s in zip(episodes, hidden, strict=False)]
        yield Finding(
            "warning", "ends",
            f"at {plural(len(hidden), 'step')} within episodes the observation jumps to where episodes start "
            f"(such as {some(places)}): ends seem to be lost there",
            "mark the step before each as the end of an episode; if the task itself moves the agent back, ignore this",
        )  # fmt: skip
    dropped = dataset.details.get("dropped_steps", 0)
    if isinstance(dropped, int) and dropped > 0:
        yield Finding(
            "warning" if dropped > 0.1 * (steps + dropped) else "note", "ends",
            f"{plural(dropped, 'step')} after the last marked end were left out",
            "to keep them as an episode that was cut, mark the last step as a timeout",
        )  # fmt: skip


def _short_episodes(dataset: TrajectoryDataset, context_length: int) -> Iterator[Finding]:
    lengths = dataset.lengths
    single = float((lengths == 1).mean())
    if single == 1 and dataset.num_episodes > 1:
        yield Finding(
            "warning", "episodes", "every episode has one step",
            "if the task goes on for several, the ends are marked on every row: mark only last steps",
        )  # fmt: skip
        return
    # One in twenty is more than bad luck: logs that repeat the final step after a reset have one for each episode.
    if single >= 0.05 and dataset.num_episodes > 1:
        yield Finding(
            "warning", "episodes", f"{percent(single)} of the episodes have a single step",
            "look for an end that is marked on two rows in a row, or for the extra step of an automatic reset",
        )  # fmt: skip
    if dataset.num_episodes > 1 and np.median(lengths) < context_length / 2:
        yield Finding(
            "note", "episodes",
            f"half of the episodes have at most {number(float(np.median(lengths)))} steps, "
            f"windows of {context_length} are mostly padding",
            f"--context-length {max(int(np.quantile(lengths, 0.9)), 1)} holds nine in ten episodes and trains faster",
        )  # fmt: skip


def _repeats(dataset: TrajectoryDataset, profile: Profile) -> Iterator[Finding]:
    if len(profile.repeats) == 0:
        return
    share = len(profile.repeats) / dataset.num_episodes
    examples = [f"{one} = {earlier}" for one, earlier in profile.repeats[:3].tolist()]
    yield Finding(
        "warning" if share >= 0.01 else "note", "episodes",
        f"{len(profile.repeats):,} of {dataset.num_episodes:,} episodes ({percent(share)}) repeat another one exactly "
        f"(such as {some(examples)})",
        "if a file was read twice, leave the copies out: they weigh more in training, and held-out episodes are no "
        "longer unseen; if the task is small or deterministic, ignore this",
    )  # fmt: skip


def _returns(dataset: TrajectoryDataset, profile: Profile) -> Iterator[Finding]:
    returns = dataset.returns.astype(np.float64)
    if profile.nonzero_rewards == 0:
        yield Finding(
            "warning", "returns", "every reward is 0",
            "name the column of rewards; without any the policy imitates all episodes alike",
        )  # fmt: skip
        return
    if dataset.num_episodes > 1 and equal_returns(dataset):
        yield Finding(
            "warning", "returns", f"all {dataset.num_episodes:,} episodes return {number(returns[0])}",
            "a Decision Transformer learns from returns that differ which actions are better; here it can only imitate",
        )  # fmt: skip
    largest = float(np.abs(returns).max())
    if largest < 0.1:  # finetune's default return scale is at least 1
        yield Finding(
            "warning", "returns", f"no return is larger than {number(largest)} in size: hardly an input",
            f"--return-scale {largest:.2g}",
        )  # fmt: skip
    if dataset.num_episodes >= 20:
        yield from _spread(returns)


def _spread(returns: npt.NDArray[np.float64]) -> Iterator[Finding]:
    low, middle, high = np.quantile(returns, (0.05, 0.5, 0.95))
    # Asking for more or less then moves the model's input by a twentieth, which dropout and noise drown.
    if np.ptp(returns) > 0 and high - low < 0.05 * abs(middle):
        yield Finding(
            "note", "returns",
            f"returns hardly differ: nine in ten lie between {number(low)} and {number(high)}",
            "asking for a return will change little; mix in episodes of other quality if there are any",
        )  # fmt: skip
    # Good returns are rare in the logs of a learner (those here reach 3 such ranges above); 10 are glitches.
    far = np.flatnonzero((returns < low - 10 * (high - low)) | (returns > high + 10 * (high - low)))
    if high > low and 0 < len(far) <= max(0.01 * len(returns), 1):
        examples = [f"{number(returns[episode])} of episode {episode}" for episode in far[:3].tolist()]
        yield Finding(
            "warning", "returns",
            f"{plural(len(far), 'return')} far from all others: {some(examples)}; "
            f"nine in ten lie between {number(low)} and {number(high)}",
            "look at their rewards; return scale and target returns follow the largest return, "
            "so leave such episodes out or set --return-scale and --target-returns",
        )  # fmt: skip


def _rare_returns(dataset: TrajectoryDataset) -> Iterator[Finding]:
    near, episodes = int(near_best(dataset).sum()), dataset.num_episodes
    # Fewer than five (one in twenty of a small set), or one in a hundred, are seen too seldom for their return to mean
    # anything but these episodes.
    if not equal_returns(dataset) and near < max(min(5, 0.05 * episodes), 0.01 * episodes):
        yield Finding(
            "note", "returns",
            f"{near:,} of {episodes:,} episodes come within a tenth of the range of the best return",
            "asking for the best leans on these few; compare with the second suggested target",
        )  # fmt: skip


def _amount(dataset: TrajectoryDataset, context_length: int) -> Iterator[Finding]:
    if 1 < dataset.num_episodes < 10:  # a tenth is held out without an environment
        yield Finding(
            "warning", "amount", f"there are only {dataset.num_episodes} episodes",
            "an error on held-out episodes would rest on one; log more, or score in an environment",
        )  # fmt: skip
    windows = dataset.num_steps / context_length
    if windows < 64:  # not even one batch of the default size without repetition
        yield Finding(
            "warning", "amount",
            f"{plural(dataset.num_steps, 'step')} fill {number(windows)} windows of {context_length}",
            "training sees the same few over and over; log more, or train for few steps and watch the held-out error",
        )  # fmt: skip
