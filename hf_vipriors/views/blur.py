"""Gaussian blur of each image by a width of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

from .sampling import chosen, uniform

# Beyond this many widths from its centre a Gaussian is below float32's resolution (exp(-5.5^2 / 2) = 3e-7).
_REACH = 5.5
_SMALL = 96  # pixels: below, the calls for each image cost more than the taps that only some of them need


def draw_blur(
    count: int, sigma: Sequence[float], probability: float, generator: torch.Generator, *, side: int
) -> Tensor:
    """``(count,)`` widths in pixels, 0 where an image stays sharp; ``sigma`` belongs to a view of 224 pixels."""
    widths = uniform(count, *sigma, generator) * max(side / 224, 0.25)
    return torch.where(chosen(count, probability, generator), widths, torch.zeros(count))


def blur(images: Tensor, widths: Tensor, side: int) -> Tensor:
    """Blur each image by its width, with a kernel of a tenth of the side and the border reflected.

    By kornia; but on a CPU, where its convolution takes several times as long, by adding up symmetric taps, no more
    than the Gaussians need.

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
    # A kernel no wider than the image: its reflected border cannot be wider than the image itself.
    radius = max(1, min(int(0.1 * side), images.shape[-1] - 1) // 2)
    if images.device.type != "cpu":
        per_axis = widths[blurred].to(images.device)[:, None].expand(-1, 2)
        kernel, rows = (2 * radius + 1, 2 * radius + 1), blurred.to(images.device)
        return images.index_copy(0, rows, gaussian_blur2d(images[rows], kernel, per_axis))
    taps = torch.exp(-0.5 * (torch.arange(radius + 1) / widths[blurred][:, None]) ** 2)
    taps = taps / (2 * taps.sum(dim=1, keepdim=True) - taps[:, :1])
    images = images.clone()
    if images.shape[-1] < _SMALL:
        images[blurred] = _summed(images[blurred], taps.view(*taps.shape, 1, 1, 1).unbind(dim=1))
        return images
    reaches = (widths[blurred] * _REACH).ceil().int().tolist()
    for row, reach, numbers in zip(blurred.tolist(), reaches, taps.tolist(), strict=True):
        images[row] = _summed(images[row], numbers[: reach + 1])
    return images


def _summed(images: Tensor, taps: Sequence[Tensor] | Sequence[float]) -> Tensor:
    """``(..., H, W)`` along rows and then along columns, two taps at a time, from the centre outwards."""
    radius = len(taps) - 1
    images = F.pad(images, (radius,) * 4, mode="reflect")
    for axis in (-1, -2):
        length = images.shape[axis] - 2 * radius
        total = images.narrow(axis, radius, length) * taps[0]
        for step, tap in enumerate(taps[1:], start=1):
            pair = images.narrow(axis, radius - step, length) + images.narrow(axis, radius + step, length)
            # A number for a tap saves a pass.
            total.add_(pair, alpha=tap) if isinstance(tap, float) else total.add_(pair.mul_(tap))
        images = total
    return images


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
