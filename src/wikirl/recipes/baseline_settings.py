"""One frozen value that fully describes a baseline's run, and what is filled in where it says nothing.

Names and meanings are `FinetuneConfig`'s where both have a setting, so that a baseline and a Decision Transformer can
be given the same data, environment, episodes and seeds.
"""

from dataclasses import dataclass, field
from typing import Literal

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import EnvironmentSpec
from wikirl.evaluation.references import choose_reference
from wikirl.recipes.fields import filled, require, setting
from wikirl.recipes.settings import DEFAULT_EVALUATIONS
from wikirl.trajectories.dataset import TrajectoryDataset

Algorithm = Literal["bc", "td3+bc", "cql", "iql"]


@dataclass(frozen=True)
class BaselineConfig:
    """Everything that decides what `baseline` makes; None where the algorithm, the data or the environment decide."""

    dataset: str = field(metadata={"help": "builtin:NAME, file:PATH, minari:ID or d4rl:NAME"})
    environment: str | None = setting(None, "Gymnasium id to score in, e.g. Hopper-v5; default: held-out error only")
    algorithm: Algorithm = setting("bc", "bc: behaviour cloning; td3+bc, cql, iql: d3rlpy's, with the extra baselines")
    top_fraction: float = setting(
        1.0, "learn from the best episodes by return, as many as hold this share of the steps; 0.1 with bc is 10 %% BC"
    )
    data_fraction: float = setting(1.0, "learn from this share of the episodes, drawn at random by the seed")
    delayed_reward: bool = setting(False, "move all reward to the end of the episode, in data and scoring")
    seed: int = setting(0, "seed of weights, batches and noise")
    num_steps: int = setting(100_000, "updates")
    batch_size: int = setting(256, "steps of the data in an update")
    learning_rate: float | None = setting(
        None, "rate of Adam; default: 3e-4; cql of vectors: 1e-4, and 3e-4 for its critics"
    )
    hidden_size: int = setting(256, "width of the networks")
    num_layers: int | None = setting(None, "hidden layers of the networks; default: 2; cql of vectors: 3")
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


def resolve(config: BaselineConfig, dataset: TrajectoryDataset, environment: EnvironmentSpec | None) -> BaselineConfig:
    """Fill every None that the algorithm, the environment or the run's length decide.

    What stays None: `reference`, and the rate of CQL, whose networks have several.

    Raises:
        ConfigError: settings that cannot work, alone or together.
    """
    _check(config)
    choices = dataset.action_space.is_discrete
    if choices and config.algorithm in ("td3+bc", "iql"):
        raise ConfigError(
            f"expected actions that are vectors for --algorithm {config.algorithm}; those of {dataset.name} are "
            "choices; use bc or cql"
        )
    # Source: the conservative Q-learning of vectors as d3rlpy's reproductions/offline/cql.py sets it.
    conservative = config.algorithm == "cql" and not choices
    config = filled(
        config,
        {
            "learning_rate": None if conservative else 3e-4,
            "num_layers": 3 if conservative else 2,
            "held_out_fraction": 0.0 if environment else 0.1,
            "eval_every": max(config.num_steps // DEFAULT_EVALUATIONS, 1),
        },
    )
    return filled(config, {"checkpoint_every": config.eval_every})


def _check(config: BaselineConfig) -> None:
    at_least_one = (
        "num_steps", "batch_size", "hidden_size", "num_layers", "eval_every", "eval_episodes", "checkpoint_every",
    )  # fmt: skip
    require(config, at_least_one, lambda value: value >= 1, "of at least 1")
    require(config, ("seed", "evaluation_seed"), lambda value: value >= 0, "of at least 0")
    require(config, ("learning_rate",), lambda value: value > 0, "above 0")
    require(config, ("top_fraction", "data_fraction"), lambda value: 0 < value <= 1, "above 0 and at most 1")
    require(config, ("held_out_fraction",), lambda value: 0 <= value < 1, "from 0 up to, not including, 1")
    if config.reference is not None:
        choose_reference(config.environment, given=config.reference)
