"""What this machine has: cores that a process may use, and devices that a model can go to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .errors import InputError, one_line

Network = TypeVar("Network", bound=nn.Module)


_sharers = 1


def share_with(processes: int) -> None:
    """From now on so many processes, this one among them, divide cores and memory: each trains by itself."""
    global _sharers
    _sharers = processes


def sharers() -> int:
    """How many trainings go on at the same time here, each with its part of the machine."""
    return _sharers


def usable_cores() -> int:
    """Those that this process may use, which in a container, or beside others of ours, are fewer than there are."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // _sharers)


def seconds_waiting_for_cores() -> float:
    """How long this process's threads have stood ready to run while other processes had the cores, all added up.

    0 where the system does not tell (it is Linux that does).
    """
    waited = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        try:
            waited += int(thread.read_text().split()[1])
        except (OSError, IndexError):  # the thread has ended, or the kernel keeps no such account
            continue
    return waited / 1e9


def best_device() -> str:
    """The accelerator, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def to_device(model: Network, device: str) -> Network:
    """Move a model, in place.

    Raises:
        InputError: there is no such device here.
    """
    try:
        nn.Module.to(model, torch.device(device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:  # no such name or number, or torch without it
        reason = one_line(error, 120)
        raise InputError(f"--device {device} cannot be used ({reason}): try cpu, or leave it out") from None
    return model
