"""wikirl: does pre-training a sequence model on something else make it a better learner of decisions?

The names below are the library's front door; they are imported on first use, so that `import wikirl` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wikirl.models.bundle import load_any_policy as load_any_policy
    from wikirl.models.bundle import load_policy as load_policy
    from wikirl.models.decision_transformer import DecisionTransformer as DecisionTransformer
    from wikirl.recipes.baseline import baseline as baseline
    from wikirl.recipes.baseline_settings import BaselineConfig as BaselineConfig
    from wikirl.recipes.evaluate import evaluate_run as evaluate_run
    from wikirl.recipes.finetune import finetune as finetune
    from wikirl.recipes.pretrain import pretrain as pretrain
    from wikirl.recipes.pretrain_settings import PretrainConfig as PretrainConfig
    from wikirl.recipes.settings import FinetuneConfig as FinetuneConfig
    from wikirl.trajectories.dataset import TrajectoryDataset as TrajectoryDataset
    from wikirl.trajectories.sampling import ContextSampler as ContextSampler
    from wikirl.trajectories.sources import load_trajectories as load_trajectories
    from wikirl.types import Policy as Policy
    from wikirl.types import Space as Space
    from wikirl.types import TrajectoryBatch as TrajectoryBatch

_HOMES = {
    "BaselineConfig": "recipes.baseline_settings",
    "ContextSampler": "trajectories.sampling",
    "DecisionTransformer": "models.decision_transformer",
    "FinetuneConfig": "recipes.settings",
    "Policy": "types",
    "PretrainConfig": "recipes.pretrain_settings",
    "Space": "types",
    "TrajectoryBatch": "types",
    "TrajectoryDataset": "trajectories.dataset",
    "baseline": "recipes.baseline",
    "evaluate_run": "recipes.evaluate",
    "finetune": "recipes.finetune",
    "load_any_policy": "models.bundle",
    "load_policy": "models.bundle",
    "load_trajectories": "trajectories.sources",
    "pretrain": "recipes.pretrain",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wikirl' has no attribute {name!r}")
    return getattr(import_module(f"wikirl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
