"""Losses: pure functions on tensors. No parameters, no state, one file per paper.

Embeddings come in raw, each loss L2-normalises them itself; each returns a float32 scalar, also under autocast
(``dogo`` two of them, ``sskd.sskd`` its parts by name, ``fixmatch`` has thresholds and weights).
"""

from . import fixmatch, overhaul, sskd
from .crd import crd, crd_normaliser
from .dogo import dogo
from .fitnet import fitnet
from .kd import kd
from .moco import chance_level, margin_info_nce
from .seed import seed
from .simclr import nt_xent
from .sskd import SskdLosses
from .unit_rows import unit_rows

__all__ = [
    "SskdLosses",
    "chance_level",
    "crd",
    "crd_normaliser",
    "dogo",
    "fitnet",
    "fixmatch",
    "kd",
    "margin_info_nce",
    "nt_xent",
    "overhaul",
    "seed",
    "sskd",
    "unit_rows",
]
