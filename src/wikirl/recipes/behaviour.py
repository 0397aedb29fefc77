"""Behaviour policies: algorithms of Stable-Baselines3's JAX sibling, trained in stretches that a kill cannot hurt.

This file is the only one that knows `sbx`. It deliberately knows no dataset: episodes go in and out as they were
played. A stretch begins like a program start: episode, replay buffer and every random stream are set up from the seed,
the number of the stretch and what is on disk, so that a run that was killed goes on to the same bits.
"""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from wikirl.errors import ConfigError, MissingExtraError
from wikirl.evaluation.collecting import EpisodeRecorder
from wikirl.evaluation.environments import make_environment, spec_of
from wikirl.types import Policy, RecordedEpisode

Algorithm = Literal["sac", "dqn", "ppo"]


class Learner:
    """One algorithm in one environment."""

    def __init__(
        self,
        algorithm: Algorithm,
        environment_id: str,
        *,
        num_steps: int,
        stretch_steps: int,
        seed: int,
        options: Mapping[str, Any],
        on_step: Callable[[], object] | None = None,
    ) -> None:
        """Make environment and networks.

        Args:
            algorithm: `sac` for continuous actions, `dqn` for choices, `ppo` for either.
            environment_id: Gymnasium id with its version.
            num_steps: Steps of the whole training.
            stretch_steps: Steps of one stretch.
            seed: Decides everything random.
            options: Arguments of the algorithm's class, over our defaults.
            on_step: Called after every step.

        Raises:
            ConfigError: the algorithm does not fit the actions, or an option that it does not have.
            EnvironmentNotFoundError: as `make_environment`.
            MissingExtraError: sbx is not installed.
        """
        self._algorithm, self._seed = algorithm, seed
        environment = make_environment(environment_id)
        self._recorder = EpisodeRecorder(environment, on_step)
        discrete = spec_of(environment, environment_id).action_space.is_discrete
        if (algorithm == "sac" and discrete) or (algorithm == "dqn" and not discrete):
            kind = "choices" if discrete else "vectors"
            raise ConfigError(f"expected an algorithm for {kind}, the actions of {environment_id}; found {algorithm}")
        kinds = algorithms()
        arguments = _defaults(algorithm, num_steps, stretch_steps) | _checked(kinds[algorithm], options)
        self._model = kinds[algorithm]("MlpPolicy", self._recorder, seed=seed, **arguments)
        self._num_steps = num_steps
        if algorithm == "dqn":
            self._model.exploration_schedule = self._exploration_rate

    def close(self) -> None:
        """Let go of the environment."""
        self._recorder.close()

    def tensors(self) -> dict[str, Tensor]:
        """Networks and optimizers, to be given to `restore`."""
        import jax

        return {
            f"{name}.{number:04d}": torch.from_numpy(np.array(leaf))
            for name, state in self._states().items()
            for number, leaf in enumerate(jax.tree_util.tree_leaves(state))
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        import jax

        for name, state in self._states().items():
            leaves = [tensors[key].numpy() for key in sorted(tensors) if key.rpartition(".")[0] == name]
            restored = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(state), map(jax.numpy.asarray, leaves))
            setattr(self._model if name == "ent_coef_state" else self._model.policy, name, restored)

    def train(self, stretch: int, num_steps: int, before: Sequence[RecordedEpisode]) -> list[RecordedEpisode]:
        """Train for one stretch and give back what was played; the last episode is cut at its end.

        Args:
            stretch: Its number, from 0.
            num_steps: Steps of this stretch.
            before: Everything played in earlier stretches, in order.
        """
        model = self._model
        # SB3 draws batches from NumPy's global generator; this seeds it, and everything else.
        model.set_random_seed(_seed_of(self._seed, stretch))
        model.policy.key = model.policy.noise_key = model.key
        model.num_timesteps = sum(len(episode.rewards) for episode in before)
        model._n_calls = model.num_timesteps  # DQN counts steps to its next target network
        if getattr(model, "replay_buffer", None) is not None:
            _refill(model.replay_buffer, before, self._to_buffer)
        model._last_obs = None  # so that it begins a new episode
        model.learn(num_steps, reset_num_timesteps=False)
        return self._recorder.take()

    def snapshot(self) -> dict[str, Tensor]:
        """What `policy` needs to act as it does now."""
        import jax

        leaves = jax.tree_util.tree_leaves(self._acting_state().params)
        return {f"{number:04d}": torch.from_numpy(np.array(leaf)) for number, leaf in enumerate(leaves)}

    def policy(self, snapshot: Mapping[str, Tensor]) -> Policy:
        """The policy of a snapshot, exploring as it does at the end of training."""
        import jax

        state = self._acting_state()
        structure = jax.tree_util.tree_structure(state.params)
        leaves = (jax.numpy.asarray(snapshot[key].numpy()) for key in sorted(snapshot))
        player = copy.copy(self._model.policy)
        setattr(player, self._acting_name, state.replace(params=jax.tree_util.tree_unflatten(structure, leaves)))
        if self._algorithm == "dqn":
            return _Player(player, deterministic=True, exploration_rate=self._model.exploration_final_eps)
        return _Player(player, deterministic=False, exploration_rate=0.0)

    @property
    def _acting_name(self) -> str:
        return "qf_state" if self._algorithm == "dqn" else "actor_state"

    def _acting_state(self) -> Any:
        return getattr(self._model.policy, self._acting_name)

    def _states(self) -> dict[str, Any]:
        """Everything that learns, by name."""
        names = ("actor_state", "qf_state", "vf_state")
        states = {name: getattr(self._model.policy, name) for name in names if hasattr(self._model.policy, name)}
        if hasattr(self._model, "ent_coef_state"):
            states["ent_coef_state"] = self._model.ent_coef_state
        return states

    def _exploration_rate(self, _: float) -> float:
        """Falls linearly over the first `exploration_fraction` of all steps; SB3's counts those of a stretch."""
        model = self._model
        progress = min(model.num_timesteps / (model.exploration_fraction * self._num_steps), 1.0)
        start, end = model.exploration_initial_eps, model.exploration_final_eps
        return float(start + progress * (end - start))

    def _to_buffer(self, actions: Shaped[np.ndarray, "T *A"]) -> Shaped[np.ndarray, "T *A"]:
        """Actions as SB3 keeps them: vectors scaled to −1 … 1."""
        scaled: Shaped[np.ndarray, "T *A"] = (
            actions if self._algorithm == "dqn" else self._model.policy.scale_action(actions)
        )
        return scaled


class _Player:
    """A policy of SB3 as one of ours."""

    def __init__(self, player: Any, *, deterministic: bool, exploration_rate: float) -> None:
        self._player, self._deterministic, self._exploration_rate = player, deterministic, exploration_rate
        self.reset(0, 0)

    def reset(self, num_envs: int, seed: int) -> None:
        """Begin `num_envs` episodes."""
        import jax

        self._player.key = self._player.noise_key = jax.random.PRNGKey(seed)
        self._random = np.random.default_rng(seed)

    def act(
        self,
        observations: Shaped[np.ndarray, "E *O"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Shaped[np.ndarray, "E *A"]:
        """Actions as SB3 predicts them; sometimes any choice, if it explores so."""
        actions: Shaped[np.ndarray, "E *A"] = self._player.predict(observations, deterministic=self._deterministic)[0]
        if self._exploration_rate:
            explores = self._random.random(len(actions)) < self._exploration_rate
            actions = np.where(explores, self._random.integers(self._player.action_space.n, size=len(actions)), actions)
        return actions


def algorithms() -> dict[str, Any]:
    """The classes behind the names.

    Raises:
        MissingExtraError: sbx is not installed.
    """
    try:
        import sbx
    except ImportError as error:
        raise MissingExtraError(
            f"training a behaviour policy needs the package sbx-rl, found: {error}; pip install 'wikirl[collect]'"
        ) from error
    kinds = {"sac": sbx.SAC, "dqn": sbx.DQN, "ppo": sbx.PPO}
    assert set(kinds) == set(get_args(Algorithm))
    return kinds


def _defaults(algorithm: Algorithm, num_steps: int, stretch_steps: int) -> dict[str, Any]:
    """What differs from the library's own settings, which stand for a longer training."""
    match algorithm:
        case "sac":
            return {"buffer_size": num_steps, "learning_starts": min(10_000, num_steps // 10)}
        case "dqn":
            return {
                "buffer_size": num_steps, "learning_starts": min(1_000, num_steps // 10), "learning_rate": 1e-3,
                "batch_size": 64, "target_update_interval": 500, "exploration_fraction": 0.3,
            }  # fmt: skip
        case "ppo":
            # Rollouts and batches that fill a stretch without a rest
            rollout = max(size for size in range(1, 2049) if stretch_steps % size == 0)
            batch = max(size for size in range(1, 65) if rollout % size == 0)
            return {"n_steps": rollout, "batch_size": batch}


def _checked(algorithm: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    known = [name for name in inspect.signature(algorithm.__init__).parameters if name not in ("self", "policy", "env")]
    unknown = [name for name in options if name not in known or name == "seed" or name.startswith("_")]
    if unknown:
        raise ConfigError(f"{algorithm.__name__} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return dict(options)


def _refill(
    buffer: Any,
    episodes: Sequence[RecordedEpisode],
    to_buffer: Callable[[Shaped[np.ndarray, "T *A"]], Shaped[np.ndarray, "T *A"]],
) -> None:
    """Put everything that was played into a replay buffer of SB3; of too much the newest."""
    buffer.reset()
    total = sum(len(episode.rewards) for episode in episodes)
    skip = max(total - buffer.buffer_size, 0)
    written = 0
    for episode in episodes:
        num_steps = len(episode.rewards)
        first = min(max(skip - written, 0), num_steps)
        place = np.arange(written + first, written + num_steps) % buffer.buffer_size
        buffer.observations[place, 0] = episode.observations[first:-1]
        buffer.next_observations[place, 0] = episode.observations[first + 1 :]
        buffer.actions[place, 0] = to_buffer(episode.actions[first:]).reshape(len(place), -1)
        buffer.rewards[place, 0] = episode.rewards[first:]
        buffer.dones[place, 0] = 0.0  # a cut is not an end to learn from
        buffer.timeouts[place, 0] = 0.0
        if episode.terminated and len(place):
            buffer.dones[place[-1], 0] = 1.0
        written += num_steps
    buffer.pos, buffer.full = total % buffer.buffer_size, total >= buffer.buffer_size


def _seed_of(seed: int, stretch: int) -> int:
    """A seed as SB3 takes them."""
    return int(np.random.SeedSequence((0xBE_4A, seed, stretch)).generate_state(1)[0] % math.floor(2**31))
