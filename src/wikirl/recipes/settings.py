"""One frozen value that fully describes a fine-tuning run, and the recipes that fill it in.

`fair` (default): every starting point trains identically; only the starting weights differ. `paper` and `released` add
the paper's tricks to any starting point, scratch too. A setting given by the user always wins over its recipe.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import EnvironmentSpec
from wikirl.evaluation.references import choose_reference
from wikirl.evaluation.scores import task_constants
from wikirl.models.decision_transformer import Freeze, TimestepPlacement
from wikirl.models.perturbed import perturbation_of
from wikirl.recipes.fields import filled, require, setting
from wikirl.training.optimizer import Grouping
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.types import ActionSelection

Recipe = Literal["fair", "paper", "released"]
Alignment = Literal["none", "paper", "released"]
DEFAULT_EVALUATIONS = 40  # the paper's 100,000 steps are scored every 2,500


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides what `finetune` makes; None where the recipe, the data or the environment decide."""

    dataset: str = field(metadata={"help": "builtin:NAME, file:PATH, minari:ID or d4rl:NAME"})
    environment: str | None = setting(None, "Gymnasium id to score in, e.g. Hopper-v5; default: held-out error only")
    backbone: str = setting(
        "chibit",
        "scratch, chibit, or a causal decoder: Hugging Face folder or id; moments:B, permuted:B, noised:B@s: such a B "
        "with its weights disturbed",
    )
    architecture: str = setting("chibit", "with --backbone scratch: whose architecture, by the same names, or dt")
    recipe: Recipe = setting("fair", "fair: same training for all; paper, released: with the paper's tricks")
    seed: int = setting(0, "seed of weights, batches and dropout")
    num_steps: int = setting(100_000, "updates")
    batch_size: int = setting(64, "windows a step")
    context_length: int = setting(20, "timesteps K in a window")
    learning_rate: float = setting(1e-4, "peak rate of AdamW")
    backbone_learning_rate: float | None = setting(None, "rate of the backbone (parameter groups paper)")
    weight_decay: float = setting(1e-4, "decoupled weight decay")
    warmup_steps: int | None = setting(None, "linear warm-up; default: 10 %% of the steps")
    clip_norm: float = setting(0.25, "largest gradient norm; 0 for no clipping")
    adam_epsilon: float | None = setting(None, "default: 1e-8; recipe released: 1e-6")
    parameter_groups: Grouping | None = setting(None, "how weight decay and rates are spread; default: uniform")
    embedding_dropout: float = setting(0.1, "dropout on input tokens")
    attention_dropout: float = setting(0.1, "dropout on attention weights")
    residual_dropout: float | None = setting(
        None, "dropout on sublayers; default: 0.1; recipes paper and released: 0.2"
    )
    share_positions: bool | None = setting(None, "use the position table as timestep table")
    share_projection: bool | None = setting(None, "read actions with the transposed action embedding")
    timestep_placement: TimestepPlacement | None = setting(None, "default: before_norm; recipes: after_norm")
    freeze: Freeze = setting("none", "what of the backbone is not trained")
    alignment: Alignment | None = setting(None, "pull tokens to word clusters; default: none; recipes: their own")
    alignment_weight: float = setting(0.1, "weight of the alignment loss")
    num_clusters: int = setting(1000, "word clusters for the alignment")
    anneal_steps: int | None = setting(None, "steps over which extra losses fade; default: 5 %% of the steps")
    cotraining_corpus: str | None = setting(None, "text to go on modelling while fine-tuning; default: none")
    cotraining_weight: float | None = setting(None, "default: 0.2; recipe released: 1.0")
    cotraining_fades: bool | None = setting(None, "fade the language loss too; default: yes; recipe released: no")
    cotraining_batch_size: int = setting(2, "text blocks a step")
    language_text: str | None = setting(None, "text to measure perplexity on before and after; default: none")
    action_selection: ActionSelection | None = setting(
        None, "discrete actions only: take the likeliest, or draw one; default: greedy"
    )
    data_fraction: float = setting(1.0, "learn from this share of the episodes, drawn at random by the seed")
    delayed_reward: bool = setting(False, "move all reward to the end of the episode, in data and scoring")
    return_scale: float | None = setting(
        None, "returns are divided by this; default: the task's, or the data's largest"
    )
    max_timesteps: int | None = setting(None, "longest episode; default: the task's, the environment's or the data's")
    target_returns: tuple[float, ...] | None = setting(
        None, "returns to ask for; default: the paper's, or the data's best"
    )
    held_out_fraction: float | None = setting(
        None, "episodes kept out of training; default: 0, or 0.1 without environment"
    )
    reference: tuple[float, ...] | None = setting(
        None, "returns that a normalised score puts at 0 and 100; default: the published ones, or the data's own"
    )
    eval_every: int | None = setting(None, "steps between scores; default: 40 scores a run")
    eval_episodes: int = setting(20, "episodes a score")
    evaluation_seed: int = setting(0, "seed of the episodes scored in; apart from training seeds")
    checkpoint_every: int | None = setting(None, "steps between checkpoints; default: at every score")


_RECIPES: dict[Recipe, dict[str, Any]] = {
    "fair": {
        "adam_epsilon": 1e-8, "parameter_groups": "uniform", "residual_dropout": 0.1, "share_positions": False,
        "share_projection": False, "timestep_placement": "before_norm", "alignment": "none", "cotraining_weight": 0.2,
        "cotraining_fades": True,
    },
    "paper": {
        "adam_epsilon": 1e-8, "parameter_groups": "paper", "residual_dropout": 0.2, "share_positions": True,
        "share_projection": True, "timestep_placement": "after_norm", "alignment": "paper", "cotraining_weight": 0.2,
        "cotraining_fades": True,
    },
    "released": {
        "adam_epsilon": 1e-6, "parameter_groups": "released", "residual_dropout": 0.2, "share_positions": True,
        "share_projection": True, "timestep_placement": "after_norm", "alignment": "released", "cotraining_weight": 1.0,
        "cotraining_fades": False,
    },
}  # fmt: skip


def resolve(config: FinetuneConfig, dataset: TrajectoryDataset, environment: EnvironmentSpec | None) -> FinetuneConfig:
    """Fill every None from the recipe, the task's constants, the environment or the data.

    Raises:
        ConfigError: settings that cannot work, alone or together.
    """
    _check(config)
    task = task_constants(environment.id) if environment else None
    statistics = dataset.statistics
    longest = max(statistics.length_max, (environment.max_episode_steps or 0) if environment else 0)
    largest = max(abs(statistics.return_max), abs(statistics.return_min), 1.0)
    defaults = _RECIPES[config.recipe] | {
        "warmup_steps": round(0.10 * config.num_steps),
        "anneal_steps": max(round(0.05 * config.num_steps), 1),
        "return_scale": task.return_scale if task else largest,
        "max_timesteps": max(task.horizon, longest) if task else longest,
        "target_returns": task.target_returns if task else (round(statistics.return_max, 3),),
        "held_out_fraction": 0.0 if environment else 0.1,
        "eval_every": max(config.num_steps // DEFAULT_EVALUATIONS, 1),
        "action_selection": "greedy" if dataset.action_space.is_discrete else None,
    }
    config = filled(config, defaults)
    config = filled(config, {"checkpoint_every": config.eval_every})
    if config.backbone_learning_rate is not None and config.parameter_groups != "paper":
        raise ConfigError("a backbone_learning_rate needs --parameter-groups paper (or --recipe paper)")
    if config.action_selection is not None and not dataset.action_space.is_discrete:
        raise ConfigError(
            f"expected discrete actions with --action-selection {config.action_selection}; those of {dataset.name} are "
            "vectors; leave it out"
        )
    if config.max_timesteps is not None and config.max_timesteps < longest:
        raise ConfigError(
            f"expected max_timesteps of at least {longest}, the longest episode; found {config.max_timesteps}"
        )
    return config


def _check(config: FinetuneConfig) -> None:
    at_least_one = (
        "num_steps", "batch_size", "context_length", "num_clusters", "cotraining_batch_size", "eval_episodes",
        "eval_every", "checkpoint_every", "anneal_steps", "max_timesteps",
    )  # fmt: skip
    require(config, at_least_one, lambda value: value >= 1, "of at least 1")
    not_negative = ("seed", "evaluation_seed", "warmup_steps", "clip_norm", "weight_decay")
    require(config, not_negative, lambda value: value >= 0, "of at least 0")
    require(config, ("learning_rate", "backbone_learning_rate", "return_scale"), lambda value: value > 0, "above 0")
    shares = ("embedding_dropout", "attention_dropout", "residual_dropout", "held_out_fraction")
    require(config, shares, lambda value: 0 <= value < 1, "from 0 up to, not including, 1")
    require(config, ("data_fraction",), lambda value: 0 < value <= 1, "above 0 and at most 1")
    require(config, ("architecture",), lambda name: perturbation_of(name) is None, "with undisturbed weights")
    if config.reference is not None:
        choose_reference(config.environment, given=config.reference)
    if config.target_returns == ():
        raise ConfigError("expected at least one target_return; found none")
