"""Playing whole episodes: one episode per row, all rows in lockstep, so that a policy acts for many at once.

This file knows how to step environments and when a row is done. It deliberately knows no scores, no models
and no restarts: a finished row is never stepped again, so short episodes gain no weight and no autoreset mode
matters. Everything runs in this process, because a process for each environment made them 3-4
times slower; parallel.py gives whole episodes to processes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Shaped

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import Environment, EnvironmentSpec, make_environment, spec_of
from wikirl.types import Policy, RowSeededPolicy

# Part of every seed drawn here, so that evaluation shares no random stream with training under the same
# number.
_EVALUATION_STREAM = 0x5C0_8E
_POLICY_STREAM = 0x5C0_8F


@dataclass(frozen=True)
class Rollout:
    """What N episodes came to.

    Attributes:
        returns: Undiscounted sum of rewards of each episode, in environment units, counted in full in every
            mode.
        lengths: Steps of each episode.
        terminated: True where the environment ended the episode; False where the time limit cut it off.
        wall_seconds: Time it took, environments and policy together.
    """

    returns: Float[np.ndarray, "N"]
    lengths: Int[np.ndarray, "N"]
    terminated: Bool[np.ndarray, "N"]
    wall_seconds: float


def rollout(
    policy: Policy,
    environment_id: str,
    *,
    num_episodes: int,
    seed: int,
    num_envs: int = 100,
    delayed_reward: bool = False,
    max_steps: int | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Rollout:
    """Play `num_episodes` episodes, at most `num_envs` at once, one episode per row.

    Episode i starts from a state that depends on `seed` and i only, and so do the random numbers of a
    `RowSeededPolicy`. So for such a policy, and for one that draws none, the result does not depend on
    `num_envs`.

    Actions outside a Box are clipped to its bounds before stepping. MuJoCo would clamp the controls anyway,
    so the motion is the same; but Gymnasium charges the control cost on the action it is given, so without
    clipping an action outside the bounds would be charged for effort that the motors never make. A policy
    that ends in tanh is not touched by this.

    Args:
        policy: Acts for all rows; it is told the reward of its previous action, zeros first.
        environment_id: Gymnasium id with its version.
        num_episodes: N, how many episodes to play.
        seed: Seed of the starts; the policy's own are derived from it, one per row of a `RowSeededPolicy`,
            else one per wave of rows.
        num_envs: E, the most rows at once; more episodes than that run in several waves.
        delayed_reward: Tell the policy reward 0 on every step, because what it earned is revealed only when
            the episode has ended and it no longer acts. Returns are counted in full.
        max_steps: Cut episodes off here if the environment's own limit does not come first.
        on_step: Called after every step with the step number within the wave (from 1) and the number of live
            rows.

    Raises:
        ConfigError: a count is not positive, the seed is negative, the environment has no time limit and
            `max_steps` is not given, or the policy returns actions of the wrong shape, that are not finite or
            not among the choices.
        EnvironmentNotFoundError: as `make_environment`.
        MissingExtraError: as `make_environment`.

    Source: 100 episodes per evaluation and the delayed mode: Decision Transformer, `gym/experiment.py`.
    """
    _check_counts(num_episodes, num_envs, seed, max_steps)
    return play_numbered(
        policy, environment_id, range(num_episodes),
        seed=seed, num_envs=num_envs, delayed_reward=delayed_reward, max_steps=max_steps, on_step=on_step,
    )  # fmt: skip


def play_numbered(
    policy: Policy,
    environment_id: str,
    numbers: range,
    *,
    seed: int,
    num_envs: int = 100,
    delayed_reward: bool = False,
    max_steps: int | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Rollout:
    """`rollout` of the episodes with these numbers only: a share of a larger set."""
    started = time.perf_counter()
    parts: list[Episodes] = []
    with _opened(environment_id, min(len(numbers), num_envs)) as environments:
        limit = step_limit(spec_of(environments[0], environment_id), max_steps)
        for first in numbers[::num_envs]:
            rows = environments[: numbers.stop - first]
            wave = range(first, first + len(rows))
            parts.append(play(policy, rows, wave, seed, limit, delayed_reward=delayed_reward, on_step=on_step))
    returns, lengths, terminated = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rollout(returns, lengths, terminated, time.perf_counter() - started)


def rollout_together(
    policy: Policy,
    environment_id: str,
    *,
    num_runs: int,
    num_episodes: int,
    seed: int,
    delayed_reward: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """`rollout` for a policy that acts for several stacked runs: the same N episodes of each, all rows in lockstep.

    Rows are those of the first run, then those of the second …

    Raises:
        ConfigError: as `rollout`.
    """
    _check_counts(num_episodes, num_runs, seed, None)
    started = time.perf_counter()
    with _opened(environment_id, num_runs * num_episodes) as environments:
        limit = step_limit(spec_of(environments[0], environment_id), None)
        numbers = list(range(num_episodes)) * num_runs
        columns = play(policy, environments, numbers, seed, limit, delayed_reward=delayed_reward, on_step=on_step)
    seconds = time.perf_counter() - started
    by_run = zip(*(np.split(column, num_runs) for column in columns), strict=True)
    return [Rollout(returns, lengths, terminated, seconds) for returns, lengths, terminated in by_run]


@contextmanager
def _opened(environment_id: str, count: int) -> Iterator[list[Environment]]:
    """As many environments, all of which are closed at the end, even if not all could be made."""
    environments: list[Environment] = []
    try:
        for _ in range(count):
            environments.append(make_environment(environment_id))
        yield environments
    finally:
        for environment in environments:
            environment.close()


Episodes = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]


def play(
    policy: Policy,
    environments: Sequence[Environment],
    numbers: Sequence[int],
    seed: int,
    limit: int,
    *,
    delayed_reward: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> Episodes:
    """Play the episodes with these numbers, one per environment, until all have ended.

    Returns:
        Returns, lengths and terminated flags, each `[E]`.
    """
    num_rows = len(environments)
    seeds = [episode_seed(seed, number, _POLICY_STREAM) for number in numbers]
    if isinstance(policy, RowSeededPolicy):
        policy.reset_rows(seeds)
    else:
        policy.reset(num_rows, seeds[0])
    observations = np.stack(
        [
            environment.reset(seed=episode_seed(seed, number))[0]
            for number, environment in zip(numbers, environments, strict=True)
        ]
    )
    rewards, returns = np.zeros(num_rows), np.zeros(num_rows)
    lengths = np.zeros(num_rows, dtype=np.int64)
    terminated = np.zeros(num_rows, dtype=bool)
    active = np.ones(num_rows, dtype=bool)
    live = list(range(num_rows))
    told = np.zeros(num_rows) if delayed_reward else rewards
    for step in range(1, limit + 1):
        # Copies, so that a policy may keep what it is given (the arrays here are overwritten in place).
        chosen = policy.act(observations.copy(), told.copy(), active.copy())
        actions = usable_actions(chosen, environments[0].action_space, active, step)
        rewards[:] = 0.0
        for row in live:
            observations[row], rewards[row], ended, cut_off, _ = environments[row].step(actions[row])
            if ended or cut_off:
                terminated[row], active[row] = ended, False
        returns += rewards
        lengths[live] = step
        live = np.flatnonzero(active).tolist()
        if on_step is not None:
            on_step(step, len(live))
        if not live:
            break
    return returns, lengths, terminated


def episode_seed(seed: int, episode: int, stream: int = _EVALUATION_STREAM) -> int:
    """The seed that starts one episode: a function of the evaluation seed and the episode's number only."""
    return int(np.random.SeedSequence((stream, seed, episode)).generate_state(1)[0])


def step_limit(spec: EnvironmentSpec, max_steps: int | None) -> int:
    """The most steps an episode can last.

    Raises:
        ConfigError: neither the environment nor the caller sets a limit, so an episode might never end.
    """
    limits = [limit for limit in (spec.max_episode_steps, max_steps) if limit is not None]
    if not limits:
        raise ConfigError(f"{spec.id} has no time limit, so an episode might never end; give max_steps")
    return min(limits)


def _check_counts(num_episodes: int, num_envs: int, seed: int, max_steps: int | None) -> None:
    counts = {
        "num_episodes": num_episodes,
        "num_envs": num_envs,
        "max_steps": 1 if max_steps is None else max_steps,
    }
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} must be at least 1, found {count}")
    if seed < 0:
        raise ConfigError(f"seed must not be negative, found {seed}")


def usable_actions(
    chosen: Shaped[np.ndarray, "..."], space: gymnasium.Space[Any], active: Bool[np.ndarray, "E"], step: int
) -> Shaped[np.ndarray, "..."]:
    """Actions as the environment takes them: checked on the active rows, clipped, in the space's own dtype.

    Raises:
        ConfigError: wrong shape, not finite, or not one of the choices; names the step and the row.
    """
    expected = (len(active), *(space.shape or ()))
    actions = np.asarray(chosen)
    if actions.shape != expected:
        wrong = f"from row {min(len(actions), len(active))} on" if actions.ndim else "in row 0"
        raise ConfigError(
            f"at step {step} the policy returned actions of shape {actions.shape}, expected {expected} "
            f"({wrong}); is it a policy for another environment?"
        )
    if isinstance(space, gymnasium.spaces.Box):
        fits = np.isfinite(actions).reshape(len(actions), -1).all(axis=1)
        expectation = "finite numbers"
    else:
        choices = int(getattr(space, "n", 0))
        fits = np.full(len(actions), actions.dtype.kind in "iu") & (actions >= 0) & (actions < choices)
        expectation = f"an integer from 0 to {choices - 1}"
    if not fits[active].all():
        row = int(np.flatnonzero(active & ~fits)[0])
        raise ConfigError(f"at step {step} the policy returned {actions[row]} for row {row}, expected {expectation}")
    if isinstance(space, gymnasium.spaces.Box):
        clipped = np.clip(actions, space.low, space.high)
        clipped[~active] = 0  # rows that are done may hold anything, NaN too, which not every dtype can take
        return np.asarray(clipped, dtype=space.dtype)
    return actions
