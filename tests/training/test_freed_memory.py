"""What a step freed the next one finds again, and the system has it back when the training is over."""

import platform
import resource

import psutil
import pytest
import torch

from hf_vipriors.training.freed_memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
CPU = torch.device("cpu")
NUMBERS = 2**24  # float32: 64 MiB, more than what glibc would ever keep


def faults(times: int = 4) -> int:
    """Pages that the system had to find for ``times`` tensors, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(NUMBERS)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_found_again():
    outside = faults()
    with freed_memory_kept(CPU):
        faults(1)
        inside = faults()
    assert inside < outside / 4


def test_the_end_gives_it_back_even_after_an_error():
    process = psutil.Process()
    with pytest.raises(KeyError), freed_memory_kept(CPU):
        faults(1)
        held = process.memory_info().rss
        raise KeyError
    assert process.memory_info().rss < held - NUMBERS * 4 * 0.8
    assert faults() > 4 * faults(1) / 2  # each asks the system again


def test_another_device_keeps_the_usual_ways():
    outside = faults()
    with freed_memory_kept(torch.device("meta")):
        faults(1)
        assert faults() > outside / 2
