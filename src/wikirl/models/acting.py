"""A trained Decision Transformer as a policy: it remembers each episode and asks for the return still wanted.

Actions that are vectors are predicted; of choices the likeliest is taken (`greedy`) or one is drawn with the model's
probabilities (`sampled`). Greedy is the default, which suits small tasks with vector observations: it adds no chance to
a score, and one unlikely move can end an episode. Published scores of Decision Transformers in Atari are sampled.

By default the window is exact: every action is computed from the last K steps alone, all of them anew. With `cached`,
keys and values are kept from step to step, which is many times as fast, the same while t < K and another policy
afterwards, because kept keys carry information from steps that have left the window.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from wikirl.errors import ConfigError
from wikirl.models.actions import draw_choices
from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.models.gpt import GPT
from wikirl.models.memory import KeyValueMemory
from wikirl.types import ActionSelection, Space, TrajectoryBatch


class DecisionTransformerPolicy:
    """Acts on raw observations in E environments at once.

    Source: Decision Transformer, `get_action` and `evaluate_episode_rtg`: the target return minus the rewards so far is
    the return-to-go of each step, and the action not yet taken is fed as zeros (no prediction can see it).
    """

    def __init__(
        self,
        model: DecisionTransformer,
        observation_space: Space,
        action_space: Space,
        *,
        context_length: int,
        target_return: float,
        cached: bool = False,
        action_selection: ActionSelection | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: The trained model, on the device it shall run on.
            observation_space: What it was trained to see.
            action_space: What it was trained to choose.
            context_length: Steps of history K the model looks at.
            target_return: Return asked for at the start of each episode, in environment units.
            cached: Keep keys and values instead of computing whole windows; takes effect at the next `reset`. Not for
                stacked models.
            action_selection: How to choose from logits; must be given for choices, and for them alone.

        Raises:
            ConfigError: as setting `cached` or `action_selection`.
        """
        self.model = model
        self.observation_space, self.action_space = observation_space, action_space
        self.context_length, self.target_return, self.cached = context_length, target_return, cached
        self.action_selection = action_selection
        self._device = str(model.normalizer.mean.device)
        # Enough to keep a processor busy, few enough for its memory: 128 windows of 60 tokens make 8 MB an activation.
        self._rows_at_once = 128 if self._device == "cpu" else 4096
        self._step = -1

    @property
    def cached(self) -> bool:
        """Whether keys and values are kept.

        Raises:
            ConfigError: on setting it, if the backbone is not of the GPT-2 family.
        """
        return self._cached

    @cached.setter
    def cached(self, wanted: bool) -> None:
        if wanted and not isinstance(self.model.backbone, GPT):
            raise ConfigError(
                "expected a backbone of the GPT-2 family for cached acting; that of this policy is of another; "
                "leave --cached out"
            )
        self._cached = wanted

    @property
    def action_selection(self) -> ActionSelection | None:
        """How a choice is made; None if actions are vectors.

        Raises:
            ConfigError: on setting it, if it is given for vectors, or neither `greedy` nor `sampled` for choices.
        """
        return self._action_selection

    @action_selection.setter
    def action_selection(self, wanted: ActionSelection | None) -> None:
        if self.action_space.is_discrete and wanted not in get_args(ActionSelection):
            raise ConfigError(f"expected greedy or sampled for the choices of this policy; found {wanted}")
        if wanted is not None and not self.action_space.is_discrete:
            raise ConfigError(
                f"expected a policy of discrete actions for {wanted} ones; the actions of this one are vectors; "
                "leave --greedy and --sampled out"
            )
        self._action_selection = wanted

    def reset(self, num_envs: int, seed: int) -> None:
        """Begin `num_envs` episodes; what row i draws, if actions are sampled, depends on the seed and i alone."""
        rows = np.random.SeedSequence(seed).spawn(num_envs)
        self.reset_rows([int(row.generate_state(1)[0]) for row in rows])

    def reset_rows(self, seeds: Sequence[int]) -> None:
        """Begin as many episodes as there are seeds; a seed decides what its row draws, if actions are sampled."""
        capacity = self.model.config.max_timesteps

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(len(seeds), capacity, *shape, dtype=dtype, device=self._device)

        self._observations = empty(*self.observation_space.shape)
        self._returns_to_go = empty(1)
        if self.action_space.is_discrete:
            self._actions = empty(dtype=torch.int64)
            # A number for every step, whether it will be reached and drawn or not.
            draws = np.stack([np.random.default_rng(seed).random(capacity) for seed in seeds])
            self._draws = torch.from_numpy(draws).to(self._device)
        else:
            self._actions = empty(self.model.config.action_size)
        # The window without the action that is not yet taken: 3K − 1 tokens.
        size = 3 * self.context_length - 1
        self._memory: KeyValueMemory | None = None
        if self.cached:
            assert isinstance(self.model.backbone, GPT)  # the setter saw to it
            self._memory = KeyValueMemory(self.model.backbone, len(seeds), size, self._device)
        self._step = -1

    @torch.no_grad()
    def act(
        self,
        observations: Shaped[np.ndarray, "E *O"],
        rewards: Float[np.ndarray, "E"],
        active: Bool[np.ndarray, "E"] | None = None,
    ) -> Shaped[np.ndarray, "E *A"]:
        """Choose the next actions; rows that are not active cost nothing.

        Raises:
            ConfigError: the episode is longer than the model's timestep table.
        """
        self._step += 1
        now = self._step
        if now >= self.model.config.max_timesteps:
            raise ConfigError(
                f"expected episodes of at most {self.model.config.max_timesteps} steps (the policy's timestep table); "
                "this one is longer; fine-tune with a larger --max-timesteps"
            )
        rows = self._rows_to_compute(np.ones(len(observations), dtype=bool) if active is None else active)
        self._observations[:, now] = torch.as_tensor(observations, dtype=torch.float32, device=self._device)
        earned = torch.as_tensor(rewards, dtype=torch.float32, device=self._device)[:, None]
        previous = self._returns_to_go[:, now - 1] if now else torch.full_like(earned, self.target_return)
        self._returns_to_go[:, now] = previous - earned
        actions = torch.zeros_like(self._actions[:, now])
        self.model.eval()
        if self._memory is not None:
            actions[rows[0]] = self._choose(self._predict_cached(rows[0], self._memory), rows[0])
        else:
            for part in rows.split(self._rows_at_once, dim=1):
                some = part.flatten()
                actions[some] = self._choose(self.model.next_action(self._window(some, self.context_length)), some)
        if active is not None:
            actions[~torch.from_numpy(active)] = 0
        self._actions[:, now] = actions
        return actions.cpu().numpy()

    def _rows_to_compute(self, active: Bool[np.ndarray, "E"]) -> Int[Tensor, "R N"]:
        """Rows that are active; of stacked runs, whose rows follow each other, equally many: those active in any."""
        in_any = active.reshape(self.model.num_runs or 1, -1)
        columns = torch.from_numpy(np.flatnonzero(in_any.any(axis=0)))
        first = torch.arange(len(in_any)) * in_any.shape[1]
        return (first[:, None] + columns).to(self._device)

    def _choose(self, predicted: Float[Tensor, "N P"], rows: Int[Tensor, "N"]) -> Shaped[Tensor, "N *A"]:
        """Actions of some rows from their predictions."""
        match self.action_selection:
            case None:
                return predicted
            case "greedy":
                return predicted.argmax(-1)
            case "sampled":
                return draw_choices(predicted, self._draws[rows, self._step])

    def _predict_cached(self, rows: Tensor, memory: KeyValueMemory) -> Tensor:
        """Predictions for the current step from what is new: the last action, the return-to-go and the observation."""
        memory.retain(rows)
        _, tokens = self.model.embed(self._window(rows, 2))
        new = tokens[:, -4:-1] if self.context_length > 1 else tokens[:, -3:-1]
        return self.model.read_actions(memory.extend(new)[:, None])[:, 0]

    def _window(self, rows: Tensor, num_steps: int) -> TrajectoryBatch:
        """The last steps of some rows, the current one without its action."""
        first, end = max(0, self._step + 1 - num_steps), self._step + 1
        timesteps = torch.arange(first, end, device=self._device).expand(len(rows), -1)
        return TrajectoryBatch(
            self._observations[rows, first:end],
            self._actions[rows, first:end],
            self._returns_to_go[rows, first:end],
            timesteps,
            torch.ones_like(timesteps, dtype=torch.bool),
        )
