"""The random views of contrastive learning (MoCo v2's recipe), batched and per sample, where the model runs.

References:
    [0] Improved Baselines with Momentum Contrastive Learning, https://arxiv.org/abs/2003.04297
    [1] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .blur import draw_blur
from .colour import draw_jitter
from .rendering import Draws, render
from .sampling import Normalise, chosen, draw_crops


def default_patch_size(size: int) -> int:
    """96 pixels beside a view of 224 [1], others in proportion: a multiple of 8, at least 16, at most the view itself.

    Example:
        >>> [default_patch_size(size) for size in (8, 32, 64, 96, 224, 448)]
        [8, 16, 24, 40, 96, 192]
    """
    return min(size, max(16, round(size * 96 / 224 / 8) * 8))


class ContrastiveViews(nn.Module):
    """Independent random views of each image: crop, flip, colour jitter, grayscale, blur, normalise.

    With ``patches``, small views follow the full ones (multi-crop [1]): a patch of the image, at about the full
    views' magnification, so that many more views cost little.

    Args:
        size: side of a view in pixels.
        mean, std: the network's normalisation.
        views: how many views of each image. Default 2.
        crop_scale: area of the crop as a share of the image. Default (0.2, 1) [0].
        jitter: strength of brightness, contrast, saturation, hue. Default (0.4, 0.4, 0.4, 0.1) [0]. NOTE applied in
            this order; [0] draws the order anew for each image.
        jitter_probability: default 0.8 [0].
        grayscale: probability, default 0.2 [0].
        blur_sigma: default (0.1, 2.0) pixels at 224 [0]; NOTE scaled with the size of the view.
        blur: probability, default 0.5 [0].
        flip: probability, default 0.5 [0].
        patches: how many small views of each image. Default 0; [1] has 6 beside 2 full views (cropped at 0.14-1).
        patch_size: side of a small view in pixels. Default: 96 for a view of 224 [1], for others in proportion, as a
            multiple of 8 and at least 16.
        patch_scale: area of a patch as a share of the image. Default (0.05, 0.14) [1].

    Shape:
        uint8 ``(B, C, H, W)`` with C 1 or 3 -> list of ``views`` float ``(B, 3, size, size)``, then ``patches`` float
        ``(B, 3, patch_size, patch_size)``. The full views are the same whatever ``patches`` is.

    Raises:
        ValueError: on a negative number of patches, or a patch without pixels or larger than the view.

    Example:
        >>> views = ContrastiveViews(32, mean=[0.5] * 3, std=[0.5] * 3)
        >>> first, second = views(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.Generator().manual_seed(0))
        >>> first.shape
        torch.Size([4, 3, 32, 32])
        >>> views = ContrastiveViews(64, mean=[0.5] * 3, std=[0.5] * 3, patches=2)
        >>> images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
        >>> [view.shape[-1] for view in views(images, torch.Generator().manual_seed(0))]
        [64, 64, 24, 24]
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        views: int = 2,
        crop_scale: Sequence[float] = (0.2, 1.0),
        jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
        jitter_probability: float = 0.8,
        grayscale: float = 0.2,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        blur: float = 0.5,
        flip: float = 0.5,
        patches: int = 0,
        patch_size: int | None = None,
        patch_scale: Sequence[float] = (0.05, 0.14),
    ):
        super().__init__()
        if patches < 0:
            raise ValueError(f"patches must be >= 0, got {patches}")
        if patch_size is not None and not 0 < patch_size <= size:
            raise ValueError(f"patch_size must lie in 1 .. {size}, the side of a full view, got {patch_size}")
        self.size, self.views, self.crop_scale, self.flip = size, views, tuple(crop_scale), flip
        self.jitter, self.jitter_probability, self.grayscale = tuple(jitter), jitter_probability, grayscale
        self.blur_sigma, self.blur = tuple(blur_sigma), blur
        self.patches, self.patch_scale = patches, tuple(patch_scale)
        self.patch_size = default_patch_size(size) if patch_size is None else patch_size
        self.normalise = Normalise(mean, std)

    def forward(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        full = [self._view(images, self.size, self.crop_scale, generator) for _ in range(self.views)]
        return full + [self._view(images, self.patch_size, self.patch_scale, generator) for _ in range(self.patches)]

    def _view(self, images: Tensor, size: int, scale: Sequence[float], generator: torch.Generator) -> Tensor:
        count = len(images)
        draws = Draws(
            draw_crops(count, scale, generator, flip=self.flip),
            jitter=draw_jitter(count, self.jitter, self.jitter_probability, generator),
            hue=bool(self.jitter[3]),
            colour=~chosen(count, self.grayscale, generator),
            widths=draw_blur(count, self.blur_sigma, self.blur, generator, side=self.size),
            side=self.size,
        )
        return render(images, draws, size, self.normalise)
