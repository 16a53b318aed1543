"""What a person saves and downloads. Importing this package registers both models with the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from .configuration_vipriors import VipriorsConfig
from .external import ExternalForImageClassification, ExternalModel, preprocessing
from .modeling_vipriors import VipriorsForImageClassification, VipriorsModel, VipriorsOutput

AutoConfig.register(VipriorsConfig.model_type, VipriorsConfig, exist_ok=True)
AutoModel.register(VipriorsConfig, VipriorsModel, exist_ok=True)
AutoModelForImageClassification.register(VipriorsConfig, VipriorsForImageClassification, exist_ok=True)

__all__ = [
    "ExternalForImageClassification",
    "ExternalModel",
    "VipriorsConfig",
    "VipriorsForImageClassification",
    "VipriorsModel",
    "VipriorsOutput",
    "preprocessing",
]
