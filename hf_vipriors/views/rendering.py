"""From the random numbers of a view to the view: where every kind of view ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .blur import blur, kernel_radius
from .colour import grayscale_, jitter_
from .sampling import Normalise, check_bytes, on_device, sample, to_float


@dataclass(frozen=True)
class Draws:
    """What was drawn for each image of a batch, on the CPU.

    Args:
        crops: ``(B, 2, 3)`` of :func:`~.sampling.draw_crops`.
        turned: whether there are rotations or shears in ``crops``, or they leave the image.
        jitter: ``(B, 4)`` of :func:`~.colour.draw_jitter`. Default: colours stay.
        hue: whether any hue changes.
        colour: ``(B,)`` booleans, false where the colour is taken. Default: it stays.
        widths: ``(B,)`` of :func:`~.blur.draw_blur`. Default: no blur.
        side: side in pixels of the view that ``widths`` belong to: larger than the view itself for a patch.
    """

    crops: Tensor
    turned: bool = False
    jitter: Tensor | None = None
    hue: bool = True
    colour: Tensor | None = None
    widths: Tensor | None = None
    side: int | None = None


@torch.no_grad()
def render(images: Tensor, draws: Draws, size: int, normalise: Normalise | None = None) -> Tensor:
    """Crop, flip and resize (and turn), jitter, take the colour, blur, normalise: where the images are.

    A CPU runs compiled code, any other device torch and kornia; the views are the same to 1e-4.

    Args:
        images: uint8 ``(B, C, H, W)`` with C 1 or 3.
        draws: of the same images.
        size: side of a view in pixels.
        normalise: default None: in [0, 1].

    Returns:
        float ``(B, C, size, size)``, normalised as many channels as the network has; channels last.

    Raises:
        ValueError: images of another type or shape.

    Example:
        >>> from hf_vipriors.views.sampling import draw_crops
        >>> draws = Draws(draw_crops(4, (0.2, 1.0), torch.Generator().manual_seed(0)))
        >>> render(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), draws, 32).shape
        torch.Size([4, 1, 32, 32])
    """
    check_bytes(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"views take uint8 images with 1 or 3 channels, got {tuple(images.shape)}")
    if images.device.type == "cpu":
        return _on_cpu(images, draws, size, normalise)
    view = by_torch(images, draws, size)
    return (view if normalise is None else normalise.scaled(view)).contiguous(memory_format=torch.channels_last)


def _on_cpu(images: Tensor, draws: Draws, size: int, normalise: Normalise | None) -> Tensor:
    from .compiled import render_compiled  # numba takes a second to load, and where there is a GPU nobody needs it

    count, channels = images.shape[:2]
    plain = np.ones(channels, dtype=np.float32), np.zeros(channels, dtype=np.float32)
    scale, shift = plain if normalise is None else normalise.affine
    return render_compiled(
        images,
        draws.crops,
        torch.tensor([[1.0, 1.0, 1.0, 0.0]]).expand(count, -1) if draws.jitter is None else draws.jitter,
        torch.ones(count, dtype=torch.bool) if draws.colour is None else draws.colour,
        torch.zeros(count) if draws.widths is None else draws.widths,
        size,
        turned=draws.turned,
        radius=kernel_radius(draws.side or size, size),
        scale=scale,
        shift=shift,
    )


def by_torch(images: Tensor, draws: Draws, size: int) -> Tensor:
    """The same, not normalised, one operation after another on the whole batch."""
    optional = [draw for draw in (draws.jitter, draws.colour) if draw is not None]
    crops, *moved = on_device(images.device, draws.crops, *optional)
    view = sample(to_float(images), crops, size, turned=draws.turned)
    if draws.jitter is not None:
        view = jitter_(view, moved.pop(0), hue=draws.hue)
    if draws.colour is not None:
        view = grayscale_(view, moved.pop(0))
    return view if draws.widths is None else blur(view, draws.widths, draws.side or size)
