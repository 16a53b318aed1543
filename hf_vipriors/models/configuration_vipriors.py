"""Configuration of our models: which timm network, for which images, with which projector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..backbones import normalisation
from ..errors import InputError

_MOST_LABELS = 1_000_000


@strict
class VipriorsConfig(PreTrainedConfig):
    """Configuration of :class:`VipriorsModel` and :class:`VipriorsForImageClassification`.

    Use :meth:`for_backbone`, which asks timm for the statistics of the network.

    Args:
        backbone: timm name of the network, ``"resnet50"`` by default (the paper's).
        backbone_args: more arguments of its timm constructor; JSON values, tuples become lists.
        image_size: side of the square input in pixels.
        image_mean, image_std: per-channel statistics of pixels in 0..1; ImageNet's by default.
        interpolation: filter that resizes an image for evaluation.
        crop_pct: share of the resized shorter side that the centre crop of an evaluation keeps.
        full_scale: the value of gray images of more than 8 bits that became 255 when the model was trained; None
            (default): it has seen images of 8 bits only. See :func:`hf_vipriors.data.decode`.
        projector_dim: width of the projection; None (default) builds no projector.
        projector_hidden_dim: width inside the projector; None (default) takes the feature width, as MoCo v2 does; 0
            makes the projector one Linear, as in MoCo v1.
        projector_batch_norm: batch norm after the projector's first layer (SimCLR, DoGo); MoCo v2 has none.
        num_labels, id2label, label2id: as in every transformers configuration.

    Raises:
        InputError: a size or width below 1 or beyond any machine, a batch norm inside a projector of one layer,
            ``crop_pct`` outside (0, 1], or a ``full_scale`` that is not above 0.
    """

    model_type = "vipriors"

    backbone: str = "resnet50"
    backbone_args: dict[str, Any] | None = None
    image_size: int = 224
    image_mean: list[float] | tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: list[float] | tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    full_scale: float | int | None = None
    projector_dim: int | None = None
    projector_hidden_dim: int | None = None
    projector_batch_norm: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("auto_map", None)  # of a download: it names files that a copy saved here would not have
        # As JSON will give them back, so that a loaded configuration equals the saved one.
        self.backbone_args = _lists(self.backbone_args)
        self.image_mean = [float(value) for value in self.image_mean]
        self.image_std = [float(value) for value in self.image_std]
        limits = {"image_size": (1, 4096), "projector_dim": (1, 65536), "projector_hidden_dim": (0, 65536)}
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise InputError(f"{name} must be at least {lowest} and at most {highest}, got {value}")
        if (kwargs.get("num_labels") or 0) > _MOST_LABELS:  # each of them gets a name
            raise InputError(f"num_labels must be at most {_MOST_LABELS}, got {kwargs['num_labels']}")
        if self.projector_hidden_dim == 0 and self.projector_batch_norm:
            raise InputError("projector_hidden_dim 0 is a projector of one layer: there is no room for a batch norm")
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"crop_pct is a share of the image, above 0 and at most 1, got {self.crop_pct}")
        if self.full_scale is not None and not self.full_scale > 0:
            raise InputError(f"full_scale is a gray value above 0, got {self.full_scale}")
        super().__post_init__(**kwargs)

    @classmethod
    def for_backbone(
        cls,
        backbone: str,
        *,
        image_size: int,
        backbone_args: dict[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        crop_pct: float | None = None,
        **kwargs: Any,
    ) -> VipriorsConfig:
        """Configuration with the mean, standard deviation, filter and crop that timm recommends for a network.

        Args:
            backbone: timm name of the network.
            image_size: side of the square input in pixels.
            backbone_args: more arguments of its timm constructor.
            class_names: names of the classes in label order.
            crop_pct: overrides timm's; the VIPriors programs evaluate with 0.875.
            kwargs: further fields, such as ``projector_dim=128``; they also win over timm's recommendations.

        Raises:
            InputError: unknown backbone (with the nearest names), or a class name that stands there twice.

        Example:
            >>> config = VipriorsConfig.for_backbone("resnet18", image_size=64, class_names=["cat", "dog"])
            >>> config.num_labels, config.image_mean
            (2, [0.485, 0.456, 0.406])
        """
        mean, std, interpolation, recommended_crop = normalisation(backbone)
        recommended = {"image_mean": mean, "image_std": std, "interpolation": interpolation}
        names = {} if class_names is None else label_maps(class_names)
        return cls(
            backbone=backbone,
            backbone_args=backbone_args,
            image_size=image_size,
            crop_pct=recommended_crop if crop_pct is None else crop_pct,
            **(recommended | names | kwargs),
        )

    @property
    def class_names(self) -> list[str]:
        """Of the outputs, in their order."""
        labels: dict[Any, str] = self.id2label
        return [labels[number] for number in range(self.num_labels)]


def label_maps(class_names: Sequence[str]) -> dict[str, dict]:
    """``id2label`` and ``label2id`` for class names in label order; a name twice is an :class:`InputError`."""
    twice = [name for name, count in Counter(class_names).items() if count > 1]
    if twice:
        raise InputError(f"the class name {twice[0]!r} stands there twice: class names must differ")
    return {"id2label": dict(enumerate(class_names)), "label2id": {name: i for i, name in enumerate(class_names)}}


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    return value
