"""Two peers, trained together without labels, teach each other which images are alike.

References:
    [0] Distill on the Go: Online Knowledge Distillation in Self-Supervised Learning, https://arxiv.org/abs/2104.09866
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from . import _checks
from ._divergence import row_divergence
from .unit_rows import unit_rows


@_checks.in_float32
def dogo(
    a_view1: Tensor,
    a_view2: Tensor,
    b_view1: Tensor,
    b_view2: Tensor,
    *,
    temperature: float = 0.1,
    reduction: Literal["batchmean", "mean"] = "batchmean",
) -> tuple[Tensor, Tensor]:
    r"""Mutual distillation of similarities: each peer is held to the other's, which is constant for it [0].

    .. math:: L_a = \frac{1}{B} \sum_i KL(softmax(S^b_i) \,\|\, softmax(S^a_i)), \quad
              S^a_{ij} = \cos(a^1_i, a^2_j) / T

    and :math:`L_b` the other way round. This is the distillation alone: each peer adds a contrastive loss of its own.

    Args:
        a_view1, a_view2: ``(B, D)`` embeddings of peer a, raw: the first and second views of the same images.
        b_view1, b_view2: ``(B, E)`` embeddings of peer b, of the same images; E may differ from D. Each peer may have
            drawn its own two views.
        temperature: T > 0 on cosines. Default 0.1 [0].
        reduction: ``"batchmean"``, the divergence itself, mean over the B rows; or ``"mean"``, as the published
            program has it, over all B * B entries: 1/B of it, for which its weights 100 (a) and 1 (b) were tuned.

    Returns:
        ``(loss_a, loss_b)``, float32 scalars; ``loss_a`` has gradients to peer a only, ``loss_b`` to peer b only.

    Raises:
        ValueError: on temperature <= 0, an unknown reduction, mismatched shapes, fewer than two images (the one row
            has one entry, the loss would be 0 whatever the peers do), NaN or infinity in a peer (each teaches).

    Example:
        >>> import torch
        >>> z = torch.eye(3)
        >>> loss_a, loss_b = dogo(z, z, z, z.roll(1, dims=0), temperature=1.0)
        >>> round(loss_a.item(), 4), round(loss_b.item(), 4)
        (0.3642, 0.3642)
    """
    _checks.positive(temperature, "temperature")
    if reduction not in ("batchmean", "mean"):
        raise ValueError(f"reduction must be 'batchmean' or 'mean', got {reduction!r}")
    _checks.embeddings(a_view1, "a_view1")
    _checks.embeddings(a_view2, "a_view2", like=a_view1)
    _checks.embeddings(b_view1, "b_view1")
    _checks.embeddings(b_view2, "b_view2", like=b_view1)
    if len(a_view1) != len(b_view1):
        raise ValueError(f"the peers must see the same images, got {len(a_view1)} of a and {len(b_view1)} of b")
    if len(a_view1) < 2:
        raise ValueError("dogo needs at least 2 images: with one there is no similarity to compare")
    for view, name in ((a_view1, "a_view1"), (a_view2, "a_view2"), (b_view1, "b_view1"), (b_view2, "b_view2")):
        _checks.finite(view, name)

    similarity_a, similarity_b = _cosines(a_view1, a_view2), _cosines(b_view1, b_view2)
    entries = 1 if reduction == "batchmean" else len(a_view1)
    loss_a = row_divergence(similarity_a, similarity_b, temperature).mean() / entries
    loss_b = row_divergence(similarity_b, similarity_a, temperature).mean() / entries
    return loss_a, loss_b


def _cosines(view1: Tensor, view2: Tensor) -> Tensor:
    return unit_rows(view1) @ unit_rows(view2).T
