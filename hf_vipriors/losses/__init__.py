"""Losses: pure functions on tensors. No parameters, no state, one file per paper.

Embeddings come in raw, each loss L2-normalises them itself; each returns a float32 scalar, also under autocast.
"""

from . import overhaul
from .moco import chance_level, margin_info_nce
from .simclr import nt_xent

__all__ = ["chance_level", "margin_info_nce", "nt_xent", "overhaul"]
