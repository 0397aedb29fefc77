"""How a fine-tuning configuration is filled in: recipe, task, data; the user's word wins."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from wikirl.errors import ConfigError
from wikirl.evaluation.environments import EnvironmentSpec
from wikirl.recipes.settings import FinetuneConfig, resolve
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.types import Space

HOPPER = EnvironmentSpec("Hopper-v5", Space((11,), "float32"), Space((3,), "float32", -1.0, 1.0), 1000)
OTHER = EnvironmentSpec("Other-v0", Space((2,), "float32"), Space((1,), "float32", -1.0, 1.0), 7)
TRICKS = ("share_positions", "share_projection", "timestep_placement", "alignment", "parameter_groups")


def dataset(rewards: list[float]) -> TrajectoryDataset:
    steps = len(rewards)
    observations, actions = np.zeros((steps, 2), np.float32), np.zeros((steps, 1), np.float32)
    starts, terminated = np.array([0, steps]), np.array([True])
    return build_dataset("toy", observations, actions, np.array(rewards, np.float32), starts, terminated)


def resolved(environment: EnvironmentSpec | None = None, **options: Any) -> FinetuneConfig:
    return resolve(FinetuneConfig("file:toy", **options), dataset([1.0, 2.0, 3.0]), environment)


def test_nothing_is_left_open() -> None:
    config = resolved(HOPPER)
    open_fields = {field.name for field in fields(config) if getattr(config, field.name) is None}
    for_some = {"backbone_learning_rate", "cotraining_corpus", "language_text", "action_selection", "reference"}
    assert open_fields == {"environment"} | for_some


def test_the_fair_default_has_no_tricks() -> None:
    config = resolved()
    assert [getattr(config, name) for name in TRICKS] == [False, False, "before_norm", "none", "uniform"]
    assert (config.residual_dropout, config.adam_epsilon) == (0.1, 1e-8)


def test_recipes_switch_the_tricks_together() -> None:
    paper, released = resolved(recipe="paper"), resolved(recipe="released")
    assert [getattr(paper, name) for name in TRICKS] == [True, True, "after_norm", "paper", "paper"]
    assert [getattr(released, name) for name in TRICKS] == [True, True, "after_norm", "released", "released"]
    assert (released.residual_dropout, released.adam_epsilon, released.cotraining_weight) == (0.2, 1e-6, 1.0)


def test_the_user_wins_over_the_recipe() -> None:
    config = resolved(recipe="released", share_positions=False, residual_dropout=0.0, warmup_steps=0)
    assert (config.share_positions, config.residual_dropout, config.warmup_steps) == (False, 0.0, 0)
    assert config.share_projection is True


def test_warm_up_and_annealing_are_the_papers_at_its_length_and_shares_otherwise() -> None:
    assert (resolved().warmup_steps, resolved().anneal_steps, resolved().eval_every) == (10_000, 5_000, 2_500)
    short = resolved(num_steps=200)
    assert (short.warmup_steps, short.anneal_steps, short.eval_every, short.checkpoint_every) == (20, 10, 5, 5)


def test_a_task_of_the_paper_brings_its_constants() -> None:
    config = resolved(HOPPER)
    assert (config.target_returns, config.return_scale, config.max_timesteps) == ((3600.0, 1800.0), 1000.0, 1000)
    assert config.held_out_fraction == 0.0


def test_otherwise_the_data_decide() -> None:
    config = resolved()
    assert (config.target_returns, config.return_scale, config.max_timesteps) == ((6.0,), 6.0, 3)
    assert config.held_out_fraction == 0.1
    assert resolved(OTHER).max_timesteps == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("residual_dropout", 1.0),
        ("held_out_fraction", -0.1),
        ("target_returns", ()),
        ("backbone_learning_rate", 1e-5),
        ("eval_every", 0),
    ],
)
def test_settings_that_cannot_work(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name.split("_")[0]):
        resolve(replace(FinetuneConfig("file:toy"), **{name: value}), dataset([1.0]), None)
