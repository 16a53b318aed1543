"""InfoNCE against a queue of keys, with a margin on the positive [0]; MoCo v2 [1] is the case ``margin=0``.

References:
    [0] Distilling Visual Priors from Self-Supervised Learning, https://arxiv.org/abs/2008.00261
    [1] Improved Baselines with Momentum Contrastive Learning, https://arxiv.org/abs/2003.04297
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _checks, _queue
from .unit_rows import unit_rows


@_checks.in_float32
def margin_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    temperature: float = 0.2,
    margin: float = 0.4,
    query_index: Tensor | None = None,
    queue_index: Tensor | None = None,
) -> Tensor:
    r"""Pull each query to its own key, push it from the keys in the queue, and ask for a margin on the way.

    .. math:: L = -\log \frac{e^{(q \cdot k - m) / T}}{e^{(q \cdot k - m) / T} + \sum_j e^{q \cdot n_j / T}}

    The margin is taken off the positive only and before the division by T: the positive must win by ``margin`` in
    cosine, which makes few negatives count for more [0]. ``m = 0`` is MoCo v2. When nothing is learnt (every
    cosine alike) the loss is :func:`chance_level`.

    Args:
        query: ``(B, D)`` embeddings of the first views, raw; gradients flow here.
        key: ``(B, D)`` momentum-encoder embeddings of the second views, raw.
        queue: ``(K, D)`` earlier keys.
        temperature: T > 0 on cosines. Default 0.2 (MoCo v2 and [0]).
        margin: m in cosine, in [0, 2). Default 0.4 [0].
        query_index: ``(B,)`` number of each query's image in the data set.
        queue_index: ``(K,)`` number of the image behind each queue entry, -1 where none. Given both, entries that
            show the very image being queried are no negatives. Needed as soon as the queue is not far
            smaller than the data set.

    Returns:
        Scalar mean over the batch, float32.

    Raises:
        ValueError: on temperature <= 0, a margin outside [0, 2), mismatched shapes, an empty batch or queue, one
            index without the other.

    Example:
        >>> q = torch.eye(4)
        >>> queue = torch.eye(4)[:2]
        >>> round(margin_info_nce(q, q, queue, margin=0.0).item(), 4)
        0.3549
        >>> index = torch.arange(4)
        >>> round(margin_info_nce(q, q, queue, margin=0.0, query_index=index, queue_index=index[:2]).item(), 4)
        0.0101
    """
    _checks.positive(temperature, "temperature")
    if not 0 <= margin < 2:
        raise ValueError(f"margin is a difference of cosines and must lie in [0, 2), got {margin}")
    _checks.embeddings(query, "query")
    _checks.embeddings(key, "key", like=query)
    own = _queue.own_image(query, queue, query_index, queue_index)

    query, key, queue = (unit_rows(t) for t in (query, key, queue))
    negatives = query @ queue.T
    if own is not None:
        negatives = negatives.masked_fill(own, -torch.inf)
    positives = (query * key).sum(dim=1, keepdim=True) - margin
    logits = torch.cat([positives, negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def chance_level(negatives: int, *, temperature: float = 0.2, margin: float = 0.4) -> float:
    r"""The loss of a network that has learnt nothing: every cosine alike gives :math:`\ln(1 + K e^{m / T})`.

    A loss that stays there after warm-up is not learning, whatever its size ("is 8.32 normal?": it is ln 4096).

    Example:
        >>> round(chance_level(4096, temperature=0.2, margin=0.0), 2)
        8.32
        >>> round(chance_level(4096), 2)
        10.32
    """
    return math.log1p(negatives * math.exp(margin / temperature))
