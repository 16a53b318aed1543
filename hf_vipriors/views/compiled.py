"""A view, all operations of one image after another, compiled: what a CPU runs, and on how many threads.

Over a batch, each operation of :mod:`.sampling`, :mod:`.colour` and :mod:`.blur` reads and writes all of it several
times; here an image stays in the nearest cache from its bytes to the normalised view, and what is not drawn for it is
not computed: a quarter of the time.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .kernels import kernel_for

_PART_PIXELS = 2**15  # of views that a thread makes at once: a quarter of a millisecond


def render_compiled(
    images: Tensor,
    crops: Tensor,
    jitter: Tensor,
    colour: Tensor,
    widths: Tensor,
    size: int,
    *,
    turned: bool,
    radius: int,
    scale: np.ndarray,
    shift: np.ndarray,
) -> Tensor:
    """Views of a batch, by as many threads as torch has; how many does not change a bit.

    Args:
        images: uint8 ``(B, C, H, W)`` with C 1 or 3, on the CPU.
        crops, jitter, colour, widths: random numbers of each image, as in :class:`~.rendering.Draws`.
        size: side of a view in pixels.
        turned: whether there are rotations or shears in ``crops``.
        radius: of the blur's kernel in pixels.
        scale, shift: ``(K,)`` with K 3, or C: a view is the pixel, in [0, 1], times the one plus the other.

    Returns:
        float ``(B, K, size, size)``, channels last.
    """
    count, step = len(images), max(1, _PART_PIXELS // size**2)
    view = np.empty((count, size, size, len(scale)), dtype=np.float32)
    arrays = [tensor.contiguous().numpy() for tensor in (images, crops, jitter, colour, widths)]
    parts = deque(range(0, count, step))  # whoever is free takes the next: what was drawn makes them unequal

    arguments = (*arrays, turned, radius, scale, shift, view, 0, count)
    kernel = kernel_for(arguments)

    def work() -> None:
        while True:
            try:
                first = parts.popleft()
            except IndexError:  # all are taken
                return
            kernel(*arguments[:-2], first, min(first + step, count))

    others = [_pool().submit(work) for _ in range(min(torch.get_num_threads(), len(parts)) - 1)]
    work()
    for other in others:
        other.result()
    return torch.from_numpy(view).permute(0, 3, 1, 2)


_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a forked one has none of its parent's threads


def _pool() -> ThreadPoolExecutor:
    """Threads start as they are needed; the compiled code does not hold Python's lock."""
    if os.getpid() not in _pools:
        _pools[os.getpid()] = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="views")
    return _pools[os.getpid()]
