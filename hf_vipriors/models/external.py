"""Networks of other people as teachers: any transformers vision model, seen as one of our models."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import BaseImageProcessor

from ..backbones import TransformersBackbone
from ..errors import InputError
from .configuration_vipriors import VipriorsConfig
from .modeling_vipriors import VipriorsForImageClassification, VipriorsModel, VipriorsPreTrainedModel


class _External(VipriorsPreTrainedModel):
    """A teacher only: it is distilled from, it is neither saved nor a start for a student."""

    def __init__(self, backbone: TransformersBackbone, config: VipriorsConfig) -> None:
        # Our models build a timm network here; this one is already built.
        VipriorsPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.backbone: nn.Module = backbone
        self.projector: nn.Module | None = None
        self._built_on_meta = False
        self.post_init()

    @property
    def fixed_size(self) -> bool:
        """True: what another size does to its position embeddings differs from family to family."""
        return True

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("saved as one of our models: its own checkpoint is the place to load it from")

    def push_to_hub(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("published as one of our models")

    def _bare_state(self) -> NoReturn:
        self._refuse("the start of a student, whose network comes from timm: distil from it (--student_init scratch)")

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.config.backbone!r} is a teacher from transformers, it cannot be {what}")


class ExternalModel(_External, VipriorsModel):
    """A transformers vision model without classifier, as a :class:`VipriorsModel` without projector.

    Args:
        backbone: the wrapped network.
        config: ``backbone`` is its name on the Hub or its folder, for messages; see :func:`preprocessing`.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        >>> network = TransformersBackbone(ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)), image_size=32)
        >>> teacher = ExternalModel(network, VipriorsConfig(backbone="somebody/vit", image_size=32))
        >>> teacher(torch.rand(2, 3, 32, 32)).pooled.shape
        torch.Size([2, 16])
    """


class ExternalForImageClassification(_External, VipriorsForImageClassification):
    """A transformers image classifier as a :class:`VipriorsForImageClassification`.

    Arguments as :class:`ExternalModel`; the configuration's ``num_labels`` and ``id2label`` are the classifier's.
    """


def preprocessing(processor: BaseImageProcessor) -> dict[str, Any]:
    """What an image processor does to images, as fields of :class:`VipriorsConfig`.

    Size and statistics are measured and not read, since every family writes them down differently: a black and a
    white image go in, and ``out = (value - mean) / std`` gives both numbers of each channel.

    Returns:
        ``image_size``, ``image_mean``, ``image_std``, ``interpolation`` and ``crop_pct``.

    Raises:
        InputError: the processor does something else to an image: it keeps the size that comes in, gives no square,
            swaps or mixes channels.
    """
    black, white, red = (_processed(processor, side, rgb) for side, rgb in _FLAT)
    if black.shape != white.shape or black.ndim != 3 or black.shape[0] != 3 or black.shape[1] != black.shape[2]:
        raise InputError("it does not bring images to one square size with three channels")
    low, high, coloured = (flat.flatten(1).median(1).values.double() for flat in (black, white, red))
    expected = torch.stack([high[0], low[1], low[2]])
    if not (high - low).abs().min() > 1e-6 or not torch.allclose(coloured, expected, atol=1e-3):
        raise InputError("it swaps or mixes the colours of an image")
    std = 1 / (high - low)
    image_size, settings = black.shape[-1], processor.to_dict()
    resized = settings.get("size") if settings.get("do_center_crop") else None
    share = image_size / min((resized or {}).values(), default=image_size)
    if settings.get("crop_pct") is not None and image_size < 384:  # ConvNeXt's processor crops below 384 px
        share = settings["crop_pct"]
    return {
        "image_size": image_size,
        "image_mean": [round(value, 5) for value in (-low * std).tolist()],
        "image_std": [round(value, 5) for value in std.tolist()],
        "interpolation": Image.Resampling(settings.get("resample", Image.Resampling.BICUBIC)).name.lower(),
        "crop_pct": min(share, 1.0),
    }


# Two sizes, so that a processor that leaves the size alone is noticed.
_FLAT = ((512, (0, 0, 0)), (448, (255, 255, 255)), (512, (255, 0, 0)))


def _processed(processor: BaseImageProcessor, side: int, rgb: tuple[int, int, int]) -> torch.Tensor:
    image = Image.fromarray(np.full((side, side, 3), rgb, dtype=np.uint8))
    return processor(image, return_tensors="pt")["pixel_values"][0].float()
