"""Contrastive representation distillation: tell the pair (student, teacher) of one image from pairs of two.

References:
    [0] Contrastive Representation Distillation, https://arxiv.org/abs/1910.10699
    [1] Unsupervised Feature Learning via Non-Parametric Instance Discrimination, https://arxiv.org/abs/1805.01978
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _checks
from .unit_rows import lengths, unit_rows


@_checks.in_float32
def crd(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    images: int,
    temperature: float = 0.07,
    normaliser: Tensor | float = 1.0,
) -> Tensor:
    r"""Noise-contrastive estimation: is x the other network's embedding of the anchor's image, or of some other? [0]

    .. math:: L = -\frac{1}{B} \sum_a \Big[ \log h(a, p) + \sum_{j=1}^{K} \log (1 - h(a, n_j)) \Big], \quad
              h(a, x) = \frac{u}{u + K / N}, \quad u = \frac{e^{a \cdot x / T}}{Z}

    with N ``images`` to draw the K negatives from. Reckoned through log-sigmoids, h being the sigmoid of
    :math:`a \cdot x / T - \log Z - \log (K / N)`: h rounds to 0 or 1 in float32, its logarithm does not.

    With Z from :func:`crd_normaliser`, embeddings that are all alike give
    :math:`\log(1 + K) + K \log(1 + 1 / K)`, 10.7 at K = 16384: the level at which nothing is learnt.

    Args:
        anchor: ``(B, D)`` embeddings of one network, raw.
        positive: ``(B, D)`` the other network's, of the same images, raw. From a memory, like the negatives [0]: one
            that is live is pulled by its anchor, and pushed by nothing here.
        negatives: ``(B, K, D)`` the other network's, of K other images for each anchor, raw.
        images: N, how many images the negatives are drawn from: the size of the data set.
        temperature: T > 0 on cosines. Default 0.07 [0].
        normaliser: Z > 0, a constant; a number or a tensor with one element. Default 1 (none); the published training
            takes :func:`crd_normaliser` of the first batch.

    Gradients flow to whatever embedding carries one: the two networks take turns as anchor.

    Returns:
        Scalar mean over the batch (a sum over the negatives), float32.

    Raises:
        ValueError: on temperature <= 0, images < 1, a normaliser that is not one positive finite number, mismatched
            shapes, an empty batch, no negatives, NaN or infinity in an embedding.

    Example:
        >>> z = torch.eye(3)
        >>> negatives = torch.stack([z[1:], z[[0, 2]], z[:2]])
        >>> round(crd(z, z, negatives, images=3, temperature=0.5).item(), 4)
        1.919
        >>> level = crd_normaliser(z, z, negatives, images=3, temperature=0.5)
        >>> round(level.item(), 4)
        9.3891
        >>> round(crd(z, z, negatives, images=3, temperature=0.5, normaliser=level).item(), 4)
        0.9101
    """
    scores = _scores(anchor, positive, negatives, images, temperature)
    level = torch.as_tensor(normaliser, dtype=torch.float32, device=scores.device).detach()
    usable = not _checks.readable(level) or bool((level > 0).all() and torch.isfinite(level).all())
    if level.numel() != 1 or not usable:
        raise ValueError(f"normaliser must be one positive finite number, got {normaliser}")
    logits = scores - level.reshape(()).log() - math.log(negatives.shape[1] / images)
    return -(F.logsigmoid(logits[:, 0]) + F.logsigmoid(-logits[:, 1:]).sum(dim=1)).mean()


@torch.no_grad()
@_checks.in_float32
def crd_normaliser(
    anchor: Tensor, positive: Tensor, negatives: Tensor, *, images: int, temperature: float = 0.07
) -> Tensor:
    r"""The constant Z that makes u in :func:`crd` a probability over the N images, estimated from one batch [1].

    .. math:: Z = N \, \frac{1}{B (1 + K)} \sum_{a, x} e^{a \cdot x / T}

    Estimate it on the first batch and keep it: as a constant it costs no pass over the data set and gives no gradient.

    Args:
        anchor, positive, negatives, images, temperature: as in :func:`crd`.

    Returns:
        Scalar, float32, without gradient.

    Raises:
        ValueError: as :func:`crd`, and when ``exp(1 / T)`` leaves float32 (T below 0.0113).

    Example:
        >>> z = torch.ones(2, 4)
        >>> crd_normaliser(z, z, z[:, None], images=10, temperature=1.0)  # 10 e
        tensor(27.1828)
    """
    level = images * _scores(anchor, positive, negatives, images, temperature).exp().mean()
    if _checks.readable(level) and not torch.isfinite(level):
        raise ValueError(f"exp(cosine / T) overflows float32 at temperature {temperature}: take one above 0.0113")
    return level


def _scores(anchor: Tensor, positive: Tensor, negatives: Tensor, images: int, temperature: float) -> Tensor:
    """``(B, 1 + K)`` cosines of each anchor to its positive and its negatives, over the temperature."""
    _checks.positive(temperature, "temperature")
    _checks.positive(images, "images")
    _checks.embeddings(anchor, "anchor")
    _checks.embeddings(positive, "positive", like=anchor)
    batch, width = anchor.shape
    if negatives.ndim != 3 or 0 in negatives.shape or (len(negatives), negatives.shape[2]) != (batch, width):
        raise ValueError(f"negatives must be ({batch}, K, {width}) with K > 0, got shape {tuple(negatives.shape)}")
    _checks.finite(anchor, "anchor")
    _checks.finite(positive, "positive")
    anchor, positive = (unit_rows(t) for t in (anchor, positive))
    negatives = negatives.float()
    # Dividing the (B, K) products spares a normalised copy of the (B, K, D) negatives, by far the largest tensor here.
    others = torch.einsum("bd,bkd->bk", anchor, negatives) / lengths(negatives).squeeze(2)
    _checks.finite(others, "negatives")
    return torch.cat([(anchor * positive).sum(dim=1, keepdim=True), others], dim=1) / temperature
