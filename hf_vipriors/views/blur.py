"""Gaussian blur of each image by a width of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

from .sampling import chosen, uniform

# Beyond this many widths from its centre a Gaussian is below float32's resolution (exp(-5.5^2 / 2) = 3e-7).
_REACH = 5.5


def draw_blur(
    count: int, sigma: Sequence[float], probability: float, generator: torch.Generator, *, side: int
) -> Tensor:
    """``(count,)`` widths in pixels, 0 where an image stays sharp; ``sigma`` belongs to a view of 224 pixels."""
    widths = uniform(count, *sigma, generator) * max(side / 224, 0.25)
    return torch.where(chosen(count, probability, generator), widths, torch.zeros(count))


def blur(images: Tensor, widths: Tensor, side: int) -> Tensor:
    """Blur each image by its width, with a kernel of a tenth of the side and the border reflected.

    On a CPU symmetric taps are added up, no more than the widest Gaussian among the images needs (kornia's convolution
    took three to ten times as long); elsewhere by kornia.

    Args:
        images: float ``(B, C, H, W)``.
        widths: ``(B,)`` standard deviations in pixels, on the CPU; 0 for an image that stays as it is.
        side: side of the full view, which sets the kernel.

    Returns:
        float ``(B, C, H, W)``.
    """
    widest = float(widths.max())
    if widest == 0:
        return images
    # A kernel no wider than the image: its reflected border cannot be wider than the image itself.
    radius = max(1, min(int(0.1 * side), images.shape[-1] - 1) // 2)
    if images.device.type != "cpu":
        blurred = widths.nonzero().squeeze(1)
        per_axis = widths[blurred].to(images.device)[:, None].expand(-1, 2)
        rows = blurred.to(images.device)
        kernel = (2 * radius + 1, 2 * radius + 1)
        return images.index_copy(0, rows, gaussian_blur2d(images[rows], kernel, per_axis))
    radius = min(radius, math.ceil(_REACH * widest))
    # A width of (almost) 0 has one tap, of exactly 1.
    taps = torch.exp(-0.5 * (torch.arange(radius + 1) / widths.clamp(min=1e-3)[:, None]) ** 2)
    taps = taps / (2 * taps.sum(dim=1, keepdim=True) - taps[:, :1])
    for axis, border in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        images = _tapped(F.pad(images, border, mode="reflect"), taps.view(len(taps), -1, 1, 1, 1), axis)
    return images


def _tapped(padded: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Convolve along ``axis`` with symmetric taps ``(B, radius + 1, 1, 1, 1)``, the centre first."""
    radius = taps.shape[1] - 1
    length = padded.shape[axis] - 2 * radius
    total = padded.narrow(axis, radius, length) * taps[:, 0]
    for step in range(1, radius + 1):
        pair = padded.narrow(axis, radius - step, length) + padded.narrow(axis, radius + step, length)
        total += pair.mul_(taps[:, step])
    return total


def random_blur(
    images: Tensor,
    sigma: Sequence[float],
    probability: float,
    generator: torch.Generator,
    *,
    full_side: int | None = None,
) -> Tensor:
    """Gaussian blur of each image with ``probability``; sigma in pixels of a 224-pixel view, scaled to this one.

    The published sigma, 0.1 to 2, belongs to 224 pixels; unscaled it would wipe out a 32-pixel picture.

    Args:
        images: float ``(B, C, H, W)``.
        sigma: smallest and largest width at 224 pixels.
        probability: an image is blurred at all with this probability.
        generator: the only source of randomness.
        full_side: side of the full view, which sets the scale, where ``images`` are patches of its magnification: they
            are smaller because they show less, not because they are coarser. Default: the side of ``images``.
    """
    side = images.shape[-1] if full_side is None else full_side
    return blur(images, draw_blur(len(images), sigma, probability, generator, side=side), side)
