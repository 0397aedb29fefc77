from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.helpers import tiny_transformer
from wikirl.errors import RunError
from wikirl.models.decision_transformer import DecisionTransformer
from wikirl.training.optimizer import (
    Grouping,
    MuonAndAdamW,
    Optimizer,
    constant_after_warmup,
    linear_decay_after_warmup,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    parameter_groups,
    set_rates,
)


@given(st.integers(0, 50), st.integers(1, 200))
def test_warmup_then_constant(warmup_steps: int, step: int) -> None:
    factor = constant_after_warmup(warmup_steps)
    assert factor(step) == (1.0 if step >= warmup_steps else step / warmup_steps)


@given(st.integers(0, 50), st.integers(1, 100))
def test_warmup_then_down_to_zero(warmup_steps: int, more: int) -> None:
    num_steps = warmup_steps + more
    factor = linear_decay_after_warmup(warmup_steps, num_steps)
    values = [factor(step) for step in range(1, num_steps + 2)]
    peak = max(warmup_steps, 1)
    assert values[peak - 1] == max(values) == 1.0 or warmup_steps == 0
    assert all(0 < value <= 1 for value in values[:-1])
    assert values[-1] == 0
    assert values[:peak] == [step / peak for step in range(1, peak + 1)] or warmup_steps == 0
    drops = [first - second for first, second in zip(values[peak:], values[peak + 1 :], strict=False)]
    assert drops == pytest.approx([1 / (num_steps + 1 - warmup_steps)] * len(drops))


def groups_of(grouping: Grouping, model: DecisionTransformer, **changes: Any) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"learning_rate": 0.1, "backbone_learning_rate": None, "weight_decay": 0.5}
    return parameter_groups(
        grouping,
        list(model.backbone.parameters()),
        model.own_parameters(),
        model.timestep_table if model.config.share_positions else None,
        **(options | changes),
    )


def counts(groups: Sequence[dict[str, Any]], model: nn.Module) -> dict[str, int]:
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    named = {name: ids.count(id(parameter)) for name, parameter in model.named_parameters()}
    assert sum(named.values()) == len(ids)
    return named


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("grouping", get_args(Grouping))
def test_every_parameter_once_except_the_shared_table(grouping: Grouping, shared: bool) -> None:
    model = tiny_transformer(share_positions=shared)
    found = counts(groups_of(grouping, model), model)
    twice = {name for name, count in found.items() if count != 1}
    assert twice == ({"backbone.wpe.weight"} if shared and grouping == "released" else set())
    assert all(found[name] == 2 for name in twice)


def test_rates_and_decays_of_the_groups() -> None:
    model = tiny_transformer(share_positions=True)
    for grouping in ("uniform", "released"):
        (group,) = groups_of(grouping, model, backbone_learning_rate=7.0)
        assert (group["lr"], group["weight_decay"]) == (0.1, 0.5)
    language, others = groups_of("paper", model, backbone_learning_rate=0.01)
    assert (language["lr"], language["weight_decay"]) == (0.01, 0.0)
    assert (others["lr"], others["weight_decay"]) == (0.1, 0.5)
    assert {id(p) for p in language["params"]} == {id(p) for p in model.backbone.parameters()}
    assert groups_of("paper", model)[0]["lr"] == 0.1


def toy_parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(4, 3, generator=generator)),
        nn.Parameter(torch.randn(3, generator=generator)),
    ]


def toy_groups(parameters: list[nn.Parameter], duplicated: bool) -> list[dict[str, Any]]:
    params = [*parameters, parameters[0]] if duplicated else list(parameters)
    return [{"params": params, "lr": 0.1, "weight_decay": 0.2}]


def toy_step(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
    for parameter in parameters:
        parameter.grad = torch.sin(parameter.detach() * 3 + step)
    optimizer.step()


@pytest.mark.parametrize("duplicated", [False, True])
def test_fused_unless_a_parameter_stands_twice(duplicated: bool) -> None:
    """Any warning would be an error here."""
    optimizer = make_optimizer(toy_groups(toy_parameters(), duplicated), epsilon=1e-6, betas=(0.8, 0.9))
    group = optimizer.param_groups[0]
    assert bool(group["fused"]) is not duplicated
    assert not group["foreach"]
    assert (group["eps"], group["betas"]) == (1e-6, (0.8, 0.9))


def test_rates_scale_each_groups_peak() -> None:
    first, second = toy_parameters()
    optimizer = make_optimizer([{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.4}])
    for factor in (0.5, 1.0, 0.25):
        set_rates(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [0.1 * factor, 0.4 * factor]


class HandAdam:
    """AdamW for one tensor, written out."""

    def __init__(self, value: Tensor) -> None:
        self.value, self.first, self.second, self.updates = value.clone(), 0 * value, 0 * value, 0

    def update(self, gradient: Tensor) -> None:
        self.updates += 1
        self.value *= 1 - 0.1 * 0.2
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        mean, square = self.first / (1 - 0.9**self.updates), self.second / (1 - 0.999**self.updates)
        self.value -= 0.1 * mean / (square.sqrt() + 1e-8)


@pytest.mark.parametrize("duplicated", [False, True])
def test_a_parameter_that_stands_twice_is_updated_twice(duplicated: bool) -> None:
    parameters = toy_parameters()
    optimizer = make_optimizer(toy_groups(parameters, duplicated))
    by_hand = [HandAdam(parameter.detach()) for parameter in parameters]
    for step in range(4):
        for parameter, hand, times in zip(parameters, by_hand, (2 if duplicated else 1, 1), strict=True):
            gradient = torch.sin(hand.value * 3 + step)
            parameter.grad = gradient.clone()
            for _ in range(times):
                hand.update(gradient)
        optimizer.step()
    for parameter, hand in zip(parameters, by_hand, strict=True):
        torch.testing.assert_close(parameter.detach(), hand.value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("duplicated", [False, True])
def test_saved_state_continues_to_the_same_bits(duplicated: bool, tmp_path: Path) -> None:
    parameters = toy_parameters()
    optimizer = make_optimizer(toy_groups(parameters, duplicated))
    for step in range(3):
        toy_step(parameters, optimizer, step)
    tensors = {name: value.contiguous() for name, value in optimizer_tensors(optimizer).items()}
    assert len(tensors) == 2 * 3  # a parameter that stands twice has one state
    assert {name.partition(".")[2] for name in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    save_file(tensors, tmp_path / "optimizer.safetensors")

    others = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    resumed = make_optimizer(toy_groups(others, duplicated))
    load_optimizer_tensors(resumed, load_file(tmp_path / "optimizer.safetensors"))
    assert resumed.param_groups[0]["peak_lr"] == 0.1
    for step in range(3, 6):
        toy_step(parameters, optimizer, step)
        toy_step(others, resumed, step)
    assert all(torch.equal(one, other) for one, other in zip(parameters, others, strict=True))
    fresh = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    toy_step(fresh, make_optimizer(toy_groups(fresh, duplicated)), 6)
    toy_step(parameters, optimizer, 6)
    assert not torch.equal(fresh[0], parameters[0])


def test_state_of_another_model_is_refused() -> None:
    parameters = toy_parameters()
    optimizer = make_optimizer(toy_groups(parameters, duplicated=False))
    toy_step(parameters, optimizer, 0)
    tensors = optimizer_tensors(optimizer)
    smaller = make_optimizer([{"params": toy_parameters()[:1], "lr": 0.1}])
    with pytest.raises(RunError, match="another model"):
        load_optimizer_tensors(smaller, tensors)


def toy_muon(parameters: list[nn.Parameter]) -> MuonAndAdamW:
    return MuonAndAdamW(parameters[:2], parameters[2:], learning_rate=0.1, others_learning_rate=0.02, weight_decay=0.2)


def muon_parameters() -> list[nn.Parameter]:
    return [*(nn.Parameter(p.detach()) for p in (torch.eye(3, 5), torch.ones(4, 2) * 0.3)), *toy_parameters()]


def muon_step(parameters: list[nn.Parameter], optimizer: Optimizer, step: int) -> None:
    for parameter in parameters:
        parameter.grad = torch.sin(parameter.detach() * 3 + step)
    optimizer.step()


def test_muon_takes_the_matrices_and_adamw_the_rest() -> None:
    parameters, plain = muon_parameters(), muon_parameters()
    optimizer = toy_muon(parameters)
    assert isinstance(optimizer, Optimizer)
    listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert listed == [id(parameter) for parameter in [*parameters[2:], *parameters[:2]]]
    assert [group["peak_lr"] for group in optimizer.param_groups] == [0.02, 0.1]
    set_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.05]

    adamw = make_optimizer([{"params": plain[2:], "lr": 0.01, "weight_decay": 0.2}], betas=(0.9, 0.95))
    muon = torch.optim.Muon(plain[:2], lr=0.05, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        muon_step(parameters, optimizer, step)
        muon_step(plain[2:], adamw, step)
        muon_step(plain[:2], muon, step)
    assert all(torch.equal(one, other) for one, other in zip(parameters, plain, strict=True))
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


def test_saved_state_of_both_continues_to_the_same_bits(tmp_path: Path) -> None:
    parameters = muon_parameters()
    optimizer = toy_muon(parameters)
    for step in range(3):
        muon_step(parameters, optimizer, step)
    save_file(optimizer_tensors(optimizer), tmp_path / "optimizer.safetensors")
    others = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    resumed = toy_muon(others)
    load_optimizer_tensors(resumed, load_file(tmp_path / "optimizer.safetensors"))
    assert optimizer_tensors(resumed).keys() == optimizer_tensors(optimizer).keys()
    for step in range(3, 6):
        muon_step(parameters, optimizer, step)
        muon_step(others, resumed, step)
    assert all(torch.equal(one, other) for one, other in zip(parameters, others, strict=True))
