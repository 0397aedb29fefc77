"""A step's gradients recorded once as a CUDA graph and replayed: one launch in place of some hundred.

A Decision Transformer of ChibiT's size keeps a GPU waiting for launches, not the other way round. Recording needs fixed
shapes and inputs that are tensors; on a CPU the same calls are simply made again. Never run on a GPU so far
(tests/training/test_recorded.py has the test for one).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from wikirl.training.loop import Term

WARMUPS = 3  # as PyTorch's notes on CUDA graphs advise


class Recorded:
    """Terms of a loss whose gradients are in place when they come back; they carry no graph of their own.

    Source: PyTorch, notes on CUDA graphs, "whole-network capture".
    """

    def __init__(
        self,
        terms: Callable[..., Mapping[str, Term]],
        parameters: Sequence[nn.Parameter],
        generators: Sequence[torch.Generator],
    ) -> None:
        """Prepare; the first call records.

        Args:
            terms: Computes the terms from tensors alone. Must not read a value back or depend on anything else that
                changes from step to step.
            parameters: Whose gradients are wanted.
            generators: All that `terms` draws from; they go on as if it had been called as often as this is.
        """
        self._compute, self._parameters, self._generators = terms, parameters, generators
        self._inputs: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._terms: dict[str, Term] = {}

    def __call__(self, *inputs: Tensor) -> dict[str, Term]:
        """The terms for these inputs, which may lie on the CPU; overwritten by the next call."""
        if not self._inputs:
            device = self._parameters[0].device
            self._inputs = [torch.empty_like(value, device=device) for value in inputs]
        for mine, value in zip(self._inputs, inputs, strict=True):
            mine.copy_(value)
        if self._inputs[0].is_cuda and self._graph is None:
            self._graph = self._record()
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()
        return self._terms

    def _run(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None  # so that the gradients are written, not added
        terms = self._compute(*self._inputs)
        torch.stack([(term.value * term.weight).sum() for term in terms.values()]).sum().backward()
        self._terms = {name: Term(term.value.detach(), term.weight) for name, term in terms.items()}

    def _record(self) -> torch.cuda.CUDAGraph:
        states = [generator.get_state() for generator in self._generators]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUPS):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self._run()
        return graph
