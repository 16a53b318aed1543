"""Several processes from one import: a test's worker forks itself, which spares seconds of imports a process."""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable

import torch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_world(processes: int, work: Callable[[], None]) -> None:
    """Run ``work`` in ``processes`` forks with the environment that torchrun gives; raises when one of them fails.

    A fork must not inherit threads or a process group: the caller sets one thread and trains nothing itself.
    """
    gc.freeze()  # what the imports made is not searched for garbage in each of them
    port, children = free_port(), []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
            os.environ["WORLD_SIZE"] = str(processes)
            torch.set_num_threads(1)
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        children.append(child)
    codes = []
    while len(codes) < processes and not any(codes):
        child, status = os.wait()
        codes.append(os.waitstatus_to_exitcode(status))
        children.remove(child)
    for child in children:  # one has failed: the others would wait for it
        os.kill(child, 9)
        os.waitpid(child, 0)
    if any(codes):
        raise RuntimeError(f"a process of {processes} failed")
