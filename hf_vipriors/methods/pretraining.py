"""What methods without labels share: the network with its projector, and the views that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..views import VIEW_INTERPOLATION, ContrastiveViews
from .base import Method
from .options import check_crop_scale


class LabelFreeMethod(Method):
    """A method that learns features from images alone.

    Attributes:
        scores: names of the scores in ``metrics.json``.
    """

    scores: ClassVar[tuple[str, ...]] = ("knn", "linear")

    @classmethod
    def networks(
        cls, args: Any, class_names: Sequence[str], teacher: VipriorsModel | VipriorsForImageClassification | None
    ) -> tuple[PreTrainedModel, ...]:
        return (VipriorsModel(feature_config(args, class_names)),)

    @classmethod
    def views(cls, args: Any, config: VipriorsConfig) -> nn.Module:
        return contrastive_views(args, config)

    @classmethod
    def check(cls, args: Any) -> None:
        check_crop_scale(args.crop_scale)
        if len(args.jitter) != 4 or min(args.jitter) < 0:
            raise InputError(
                f"--jitter takes four numbers >= 0 (brightness contrast saturation hue), got {args.jitter}"
            )

    @classmethod
    def check_batch(cls, args: Any) -> None:
        if args.step_images < 2:
            raise InputError("a batch of one image has no negatives: raise --per_device_train_batch_size")


def feature_config(args: Any, class_names: Sequence[str], **fields: Any) -> VipriorsConfig:
    """Backbone and projector as ``args`` have them; ``fields`` win."""
    settings = {
        "image_size": args.image_size,
        "backbone_args": args.backbone_args,
        "class_names": class_names or None,
        "crop_pct": args.crop_pct,
        "interpolation": VIEW_INTERPOLATION,
        "projector_dim": args.projector_dim,
        "projector_hidden_dim": args.projector_hidden_dim,
        "projector_batch_norm": args.projector_batch_norm,
    }
    settings |= fields
    return VipriorsConfig.for_backbone(settings.pop("backbone", args.backbone), **settings)


def contrastive_views(args: Any, config: VipriorsConfig, **options: Any) -> ContrastiveViews:
    """The views of MoCo v2 with the strengths that ``args`` have; ``options`` as in :class:`ContrastiveViews`."""
    return ContrastiveViews(
        config.image_size,
        config.image_mean,
        config.image_std,
        crop_scale=args.crop_scale,
        jitter=args.jitter,
        grayscale=args.grayscale,
        blur=args.blur,
        **options,
    )
