"""Batched, per-sample random augmentation that runs where the model runs. No file reading, no labels."""

from .classification import AUTO_AUGMENT_POLICIES, ClassificationViews
from .consistency import STRONG_AUGMENTATIONS, ConsistencyViews
from .contrastive import ContrastiveViews
from .crops import EvaluationView, TenCrop
from .rotation import RotationViews
from .sampling import VIEW_INTERPOLATION

__all__ = [
    "VIEW_INTERPOLATION",
    "AUTO_AUGMENT_POLICIES",
    "STRONG_AUGMENTATIONS",
    "ClassificationViews",
    "ConsistencyViews",
    "ContrastiveViews",
    "EvaluationView",
    "RotationViews",
    "TenCrop",
]
