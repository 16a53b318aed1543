"""What every view shares: uint8 in, per-sample random numbers from one generator, crop-flip-resize in one sampling.

A view is a pure function of (images, generator state): random numbers are drawn on the CPU from the generator given,
never from the global state, so a run resumed in the middle sees the views it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# How views are sampled; evaluation resizes likewise, or the network meets images of another sharpness than it learnt
# (small images enlarged bicubically cost 0.7 points of top-1).
VIEW_INTERPOLATION = "bilinear"


def draw(rows: int, count: int, generator: torch.Generator) -> np.ndarray:
    """``(rows, count)`` numbers in [0, 1), row after row as so many calls of ``torch.rand`` give them.

    In numpy: of a few hundred numbers an operation costs torch several times as long, and a view has dozens.
    """
    return torch.rand(rows, count, generator=generator).numpy()


def numbered(shares: np.ndarray, count: int) -> np.ndarray:
    """Numbers in [0, 1) as whole ones below ``count``, each as likely."""
    return np.minimum((shares * count).astype(np.int64), count - 1)  # float32 may round up


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """``(count,)`` numbers in [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def chosen(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """``(count,)`` booleans, each true with ``probability``."""
    return torch.rand(count, generator=generator) < probability


def check_bytes(images: Tensor) -> None:
    """Raise ValueError unless these are uint8 ``(B, C, H, W)``."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"views take uint8 (B, C, H, W) images, got {images.dtype} {tuple(images.shape)}")


def to_float(images: Tensor) -> Tensor:
    """uint8 ``(B, C, H, W)`` -> float in [0, 1], the scale that colour operations and the statistics expect."""
    check_bytes(images)
    return images.float().div_(255)


def draw_crops(
    count: int,
    scale: Sequence[float],
    generator: torch.Generator,
    *,
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    flip: float | Tensor = 0.5,
    rotation: float = 0.0,
    shear: float = 0.0,
) -> Tensor:
    """Draw a part of each image, flipped, turned and sheared: where :func:`sample` samples it.

    The area is uniform in ``scale``, the aspect log-uniform in ``ratio``; a side longer than the image is cut to it.

    Args:
        count: how many images.
        scale: smallest and largest area of the crop, as shares of the image.
        generator: the only source of randomness.
        ratio: smallest and largest width/height of the crop.
        flip: probability of a left-right flip; or ``(count,)`` booleans, already drawn, so that crops can share them.
        rotation: largest angle in degrees, uniform to both sides. Default 0: none, and no number is drawn.
        shear: largest horizontal shear, uniform to both sides. Default 0: none, and no number is drawn.

    Returns:
        float ``(count, 2, 3)``, in ``affine_grid``'s frame.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shares = draw(4, count, generator)
    area = scale[0] + (scale[1] - scale[0]) * shares[0]
    aspect = np.exp(low + (high - low) * shares[1])
    width, height = np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)
    flipped = (flip if isinstance(flip, Tensor) else chosen(count, flip, generator)).numpy()
    affine = np.zeros((count, 2, 3), dtype=np.float32)
    affine[:, 0, 0], affine[:, 1, 1] = np.where(flipped, -width, width), height
    # In affine_grid's frame the image spans [-1, 1]: the crop's centre may move by what the crop leaves free.
    affine[:, 0, 2], affine[:, 1, 2] = (1 - width) * (2 * shares[2] - 1), (1 - height) * (2 * shares[3] - 1)
    if rotation or shear:
        turn, lean = 2 * draw(2, count, generator) - 1
        angle = math.radians(rotation) * turn
        turns = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
        turns[:, :, 1] += turns[:, :, 0] * (shear * lean)[:, None]
        affine[:, :, :2] = affine[:, :, :2] @ turns
    return torch.from_numpy(affine)


def draw_shifts(
    count: int, pixels: int, size: int, generator: torch.Generator, *, flip: float | Tensor = 0.5
) -> Tensor:
    """Draw the whole of each image, flipped, moved by whole pixels: where :func:`sample` samples it as ``turned``.

    What comes in at an edge is the image's reflection, the edge pixel first.

    Args:
        count: how many images.
        pixels: largest shift along each axis, uniform over the ``2 * pixels + 1`` whole ones.
        size: side in pixels of the view.
        generator, flip: as for :func:`draw_crops`.

    Returns:
        float ``(count, 2, 3)``, in ``affine_grid``'s frame.
    """
    shifts = np.floor((2 * pixels + 1) * draw(2, count, generator)) - pixels
    flipped = (flip if isinstance(flip, Tensor) else chosen(count, flip, generator)).numpy()
    affine = np.zeros((count, 2, 3), dtype=np.float32)
    affine[:, 0, 0], affine[:, 1, 1] = np.where(flipped, -1, 1), 1
    affine[:, :, 2] = 2 / size * shifts.T
    return torch.from_numpy(affine)


def sample(images: Tensor, affine: Tensor, size: int, *, turned: bool = False) -> Tensor:
    """Crop, flip and resize (and turn) in one bilinear sampling.

    Args:
        images: float ``(B, C, H, W)``.
        affine: ``(B, 2, 3)`` of :func:`draw_crops`.
        size: side of the square result in pixels.
        turned: whether there are rotations or shears in ``affine``, or it leaves the image.

    Returns:
        float ``(B, C, size, size)``.
    """
    if turned:
        grid = F.affine_grid(affine, [len(images), images.shape[1], size, size], align_corners=False)
        return F.grid_sample(images, grid, mode=VIEW_INTERPOLATION, padding_mode="reflection", align_corners=False)
    # Upright: a row has one y and a column one x. Never outside the image, where the paddings differ.
    centre = (torch.arange(size, device=images.device) * 2 + 1) / size - 1
    x = affine[:, 0, :1] * centre + affine[:, 0, 2:]
    y = affine[:, 1, 1:2] * centre + affine[:, 1, 2:]
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    return F.grid_sample(images, grid, mode=VIEW_INTERPOLATION, padding_mode="border", align_corners=False)


def resized(images: Tensor, side: int | None) -> Tensor:
    """``(B, C, H, W)`` brought to the one side that a network takes, antialiased; None, or that side: as they are."""
    if side is None or images.shape[-1] == side:
        return images
    return F.interpolate(images, size=side, mode="bilinear", antialias=True, align_corners=False)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """What the host made, where it is wanted: the copy is begun, not waited for."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def on_device(device: torch.device, *draws: Tensor) -> list[Tensor]:
    """Random numbers ``(B, ...)``, drawn on the CPU, as floats where the images are: one copy, not waited for."""
    if device.type == "cpu":
        return [draw.float() for draw in draws]
    packed = torch.cat([draw.reshape(len(draw), -1).float() for draw in draws], dim=1)
    parts = to_device(packed, device).split([draw[0].numel() for draw in draws], dim=1)
    return [part.reshape(draw.shape) for part, draw in zip(parts, draws, strict=True)]


class Normalise(nn.Module):
    """Expand gray to three channels, subtract the mean, divide by the deviation: what the network expects.

    Args:
        mean, std: one number a channel, on the [0, 1] scale.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

        # The same as one product and one sum, for what is computed without torch.
        deviation = np.array(std, dtype=np.float32)
        self.affine = (1 / deviation, -np.array(mean, dtype=np.float32) / deviation)

    def forward(self, images: Tensor) -> Tensor:
        return self.scaled(images).contiguous(memory_format=torch.channels_last)

    def scaled(self, images: Tensor) -> Tensor:
        """The same in the layout of ``images``."""
        return (images.expand(-1, self.mean.shape[1], -1, -1) - self.mean).div_(self.std)
