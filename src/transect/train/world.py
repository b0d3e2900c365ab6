"""The processes of a run under torchrun: which one this is, how they wait for each other, and means over all
of them."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class World:
    """The processes of a run: which one this is, how many there are, where it computes."""

    rank: int
    size: int
    device: str

    def meet(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            import torch

            torch.distributed.barrier()

    def shared(self, model: Any, unused: bool = False) -> Any:
        """The model, its gradients averaged over the processes; unused: parameters may have none."""
        if self.size == 1:
            return model
        import torch

        return torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=unused)

    def gather(self, rows: list[Any]) -> list[Any]:
        """The rows of every process, in the order of their ranks."""
        if self.size == 1:
            return rows
        import torch

        every: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(every, rows)
        return [row for part in every for row in part]

    def mean(self, value: Any) -> Any:
        """The mean of a tensor over all processes."""
        if self.size > 1:
            import torch

            torch.distributed.all_reduce(value)
        return value / self.size


@contextlib.contextmanager
def joined(device: str | None) -> Iterator[World]:
    """The world that torchrun made, or one process."""
    import torch

    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if size > 1 else "cuda"
    name = device or (local if torch.cuda.is_available() else "cpu")
    if size == 1:
        yield World(0, 1, name)
        return
    torch.distributed.init_process_group("nccl" if name.startswith("cuda") else "gloo")
    try:
        yield World(rank, size, name)
    finally:
        torch.distributed.destroy_process_group()
