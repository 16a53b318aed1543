"""Images as bad cameras, weather and codecs make them: test images out of distribution without a download.

Four families in five severities, after ImageNet-C [0], with numbers of our own: [0] was made for 224 pixels, so blurs
and shifts are shares of the side here, and noise is weaker, as small images have fewer pixels to average it over.

References:
    [0] Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
        https://arxiv.org/abs/1903.12261
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kornia.contrib import diamond_square
from kornia.enhance import adjust_brightness, adjust_contrast_with_mean_subtraction, jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from kornia.filters import motion_blur as kornia_motion_blur
from kornia.geometry.transform import elastic_transform2d
from torch import Tensor
from torch.nn import functional as F

from ..errors import check_choice
from .sampling import to_float, uniform

SEVERITIES = (1, 2, 3, 4, 5)


def gaussian_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Noise of the sensor: standard deviations on the [0, 1] scale."""
    deviation = (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1]
    return images + deviation * torch.randn(images.shape, generator=generator).to(images.device)


def shot_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Too little light: so many photons make a white pixel."""
    photons = (200, 80, 35, 18, 9)[severity - 1]
    return (torch.poisson(images.cpu() * photons, generator=generator) / photons).to(images.device)


def impulse_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Salt and pepper: this share of the values is black or white."""
    share = (0.01, 0.03, 0.06, 0.11, 0.2)[severity - 1]
    hit = torch.rand(images.shape, generator=generator).to(images.device)
    return torch.where(hit < share / 2, 0.0, torch.where(hit < share, 1.0, images))


def gaussian_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Out of focus: standard deviations as shares of the side, on small images from 0.4 to 0.8 pixels."""
    side = images.shape[-1]
    sigma = max((0.01, 0.015, 0.02, 0.03, 0.04)[severity - 1] * side, 0.3 + 0.1 * severity)
    kernel = _kernel(6 * sigma, side)
    return gaussian_blur2d(images, (kernel, kernel), (sigma, sigma))


def motion_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Camera shake: streaks of these shares of the side, in a direction of each image's own."""
    length = (0.05, 0.08, 0.12, 0.16, 0.22)[severity - 1] * images.shape[-1]
    # On small images the shares would fall together: each severity has at least its own odd kernel, 3 to 11.
    kernel = _kernel(max(length, 2 * severity + 1), images.shape[-1])
    angle = uniform(len(images), 0, 180, generator).to(images.device)
    return kornia_motion_blur(images, kernel, angle, torch.zeros_like(angle), mode="bilinear")


def fog(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """White haze of this density, in clouds (plasma fractals [0])."""
    density = (0.3, 0.4, 0.5, 0.6, 0.7)[severity - 1]
    clouds = diamond_square((len(images), 1, *images.shape[-2:]), 0.6, random_fn=_uniform_by(generator))
    haze = density * (0.6 + 0.4 * clouds.to(images.device))
    return images * (1 - haze) + haze


def brightness(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Over-exposed: added to every value."""
    return adjust_brightness(images, (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1])


def contrast(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Flat: this factor times the distance from the image's mean."""
    return adjust_contrast_with_mean_subtraction(images, (0.6, 0.45, 0.3, 0.2, 0.1)[severity - 1])


def elastic(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Stretched here, squeezed there: smooth random shifts, their standard deviation as a share of the side."""
    side = images.shape[-1]
    shift, sigma = (0.008, 0.014, 0.02, 0.028, 0.038)[severity - 1], 0.05 * side
    # White noise smoothed by a Gaussian of width s keeps 1 / (2 s sqrt(pi)) of its deviation; a side spans 2 in the
    # sampling grid.
    strength = 2 * shift * 2 * sigma * math.sqrt(math.pi)
    noise = torch.randn(len(images), 2, *images.shape[-2:], generator=generator).to(images.device)
    kernel = _kernel(6 * sigma, side)
    return elastic_transform2d(
        images, noise, (kernel, kernel), (sigma, sigma), (strength, strength), padding_mode="reflection"
    )


def pixelate(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Enlarged from fewer pixels: these shares of the side."""
    share = (0.5, 0.4, 0.3, 0.22, 0.16)[severity - 1]
    small = [max(2, round(share * side)) for side in images.shape[-2:]]
    return F.interpolate(F.interpolate(images, size=small, mode="area"), size=images.shape[-2:], mode="nearest-exact")


def jpeg(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Compressed too much: JPEG at these qualities."""
    quality = images.new_tensor([(30.0, 18.0, 10.0, 6.0, 3.0)[severity - 1]])
    coded = jpeg_codec_differentiable(images.expand(-1, 3, -1, -1).contiguous(), quality)
    return coded if images.shape[1] == 3 else coded.mean(dim=1, keepdim=True)


CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    each.__name__: each
    for each in (
        *(gaussian_noise, shot_noise, impulse_noise),
        *(gaussian_blur, motion_blur),
        *(fog, brightness, contrast),
        *(elastic, pixelate, jpeg),
    )
}


@torch.no_grad()
def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """Corrupt a batch, each image by random numbers of its own.

    Args:
        images: uint8 ``(B, C, H, W)``, C 1 or 3.
        name: a key of :data:`CORRUPTIONS`.
        severity: 1 (slight) to 5.
        generator: the only source of randomness, on the CPU.

    Returns:
        uint8, the same shape.

    Raises:
        InputError: an unknown corruption.
        ValueError: a severity outside 1..5, images of another type or shape.

    Example:
        >>> gray = torch.full((2, 1, 28, 28), 100, dtype=torch.uint8)
        >>> bright = corrupt(gray, "brightness", 2, torch.Generator().manual_seed(0))
        >>> bright.shape, bright[0, 0, 0, 0]
        (torch.Size([2, 1, 28, 28]), tensor(151, dtype=torch.uint8))
    """
    check_choice(name, CORRUPTIONS, "corruptions")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be one of {SEVERITIES}, got {severity}")
    changed = CORRUPTIONS[name](to_float(images), severity, generator)
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8)


def _kernel(width: float, side: int) -> int:
    """The odd kernel for a width in pixels, at least 3; its reflected border cannot be wider than the image."""
    return max(3, min(round(width), 2 * side - 2) // 2 * 2 + 1)


def _uniform_by(generator: torch.Generator) -> Callable[..., Tensor]:
    """``torch.rand`` as kornia calls it, drawn from a generator."""

    def draw(shape: torch.Size, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=dtype).to(device)

    return draw
