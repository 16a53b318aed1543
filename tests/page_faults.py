"""How often the system had to find memory."""

import resource

import torch

NUMBERS = 2**24  # float32: 64 MiB, more than what glibc would ever keep


def faults(times: int = 4) -> int:
    """Pages that the system had to find for ``times`` tensors of 64 MiB, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(NUMBERS)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
