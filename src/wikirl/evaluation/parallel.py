"""Playing episodes in several processes, a share of them each: how many cores help with one rollout.

This file knows how to divide episodes. It deliberately knows no environments and no models: what is played in each
process, and how, is rollout.py's business.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import pairwise

import numpy as np
import torch

from wikirl.errors import ConfigError
from wikirl.evaluation.rollout import Rollout, play_numbered
from wikirl.kernels import keep_freed_memory
from wikirl.reproducibility import available_cpus
from wikirl.types import Policy

# A process takes seconds to start, as long as a core needs for this many Hopper episodes of 150 steps.
EPISODES_WORTH_A_PROCESS = 25


def sensible_num_processes(num_episodes: int) -> int:
    """One process for every core this one may use, as long as each has enough to do."""
    return max(min(available_cpus(), num_episodes // EPISODES_WORTH_A_PROCESS), 1)


def rollout_in_processes(
    policy: Policy,
    environment_id: str,
    *,
    num_episodes: int,
    seed: int,
    num_processes: int,
    delayed_reward: bool = False,
    on_share: Callable[[int], object] | None = None,
) -> Rollout:
    """`rollout`, its episodes shared between processes of one thread each.

    Every episode starts as it does in one process, so for a policy whose rows do not depend on each other, and draw no
    random numbers or do so by seeds of their own (`RowSeededPolicy`), the result is the same up to rounding.

    Args:
        policy: Acts for all rows; sent to the processes, so it must be picklable.
        environment_id: Gymnasium id with its version; if it is not one of Gymnasium's own, with the module that
            registers it in front (`module:Name-v0`).
        num_episodes: N, how many episodes to play.
        seed: Seed of the starts.
        num_processes: How many processes; no more than episodes are started.
        delayed_reward: As in `rollout`.
        on_share: Called with the number of its episodes whenever a process has played its share.

    Raises:
        ConfigError: as `rollout`, or `num_processes` is not positive.
        EnvironmentNotFoundError: as `rollout`.
    """
    started = time.perf_counter()
    if num_episodes < 1 or num_processes < 1:
        raise ConfigError(
            f"expected num_episodes and num_processes of at least 1; found {num_episodes} and {num_processes}"
        )
    borders = [num_episodes * part // num_processes for part in range(num_processes + 1)]
    shares = [range(first, end) for first, end in pairwise(borders) if first < end]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), context, initializer=_prepare_process) as pool:
        futures = [
            pool.submit(play_numbered, policy, environment_id, share, seed=seed, delayed_reward=delayed_reward)
            for share in shares
        ]
        for future in as_completed(futures):
            if on_share is not None:
                on_share(len(future.result().returns))
        parts = [future.result() for future in futures]
    returns, lengths, terminated = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("returns", "lengths", "terminated")
    )
    return Rollout(returns, lengths, terminated, time.perf_counter() - started)


def _prepare_process() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
