"""Any timm network behind one small interface: build it, know its normalisation, tap its stages.

Importing this package registers the CIFAR networks of the distillation literature and SwAV's wide ResNets with timm.
"""

from .cifar_zoo import is_ours
from .compute import forward_operations
from .harmonic import is_harmonic, load_plain_state, make_harmonic, plain_state
from .memory_layout import to_channels_last
from .stage_taps import Stage, StageTaps
from .timm_backbone import create_backbone, feature_dim, has_fixed_size, normalisation
from .transformers_backbone import TransformersBackbone
from .wide_resnet import WideResNet

__all__ = [
    "Stage",
    "StageTaps",
    "TransformersBackbone",
    "WideResNet",
    "create_backbone",
    "feature_dim",
    "forward_operations",
    "has_fixed_size",
    "is_harmonic",
    "is_ours",
    "load_plain_state",
    "make_harmonic",
    "normalisation",
    "plain_state",
    "to_channels_last",
]
