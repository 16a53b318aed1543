"""How a model wants its images: for our stores, and in the words of transformers and transformers.js."""

from __future__ import annotations

import math
from typing import Any

from PIL.Image import Resampling

from ..data import ResizeCrop
from ..models import VipriorsConfig


def evaluation_geometry(config: VipriorsConfig) -> ResizeCrop:
    """How the exported model's own preprocessing crops an image."""
    resize = math.floor(config.image_size / config.crop_pct)
    return ResizeCrop(resize, config.image_size, config.interpolation, config.full_scale)


def processor_words(config: VipriorsConfig, kind: str, **more: Any) -> dict[str, Any]:
    """The same as ``preprocessor_config.json`` of an image processor of ``kind``, with normalisation."""
    crop = evaluation_geometry(config)
    return {
        "image_processor_type": kind,
        **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), True),
        "size": {"shortest_edge": crop.resize},
        "crop_size": {"height": config.image_size, "width": config.image_size},
        "resample": Resampling[config.interpolation.upper()].value,
        "image_mean": config.image_mean,
        "image_std": config.image_std,
        **more,
    }
