"""What methods without labels share: the network with its projector, and the views that are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..views import VIEW_INTERPOLATION, ContrastiveViews
from .base import Method, card_options
from .options import check_crop_scale, without_idle_patches


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
        network = VipriorsModel(feature_config(args, class_names))
        check_patches(args, network)
        return (network,)

    @classmethod
    def full_views(cls, args: Any) -> int:
        """How many full views of each image a step compares."""
        return 2

    @classmethod
    def views(cls, args: Any, config: VipriorsConfig) -> nn.Module:
        return ContrastiveViews(
            config.image_size,
            config.image_mean,
            config.image_std,
            views=cls.full_views(args),
            crop_scale=args.crop_scale,
            jitter=args.jitter,
            grayscale=args.grayscale,
            blur=args.blur,
            patches=args.patches,
            patch_size=args.patch_size,
            patch_scale=args.patch_scale,
        )

    @classmethod
    def options_read(cls, args: Any) -> tuple[str, ...]:
        return without_idle_patches(args, card_options(cls))

    @classmethod
    def check(cls, args: Any) -> None:
        check_crop_scale(args.crop_scale)
        check_crop_scale(args.patch_scale, "patch_scale")
        if len(args.jitter) != 4:
            raise InputError(f"--jitter takes four numbers (brightness contrast saturation hue), got {args.jitter}")

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


def check_patches(args: Any, network: VipriorsModel) -> None:
    """Small views must be smaller than the full ones, and the network must take both.

    Raises:
        InputError: naming the option.
    """
    if not args.patches:
        return
    name, size = network.config.backbone, network.config.image_size
    if network.fixed_size:
        raise InputError(f"--patches: {name} takes images of {size} pixels only, no small views: leave it out")
    if args.patch_size is not None and args.patch_size >= size:
        raise InputError(f"--patch_size {args.patch_size} is not smaller than a full view ({size} pixels)")


def full_and_small(views: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The two full views, and the small ones that follow them."""
    return list(views[:2]), list(views[2:])


def embedded_by_size(model: VipriorsModel, full: Sequence[Tensor], small: Sequence[Tensor]) -> list[Tensor]:
    """Raw projections ``(B, P)`` of each view, the full ones first: one pass for all views of a size."""
    found = []
    for group in (full, small):
        if group:
            found += model(torch.cat(list(group))).projection.chunk(len(group))
    return found


def half_cosine(start: float, end: float, share: float) -> float:
    """``end - (end - start) (1 + cos(pi share)) / 2``: a momentum after ``share`` of training, from 0 to 1."""
    return end - (end - start) * (1 + math.cos(math.pi * share)) / 2


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Weights of ``target``: ``momentum`` of themselves and the rest of ``source``; batch-norm statistics stay."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), weight=1 - momentum)
