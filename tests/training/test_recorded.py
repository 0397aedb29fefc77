"""Recorded gradients against plain ones; on a CPU the calls are made again, on a GPU a graph is replayed."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from wikirl.kernels import Dropout, draw_dropout_from
from wikirl.training.loop import StepMetrics, Term, train
from wikirl.training.optimizer import constant_after_warmup, make_optimizer
from wikirl.training.recorded import Recorded


class Toy:
    """A linear model with dropout, a batch for each step, and a second term that fades."""

    def __init__(self, device: str, *, recorded: bool) -> None:
        torch.manual_seed(0)
        self.linear, self.dropout = nn.Linear(3, 2).to(device), Dropout(0.5)
        self.generator = torch.Generator(device).manual_seed(1)
        draw_dropout_from(self.dropout, [self.generator])
        self.batches = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(2))
        self.device = device
        self.recorded = Recorded(self.terms, list(self.linear.parameters()), [self.generator]) if recorded else None

    def terms(self, batch: Tensor, fading: Tensor) -> Mapping[str, Term]:
        keep = self.dropout.mask((4, 3), batch.device)
        assert keep is not None
        outputs = self.linear(batch * keep)
        return {"error": Term(outputs.square().mean()), "pull": Term(outputs.sum(), 0.1 * fading)}

    def objective(self, step: int) -> Mapping[str, Term]:
        inputs = self.batches[step - 1], torch.tensor(1 / step)
        if self.recorded:
            return self.recorded(*inputs)
        return self.terms(*(value.to(self.device) for value in inputs))

    def curve(self) -> list[StepMetrics]:
        optimizer = make_optimizer([{"params": list(self.linear.parameters()), "lr": 0.01, "weight_decay": 0.0}])
        return list(train(self.objective, optimizer, constant_after_warmup(2), num_steps=9))


def test_recorded_steps_are_the_plain_ones() -> None:
    plain, recorded = Toy("cpu", recorded=False), Toy("cpu", recorded=True)
    assert recorded.curve() == plain.curve()
    assert torch.equal(recorded.linear.weight, plain.linear.weight)
    assert torch.equal(recorded.generator.get_state(), plain.generator.get_state())


def test_terms_come_back_without_a_graph_and_gradients_in_place() -> None:
    toy = Toy("cpu", recorded=True)
    terms = toy.objective(1)
    assert not any(term.value.requires_grad for term in terms.values())
    first = toy.linear.weight.grad
    assert first is not None
    before = first.clone()
    toy.generator.manual_seed(1)
    toy.objective(1)
    assert toy.linear.weight.grad is not None
    assert torch.equal(toy.linear.weight.grad, before)  # written, not added


@pytest.mark.gpu
def test_a_replayed_graph_gives_the_plain_curve() -> None:
    plain, recorded = Toy("cuda", recorded=False), Toy("cuda", recorded=True)
    for found, expected in zip(recorded.curve(), plain.curve(), strict=True):
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert torch.equal(recorded.generator.get_state(), plain.generator.get_state())
