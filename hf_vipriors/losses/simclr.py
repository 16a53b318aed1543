"""NT-Xent: every other image of the batch is a negative.

References:
    [0] A Simple Framework for Contrastive Learning of Visual Representations, https://arxiv.org/abs/2002.05709
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _checks
from .unit_rows import unit_rows


@_checks.in_float32
def nt_xent(view1: Tensor, view2: Tensor, *, temperature: float = 0.5, margin: float = 0.0) -> Tensor:
    r"""Normalised temperature-scaled cross-entropy over the 2B views of a batch [0].

    .. math:: L = -\frac{1}{2B} \sum_i \log \frac{e^{s_i}}{e^{s_i} + \sum_{j \ne i, p(i)} e^{z_i \cdot z_j / T}},
              \quad s_i = (z_i \cdot z_{p(i)} - m) / T

    where p(i) is the other view of image i. A view is never its own negative. When nothing is learnt the loss is
    ``chance_level(2 * B - 2)`` of :mod:`hf_vipriors.losses.moco`.

    Args:
        view1: ``(B, D)`` embeddings of the first views, raw.
        view2: ``(B, D)`` embeddings of the second views, raw, row for row the same images.
        temperature: T > 0 on cosines. Default 0.5 [0].
        margin: taken off the positive before the division by T, as in :func:`margin_info_nce`. Default 0.

    Returns:
        Scalar mean over the 2B anchors, float32.

    Raises:
        ValueError: on temperature <= 0, a margin outside [0, 2), mismatched shapes, or fewer than two images
            (no negatives: the loss would be 0 whatever the network does).

    Example:
        >>> z = torch.eye(4)
        >>> round(nt_xent(z, z).item(), 4)
        0.5944
    """
    _checks.positive(temperature, "temperature")
    if not 0 <= margin < 2:
        raise ValueError(f"margin is a difference of cosines and must lie in [0, 2), got {margin}")
    _checks.embeddings(view1, "view1")
    _checks.embeddings(view2, "view2", like=view1)
    batch = len(view1)
    if batch < 2:
        raise ValueError("nt_xent needs at least 2 images: with one there is no negative")

    views = unit_rows(torch.cat([view1, view2]))
    anchors = torch.arange(2 * batch, device=views.device)
    positives = anchors.roll(batch)
    similarity = views @ views.T
    similarity = similarity.masked_fill(anchors[:, None] == anchors[None, :], -torch.inf)
    if margin:
        similarity = similarity - margin * F.one_hot(positives, 2 * batch)
    return F.cross_entropy(similarity / temperature, positives)
