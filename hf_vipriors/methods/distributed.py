"""The collectives the methods need; each is the identity in a single process.

Every process must hold the same number of rows: the Trainer's loader fills up the last batch of an epoch for that, and
:class:`hf_vipriors.training.RunArguments` refuses the option that would leave it uneven.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ..views.sampling import to_device


def world() -> tuple[int, int]:
    """(rank, number of processes)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes in rank order, without gradient."""
    _, size = world()
    if size == 1:
        return tensor
    tensor = tensor.contiguous()  # before the parts are made like it: NCCL copies memory, whatever its layout
    parts = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(parts, tensor)
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """The rows of all processes; backward gives the local rows the sum of the gradients of every process."""

    @staticmethod
    def forward(context, tensor: Tensor) -> Tensor:
        return gather(tensor)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return local_rows(total)


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Rows of all processes in rank order; backward sums every process's gradient for the local rows.

    With the same loss computed on every process, DDP's mean over processes then gives the exact gradient of that loss.
    """
    return tensor if world()[1] == 1 else _Gather.apply(tensor)


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of the processes' values, the same on each, without gradient."""
    _, size = world()
    if size == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / size


def local_rows(tensor: Tensor) -> Tensor:
    """This process's share of rows gathered in rank order."""
    rank, size = world()
    return tensor.chunk(size)[rank] if size > 1 else tensor


def everywhere(condition: bool, device: torch.device) -> bool:
    """Whether ``condition`` holds on every process: what all must do together, all decide alike."""
    if world()[1] == 1:
        return condition
    votes = torch.tensor(int(condition), device=device)
    dist.all_reduce(votes, op=dist.ReduceOp.MIN)
    return bool(votes)


def shared_permutation(count: int, device: torch.device) -> Tensor:
    """The same random order on every process: rank 0 draws it."""
    order = to_device(torch.randperm(count), device)
    if world()[1] > 1:
        dist.broadcast(order, src=0)
    return order
