"""Which pixels an answer hangs on: input gradients of a class's logit, averaged over noisy copies of the image.

References:
    [0] SmoothGrad: removing noise by adding noise, https://arxiv.org/abs/1706.03825
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from matplotlib.figure import Figure
from torch import Tensor

from ..models import VipriorsForImageClassification
from ..views import EvaluationView
from .report_figures import FONT_SIZE, INK

SAMPLES = 25
NOISE = 0.15
BLUR = 0.03
_IMAGES_ACROSS = 6
# Of the sorted gradients of one image, this share is shown at full strength: one bright pixel must not dim the rest.
_FULL_STRENGTH = 0.99


def saliency(
    model: VipriorsForImageClassification,
    images: Tensor,
    classes: Tensor | None = None,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    blur: float = BLUR,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> np.ndarray:
    r"""SmoothGrad [0]: how strongly each pixel moves the logit of one class.

    .. math:: M_{ij} = \max_c \Big| \frac1n \sum_{k=1}^n \frac{\partial z_y(x + \epsilon_k)}{\partial x_{cij}} \Big|,
        \qquad \epsilon_k \sim \mathcal N(0, \sigma^2), \quad \sigma = \text{noise} \cdot (\max x - \min x)

    Any network that has a gradient will do: nothing is hooked, no layer is named.

    Args:
        model: a classifier; it predicts in eval mode and is left in the mode it had, without gradients of its own.
        images: uint8 (B, C, S, S), cropped as the model's own preprocessing crops them.
        classes: (B,) outputs of the model to explain; None (default): the class it predicts for the clean image.
        samples: noisy copies of each image, n. Default 25: beyond 50 little changes [0].
        noise: share of the image's range. Default 0.15, within the 10 to 20 % that [0] recommends.
        blur: width of the Gaussian that evens out the map, as a share of the side. Default 0.03, ours: strided layers
            look at every second pixel more than at its neighbour, and their grid would be all one sees. 0: none.
        batch_size: copies at once.
        device: where the model is.
        seed: of the noise; the same seed gives the same map, whatever the batch size.

    Returns:
        (B, S, S) float32 within 0 and 1: each image's own scale, its 99th percentile at 1; all zeros for an image
        whose logit no pixel moves.

    Raises:
        ValueError: images that are not uint8 (B, C, H, W), no samples, negative noise or blur, or classes that do
            not fit.

    Example:
        >>> from hf_vipriors.models import VipriorsConfig
        >>> config = VipriorsConfig.for_backbone("resnet18", image_size=32, class_names=["cat", "dog"])
        >>> model = VipriorsForImageClassification(config)
        >>> saliency(model, torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8), samples=2).shape
        (2, 32, 32)
    """
    if samples < 1 or noise < 0 or blur < 0:
        raise ValueError(f"expected samples >= 1, noise >= 0, blur >= 0, got {samples}, {noise}, {blur}")
    config, training = model.config, model.training
    model.eval()
    clean = EvaluationView(config.image_mean, config.image_std)(images)
    if classes is None:
        with torch.no_grad():
            classes = torch.cat(
                [model(part.to(device)).logits.argmax(dim=1).cpu() for part in clean.split(batch_size)]
            )
    if classes.shape != images.shape[:1] or not 0 <= int(classes.min()) <= int(classes.max()) < config.num_labels:
        raise ValueError(f"expected {len(images)} classes in 0..{config.num_labels - 1}, got {classes.tolist()}")
    width = noise * (clean.amax(dim=(1, 2, 3), keepdim=True) - clean.amin(dim=(1, 2, 3), keepdim=True))
    generator = torch.Generator().manual_seed(seed)
    mean = torch.zeros_like(clean)
    for _ in range(samples):
        noisy = clean + width * torch.randn(clean.shape, generator=generator)
        pairs = zip(noisy.split(batch_size), classes.split(batch_size), strict=True)
        mean += torch.cat([_gradient(model, part.to(device), wanted.to(device)) for part, wanted in pairs]) / samples
    model.train(training)
    return _scaled(_blurred(mean.abs().amax(dim=1), blur)).numpy()


def _gradient(model: VipriorsForImageClassification, images: Tensor, classes: Tensor) -> Tensor:
    """d logit of each image's class / d image, on the CPU; the parameters get no gradient."""
    images.requires_grad_()
    logits = model(images).logits.gather(1, classes[:, None])
    # The sum, for no image sees another one in eval mode.
    return torch.autograd.grad(logits.sum(), images)[0].float().cpu()


def _blurred(maps: Tensor, blur: float) -> Tensor:
    width = blur * maps.shape[-1]
    # Three widths to each side hold 99.7 % of the Gaussian; reflection needs less than the side.
    reach = min(math.ceil(3 * width), min(maps.shape[-2:]) - 1)
    if reach < 1:
        return maps
    return gaussian_blur2d(maps[:, None], 2 * reach + 1, (width, width))[:, 0]


def _scaled(maps: Tensor) -> Tensor:
    rows = maps.flatten(1)
    full = torch.from_numpy(np.quantile(rows.numpy(), _FULL_STRENGTH, axis=1)).to(maps)
    # Where almost all of a map is zero, its greatest value is the scale.
    full = torch.where(full > 0, full, rows.amax(dim=1))[:, None, None]
    return torch.where(full > 0, maps / full.clamp(min=torch.finfo(maps.dtype).tiny), 0).clamp(0, 1)


def saliency_figure(images: Sequence[np.ndarray], maps: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Images above, the same under their saliency below.

    Args:
        images: uint8, (H, W), (H, W, 1) or (H, W, 3).
        maps: (H, W) each, within 0 and 1.
        titles: one an image.
    """
    count = len(images)
    across = min(_IMAGES_ACROSS, count)
    down = math.ceil(count / across)
    figure = Figure(figsize=(1.75 * across, 3.75 * down), layout="constrained")
    panels = figure.subplots(2 * down, across, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for number, (image, saliency, title) in enumerate(zip(images, maps, titles, strict=True)):
        row, column = divmod(number, across)
        for axes, drawn in zip(panels[2 * row : 2 * row + 2, column], (image, overlaid(image, saliency)), strict=True):
            axes.imshow(np.squeeze(drawn), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        panels[2 * row, column].set_title(title, color=INK, fontsize=FONT_SIZE - 1)
    return figure


def overlaid(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """An image in gray under its saliency in orange: uint8 (H, W, 3).

    Args:
        image: uint8, (H, W), (H, W, 1) or (H, W, 3).
        saliency: (H, W), within 0 and 1.

    Example:
        >>> overlaid(np.full((1, 2), 200, np.uint8), np.array([[0.0, 1.0]])).tolist()
        [[[120, 120, 120], [255, 140, 0]]]
    """
    gray = np.asarray(image, dtype=float)
    gray = gray.reshape(*gray.shape[:2], -1).mean(axis=2)
    # Darker, so that white clothes and snow do not hide what is laid over them.
    base = np.repeat(0.6 * gray[..., None], 3, axis=2)
    share = np.asarray(saliency, dtype=float)[..., None]
    return ((1 - share) * base + share * np.array([255.0, 140.0, 0.0])).round().astype(np.uint8)
