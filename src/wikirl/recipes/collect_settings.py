"""One frozen value that fully describes how a family of datasets is collected."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from wikirl.errors import ConfigError
from wikirl.recipes.fields import require, setting

Kind = Literal["random", "medium-replay", "medium", "medium-expert", "expert"]
Behaviour = Literal["sac", "dqn", "ppo", "controller"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class CollectConfig:
    """Everything that decides what `collect` makes."""

    environment: str = field(metadata={"help": "Gymnasium id, e.g. Hopper-v5"})
    behaviour: Behaviour | None = setting(
        None, "how the behaviour policy comes about; default: sac, or ppo for choices, or the environment's controller"
    )
    num_steps: int = setting(300_000, "steps of its training")
    num_snapshots: int = setting(60, "how often it is scored and kept while it trains")
    score_episodes: int = setting(10, "episodes a score")
    medium_fraction: float = setting(1 / 3, "medium is the first snapshot that comes this far from random to expert")
    kinds: tuple[Kind, ...] = setting(KINDS, "which datasets to make")
    dataset_steps: int = setting(200_000, "steps of each dataset but medium-replay, which is as long as it took")
    options: tuple[str, ...] = setting((), "NAME=VALUE for the algorithm's class, e.g. learning_rate=1e-3")
    seed: int = setting(0, "seed of everything")

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: names the setting.
        """
        counts = ("num_steps", "num_snapshots", "score_episodes", "dataset_steps")
        require(self, counts, lambda value: value >= 1, "of at least 1")
        require(self, ("seed",), lambda value: value >= 0, "of at least 0")
        require(self, ("medium_fraction",), lambda value: 0 < value < 1, "between 0 and 1")
        if self.num_steps % self.num_snapshots:
            raise ConfigError(
                f"expected num_steps to be a multiple of num_snapshots; found {self.num_steps} and {self.num_snapshots}"
            )
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not self.kinds:
            raise ConfigError(f"expected kinds among {', '.join(KINDS)}; found {', '.join(unknown) or 'none'}")
