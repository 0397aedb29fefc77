"""Several processes that train one model, started by torchrun; alone, everything here does nothing.

PyTorch's DistributedDataParallel averages the gradients; this file knows who is first and what all must agree on.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number; 0 writes all files.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and bars."""
        return self.rank == 0

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process through the block before the others, which then find what it left."""
        if self.size > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.size > 1 and self.is_first:
            distributed.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.size

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process, so that all stop after the same step."""
        if self.size == 1:
            return flag
        asked = torch.tensor(float(flag), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(asked)
        return bool(asked.item())

    def share(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes; weights are the first one's."""
        return module if self.size == 1 else DistributedDataParallel(module)


def without_averaging(module: nn.Module) -> AbstractContextManager[None]:
    """While gradients of several batches add up, all but the last stay in their process."""
    if not isinstance(module, DistributedDataParallel):
        return nullcontext()
    quiet: AbstractContextManager[None] = module.no_sync()
    return quiet


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the other processes that torchrun started, if there are any, each on a GPU of its own if on GPUs.

    What `share` returned must not live on after the block.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), size)
    finally:
        # Whatever still holds the group would wait for its threads when it is freed later, and they for Python's lock.
        gc.collect()
        distributed.destroy_process_group()
