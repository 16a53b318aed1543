"""Any timm network behind one small interface: build it, know its normalisation, tap its stages."""

from hf_vipriors.backbones.stage_taps import Stage, StageTaps
from hf_vipriors.backbones.timm_backbone import create_backbone, feature_dim, has_fixed_size, normalisation

__all__ = ["Stage", "StageTaps", "create_backbone", "feature_dim", "has_fixed_size", "normalisation"]
