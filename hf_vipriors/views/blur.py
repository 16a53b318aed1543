"""Gaussian blur of each image by a width of its own.

References:
    [0] A Simple Framework for Contrastive Learning of Visual Representations, https://arxiv.org/abs/2002.05709
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from torch import Tensor

from .sampling import draw, to_device

REACH = 5.5
"""Beyond this many widths from its centre a Gaussian is below float32's resolution: exp(-5.5^2 / 2) = 3e-7."""


def draw_blur(
    count: int, sigma: Sequence[float], probability: float, generator: torch.Generator, *, side: int
) -> Tensor:
    """``(count,)`` widths in pixels, 0 where an image stays sharp; ``sigma`` belongs to a view of 224 pixels."""
    shares = draw(2, count, generator)
    widths = (sigma[0] + (sigma[1] - sigma[0]) * shares[0]) * max(side / 224, 0.25)
    return torch.from_numpy(np.where(shares[1] < probability, widths, np.float32(0)))


def kernel_radius(side: int, smallest: int) -> int:
    """Pixels on each side of the kernel's centre: the kernel is a tenth of the view wide [0].

    Args:
        side: of the full view.
        smallest: side of the images themselves; a reflected border cannot be wider.

    Example:
        >>> [kernel_radius(side, side) for side in (8, 32, 224)], kernel_radius(448, 8)
        ([1, 1, 11], 3)
    """
    return max(1, min(int(0.1 * side), smallest - 1) // 2)


def blur(images: Tensor, widths: Tensor, side: int) -> Tensor:
    """Blur each image by its width, with a kernel of a tenth of the side and the border reflected.

    Args:
        images: float ``(B, C, H, W)``.
        widths: ``(B,)`` standard deviations in pixels, on the CPU; 0 for an image that stays as it is.
        side: side of the full view, which sets the kernel.

    Returns:
        float ``(B, C, H, W)``.
    """
    blurred = widths.nonzero().squeeze(1)
    if not len(blurred):
        return images
    # Kernels are made on the CPU: kornia's gaussian_blur2d looks at the widths, for which a device must be waited for.
    kernel = get_gaussian_kernel1d(2 * kernel_radius(side, images.shape[-1]) + 1, widths[blurred][:, None])
    kernel, rows = to_device(kernel, images.device), to_device(blurred, images.device)
    return images.index_copy(0, rows, filter2d_separable(images[rows], kernel, kernel))
