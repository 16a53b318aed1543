"""Embeddings as unit vectors, where a vector without a direction teaches nothing instead of everything."""

from __future__ import annotations

import torch
from torch import Tensor

SHORTEST = 1e-12


def unit_rows(embeddings: Tensor) -> Tensor:
    r"""Each row divided by its length; a row of (almost) zeros becomes zeros, with a gradient of zeros.

    ``F.normalize`` divides such a row by 1e-12, and so its gradient too: one dead embedding then outweighs its batch
    a million million times, and is infinite in float16.

    Args:
        embeddings: ``(..., D)``, raw.

    Returns:
        ``(..., D)`` float32: rows of length 1, or 0 where the length was below 1e-12.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    embeddings = embeddings.float()
    return embeddings / lengths(embeddings)


def lengths(embeddings: Tensor) -> Tensor:
    """``(..., 1)`` what :func:`unit_rows` divides float32 rows by: infinity where there is no direction."""
    length = embeddings.norm(dim=-1, keepdim=True)
    return length.where(length > SHORTEST, torch.inf)
