"""Teachers that transformers loads as vision models, a DINOv2 for one: whole, and without remote code."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..backbones import TransformersBackbone
from ..errors import InputError
from ..models import ExternalForImageClassification, ExternalModel, VipriorsConfig, preprocessing
from ..models.download import check_shards
from .failures import as_input_error
from .import_checkpoint import listed


def from_transformers(
    folder: Path, name: str, description: dict[str, Any], flag: str
) -> ExternalForImageClassification | ExternalModel:
    """The network in a folder, as its own image processor wants its images.

    Args:
        folder: with config and weights.
        name, flag: what named it, and the option, for messages.
        description: its ``config.json``.

    Raises:
        InputError: of a kind that is unknown here, in need of remote code, no vision model, or not whole.
    """
    kind = description.get("model_type")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in description:
            raise InputError(
                f"{name} (--{flag}) needs code from its repository, which is never run here: choose another"
            )
        raise InputError(
            f"{name} (--{flag}) has model_type {kind!r}, which this version of transformers does not know"
        )
    failure = f"{name} (--{flag}) cannot be loaded"
    with as_input_error(failure):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model_class, classifies = _model_class(config)
    if model_class is None or model_class.main_input_name != "pixel_values":
        raise InputError(f"{name} (--{flag}) is a {kind!r} model, which does not read images alone: no vision model")
    with as_input_error(f"{name} (--{flag}): its image processor, which says how it wants images, is of no use"):
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
        image = preprocessing(processor)
    check_shards(folder)
    with as_input_error(failure):
        network, report = model_class.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        backbone = TransformersBackbone(network.eval(), image["image_size"])
    check_complete(_in_use(report["missing_keys"], backbone), name, flag)
    names = {"id2label": config.id2label, "label2id": config.label2id} if classifies else {}
    ours = VipriorsConfig(backbone=name, **image, **copy.deepcopy(names))
    return ExternalForImageClassification(backbone, ours) if classifies else ExternalModel(backbone, ours)


def _model_class(config: PreTrainedConfig) -> tuple[type[PreTrainedModel] | None, bool]:
    """Which class holds such a checkpoint, and whether it classifies."""
    wanted = config.architectures or ()
    found = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.get(type(config), ())
    for each in found if isinstance(found, tuple) else (found,):
        if each.__name__ in wanted:
            return each, True
    found = MODEL_MAPPING.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found, False


def _in_use(missing: set[str], backbone: TransformersBackbone) -> list[str]:
    """Of the tensors that the checkpoint does not hold, those that reach features, logits or stage maps.

    transformers fills them with random numbers. In a pooler that is not read, or in a mask token, that is no harm.
    """
    parameters = dict(backbone.model.named_parameters())
    asked = {name: parameters[name] for name in sorted(missing) if name in parameters}
    if not asked:
        return sorted(missing)
    side = backbone.image_size
    with torch.enable_grad():
        features, maps = backbone.forward_intermediates(torch.zeros(1, backbone.in_chans, side, side))
        total = sum(each.sum() for each in (*features, *maps) if each is not None)
    gradients = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
    unused = {name for name, gradient in zip(asked, gradients, strict=True) if gradient is None}
    return sorted(missing - unused)


def check_complete(missing: Collection[str], name: str, flag: str) -> None:
    """Refuse a checkpoint that lacks tensors, which would be filled at random.

    Raises:
        InputError: naming some of them.
    """
    if missing:
        raise InputError(f"{name} (--{flag}) is no whole checkpoint, it lacks {listed(missing)}: download it again")
