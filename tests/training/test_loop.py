import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers import random_batch, tiny_gpt, tiny_transformer
from wikirl.errors import DivergedError
from wikirl.kernels import draw_dropout_from
from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.reproducibility import seed_everything
from wikirl.training.loop import Objective, StepMetrics, Term, train
from wikirl.training.losses import masked_action_mse
from wikirl.training.optimizer import (
    constant_after_warmup,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    parameter_groups,
)


def objective_of(model: DecisionTransformer) -> Objective:
    def objective(step: int) -> dict[str, Term]:
        batch = random_batch(seed=step)
        predicted = model(batch).actions
        return {
            "action_loss": Term(masked_action_mse(predicted, batch.actions, batch.mask)),
            "size": Term(predicted.square().mean(), 0.1),
        }

    return objective


def optimizer_of(model: DecisionTransformer, grouping: Any = "uniform") -> torch.optim.AdamW:
    backbone = [p for p in model.backbone.parameters() if p.requires_grad]
    others = [p for p in model.own_parameters() if p.requires_grad]
    shared = model.timestep_table if model.config.share_positions else None
    return make_optimizer(
        parameter_groups(
            grouping,
            backbone,
            others,
            shared,
            learning_rate=0.01,
            backbone_learning_rate=None,
            weight_decay=0.1,
        )
    )


def dropping_model(**options: Any) -> DecisionTransformer:
    seed_everything(1)
    gpt = tiny_gpt(embedding_dropout=0.1, attention_dropout=0.1, residual_dropout=0.1)
    return tiny_transformer(gpt, **options).train()


def dropping_from(model: DecisionTransformer, seed: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(seed)
    draw_dropout_from(model, [generator])
    return generator


@pytest.mark.parametrize("grouping", ["uniform", "released"])
def test_resuming_gives_the_bits_of_a_run_in_one_piece(grouping: str) -> None:
    schedule = constant_after_warmup(4)
    whole = dropping_model(share_positions=True)
    dropping_from(whole, 2)
    expected = list(train(objective_of(whole), optimizer_of(whole, grouping), schedule, num_steps=6))

    first = dropping_model(share_positions=True)
    generator = dropping_from(first, 2)
    optimizer = optimizer_of(first, grouping)
    found: list[StepMetrics] = []
    for metrics in train(objective_of(first), optimizer, schedule, num_steps=6):
        found.append(metrics)
        if metrics.step == 3:
            break
    saved = copy.deepcopy((first.state_dict(), optimizer_tensors(optimizer), generator.get_state()))

    second = dropping_model(share_positions=True)
    optimizer = optimizer_of(second, grouping)
    second.load_state_dict(saved[0])
    load_optimizer_tensors(optimizer, saved[1])
    dropping_from(second, 77).set_state(saved[2])
    found += train(objective_of(second), optimizer, schedule, num_steps=6, first_step=4)

    assert found == expected
    assert [metrics.step for metrics in found] == [1, 2, 3, 4, 5, 6]
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def one_parameter(value: Callable[[Tensor, int], Tensor], start: float = 1.0, **options: Any) -> list[StepMetrics]:
    parameter = nn.Parameter(torch.full((2,), start))
    optimizer = make_optimizer([{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}])
    return list(
        train(
            lambda step: {"value": Term(value(parameter, step))},
            optimizer,
            constant_after_warmup(0),
            **options,
        )
    )


def test_metrics_say_what_a_step_did() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = make_optimizer([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])

    def objective(_: int) -> dict[str, Term]:
        return {"one": Term(weight.sum()), "other": Term(weight.sum() ** 2, 0.5)}

    (metrics,) = train(objective, optimizer, constant_after_warmup(4), num_steps=1)
    assert metrics.terms == {"one": 3.0, "other": 9.0}
    assert metrics.loss == 7.5
    assert metrics.gradient_norm == pytest.approx(4)
    assert metrics.learning_rate == pytest.approx(0.025)
    assert weight.item() == pytest.approx(3 - 0.025)


@pytest.mark.parametrize(("clip_norm", "expected"), [(0.25, 0.25), (100.0, 5.0), (0.0, 5.0)])
def test_gradients_are_clipped_by_their_global_norm(clip_norm: float, expected: float) -> None:
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = make_optimizer([{"params": weights, "lr": 0.1, "weight_decay": 0.0}])
    (metrics,) = train(
        lambda _: {"value": Term(3 * weights[0].sum() + 4 * weights[1].sum())},
        optimizer,
        constant_after_warmup(0),
        num_steps=1,
        clip_norm=clip_norm,
    )
    assert metrics.gradient_norm == pytest.approx(5)
    assert weights[0].grad is not None
    assert weights[1].grad is not None
    assert weights[0].grad.item() == pytest.approx(expected * 0.6, rel=1e-4)
    assert weights[1].grad.item() == pytest.approx(expected * 0.8, rel=1e-4)


def test_a_parameter_that_stands_twice_counts_once_in_the_norm() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer([{"params": [weight, weight], "lr": 0.1, "weight_decay": 0.0}])
    (metrics,) = train(lambda _: {"value": Term(3 * weight.sum())}, optimizer, constant_after_warmup(0), num_steps=1)
    assert metrics.gradient_norm == pytest.approx(3)
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(0.25, rel=1e-4)


def test_gradients_do_not_pile_up() -> None:
    norms = [metrics.gradient_norm for metrics in one_parameter(lambda p, _: p.sum(), num_steps=3)]
    assert norms == pytest.approx([math.sqrt(2)] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_before_it_reaches_the_weights(bad: float) -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = make_optimizer([{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}])
    steps = train(
        lambda step: {
            "fine": Term(parameter.sum()),
            "odd": Term(parameter.sum() * (bad if step == 3 else 1.0)),
        },
        optimizer,
        constant_after_warmup(0),
        num_steps=5,
    )
    assert [next(steps).step, next(steps).step] == [1, 2]
    before = parameter.detach().clone()
    with pytest.raises(DivergedError, match=r"at step 3.*odd") as error:
        next(steps)
    assert "\n" not in str(error.value)
    assert torch.equal(parameter, before)


def test_gradients_that_are_no_numbers_stop_the_run_before_they_reach_the_weights() -> None:
    """√x at 0: the loss is 0 and its gradient infinite."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = make_optimizer([{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}])
    with pytest.raises(DivergedError, match="gradient"):
        list(
            train(
                lambda _: {"root": Term(parameter.sqrt().sum())},
                optimizer,
                constant_after_warmup(0),
                num_steps=2,
            )
        )
    assert torch.equal(parameter, torch.zeros(2))


@pytest.mark.parametrize("what", ["blocks", "all_but_norms_and_projections"])
def test_frozen_parameters_do_not_move(what: Any) -> None:
    model = tiny_transformer().train()
    model.freeze(what)
    before = copy.deepcopy(dict(model.named_parameters()))
    list(train(objective_of(model), optimizer_of(model), constant_after_warmup(0), num_steps=3))
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    unused = {"backbone.wte.weight", "backbone.wpe.weight"}
    assert moved == {name for name, value in model.named_parameters() if value.requires_grad} - unused
    assert moved
    assert len(moved) < len(before)


def test_it_learns() -> None:
    target = torch.tensor([0.3, -0.2])
    losses = [m.loss for m in one_parameter(lambda p, _: functional.mse_loss(p, target), num_steps=100)]
    assert losses[-1] < losses[0] / 100
