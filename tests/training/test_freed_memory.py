"""What a step freed the next one finds again, and the system has it back when the training is over."""

import platform

import psutil
import pytest
import torch
from page_faults import NUMBERS, faults

from hf_vipriors.training.freed_memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
CPU = torch.device("cpu")


def given_back() -> float:
    """Share of 256 MiB that the system has again once a tensor of that size is no more; no free block is as large."""
    process, tensor = psutil.Process(), torch.ones(4 * NUMBERS)
    held, size = process.memory_info().rss, tensor.nbytes
    del tensor
    return (held - process.memory_info().rss) / size


def test_freed_memory_is_found_again():
    outside = faults()
    with freed_memory_kept(CPU):
        faults(12)  # small blocks that others take may part the first few
        inside = faults()
    assert inside < outside / 4


def test_the_end_gives_it_back_even_after_an_error():
    process = psutil.Process()
    with pytest.raises(KeyError), freed_memory_kept(CPU):
        faults(1)
        held = process.memory_info().rss
        raise KeyError
    assert process.memory_info().rss < held - NUMBERS * 4 * 0.8
    assert given_back() > 0.8, "and so it goes on"


def test_only_a_cpu_keeps_it():
    with freed_memory_kept(torch.device("meta")):
        assert given_back() > 0.8
    with freed_memory_kept(CPU):
        assert given_back() < 0.2
