"""Random colours of each image: brightness, contrast, saturation, hue, grayscale; in as few passes as it takes.

The formulas are those of kornia.enhance (and of Pillow before it), whose functions the tests compare with; written out
here because each of theirs takes several passes and new memory: together they took seven times as long on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .sampling import draw

_TINY = torch.finfo(torch.float32).tiny
LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in gray, Rec. 601."""
# The angle, in turns, from which each channel's distance is measured: half a turn from where it is strongest.
_OPPOSITE = (3 / 6, 5 / 6, 1 / 6)


def draw_jitter(count: int, strength: Sequence[float], probability: float, generator: torch.Generator) -> Tensor:
    """``(count, 4)``: factors of brightness, contrast, saturation, and hue in turns; 1 and 0 where unchanged."""
    shares = draw(5, count, generator)
    change = np.where(shares[0] < probability, 2 * shares[1:] - 1, 0) * np.array(strength, dtype=np.float32)[:, None]
    return torch.from_numpy(np.array([[1, 1, 1, 0]], dtype=np.float32) + change.T)


def luma(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` -> ``(B, 1, H, W)``: Rec. 601."""
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def jitter_(images: Tensor, factors: Tensor, *, hue: bool = True) -> Tensor:
    """Change brightness, contrast, saturation and hue in place, in this order.

    Args:
        images: float ``(B, C, H, W)`` in [0, 1]; with one channel there is neither saturation nor hue.
        factors: ``(B, 4)`` of :func:`draw_jitter`.
        hue: whether any hue changes.

    Returns:
        ``images``.
    """
    brightness, contrast, saturation, turns = factors.view(-1, 4, 1, 1, 1).unbind(dim=1)
    images.mul_(brightness).clamp_(0, 1)
    gray = images if images.shape[1] == 1 else luma(images)
    mean = gray.mean(dim=(1, 2, 3), keepdim=True)
    images.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 1)
    if images.shape[1] == 1:
        return images
    gray = luma(images)
    images.mul_(saturation).add_(gray.mul_(1 - saturation)).clamp_(0, 1)
    return turn_hue_(images, turns.squeeze(1)) if hue else images


def turn_hue_(images: Tensor, turns: Tensor) -> Tensor:
    r"""Turn the hue of HSV in place.

    With the hue :math:`h` in turns, :math:`v` the largest and :math:`m` the smallest channel of a pixel, a channel
    that is strongest at :math:`p` (0, 1/3, 2/3) is

    .. math:: m + (v - m) \, \mathrm{clamp}(2 - 6 |h - p|_{circle}, 0, 1)

    Args:
        images: float ``(B, 3, H, W)`` in [0, 1].
        turns: ``(B, 1, 1)``, in turns of the colour circle, in [-1, 1].

    Returns:
        ``images``.
    """
    red, green, blue = images.unbind(dim=1)
    largest, smallest = torch.maximum(red, green), torch.minimum(red, green)
    torch.maximum(largest, blue, out=largest)
    torch.minimum(smallest, blue, out=smallest)
    spread = largest - smallest
    # Sixths of a turn times the spread: 4 + (red - green) where blue is largest, then where green is, then red.
    angle = torch.sub(red, green).add_(spread, alpha=4)
    angle += _where_largest(green, largest, torch.sub(blue, red).add_(spread, alpha=2).sub_(angle))
    angle += _where_largest(red, largest, torch.sub(green, blue).sub_(angle))
    six = spread * 6
    # Gray pixels have no spread, and any hue does.
    angle.div_(torch.clamp(six, min=1e-12, out=largest)).add_(turns + 1).frac_()
    brightest = smallest.add_(spread, alpha=2)
    distance = largest
    for channel, opposite in zip((red, green, blue), _OPPOSITE, strict=True):
        torch.sub(angle, opposite, out=distance).abs_().sub_(0.5).abs_().clamp_(1 / 6, 2 / 6)
        torch.addcmul(brightest, six, distance, value=-1, out=channel)
    return images


def _where_largest(channel: Tensor, largest: Tensor, values: Tensor) -> Tensor:
    """``values`` where a channel is its pixel's largest, else 0: ReLU's backward, several times as fast as a where."""
    return torch.ops.aten.threshold_backward(values, channel - largest, -_TINY)


def grayscale_(images: Tensor, colour: Tensor) -> Tensor:
    """Take the colour in place where ``colour`` ``(B,)`` is 0 and leave it where it is 1; gray images stay."""
    if images.shape[1] == 1:
        return images
    colour = colour.view(-1, 1, 1, 1)
    gray = luma(images)
    return images.mul_(colour).add_(gray.mul_(1 - colour))
