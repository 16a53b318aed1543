"""Options that several methods share, in groups; a method's own stand in its file.

A method's options are a dataclass that inherits from the groups that it reads; the arguments of a command are composed
of those of all its methods (:mod:`hf_vipriors.training.teacher_arguments`). An option that is None follows from the
method: see :meth:`hf_vipriors.methods.Method.defaults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..options import TEMPERATURE, Default, option
from ..views import AUTO_AUGMENT_POLICIES

STUDENT_CROP_SCALE = (0.5, 1.0)


def check_crop_scale(scale: Sequence[float], name: str = "crop_scale") -> None:
    """Refuse what are no two shares of an area, smallest first.

    Raises:
        InputError: naming the option.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(f"--{name} takes the smallest and largest area, 0 < low <= high <= 1, got {list(scale)}")


def not_given(args: Any, source: str, **values: Any) -> dict[str, Default]:
    """Of some options those that are None, with the value that they get."""
    return {name: Default(value, source) for name, value in values.items() if getattr(args, name) is None}


def without_idle_patches(args: Any, names: Sequence[str]) -> tuple[str, ...]:
    """Of these options those that have an effect: without small views their size and area have none."""
    return tuple(name for name in names if args.patches or not name.startswith("patch"))


@dataclass
class NetworkOptions:
    """Of the network that is trained, whatever its architecture; see :mod:`hf_vipriors.backbones.harmonic`."""

    harmonic: str | None = option(
        None,
        "Harmonic convolutions, saved as the plain ones that they compute: kernels are combinations of DCT filters "
        "('weights'), and the responses of the first layer to these are normalised ('batch_norm' [1905.00135]).",
        choices=("batch_norm", "weights"),
    )
    harmonic_level: int | None = option(
        None,
        "harmonic: keep the DCT filters of frequencies u + v < level (of the 9 of 3x3: 3 with level 2, 6 with 3), in "
        "the first layer all with batch_norm [2001.06570]; None: all.",
        low=1,
    )


@dataclass
class FeatureOptions(NetworkOptions):
    """What every training without labels has: network, projector, views, kNN."""

    backbone: str = option("resnet18", "Any timm network.", on_card=False)
    backbone_args: dict | str | None = option(
        None, "JSON of arguments for timm.create_model, e.g. '{\"stem_width\": 8}'.", on_card=False
    )
    image_size: int | None = option(
        64, "Side of a view in pixels; small images are enlarged to it.", low=8, on_card=False
    )
    crop_pct: float = option(
        0.875,
        "Evaluation resizes to image_size / crop_pct, then crops the centre; 1: no crop.",
        low=0.1,
        high=1,
        on_card=False,
    )
    projector_dim: int | None = option(
        128, "Width of the projection the loss sees [2008.00261].", low=1, on_card=False
    )
    projector_hidden_dim: int | None = option(
        None, "Width of the projector's hidden layer; None: the feature width.", low=0, on_card=False
    )
    projector_batch_norm: bool | None = option(
        None, "Batch norm inside the projector; None: with simclr yes, with moco no (as published).", on_card=False
    )
    crop_scale: list[float] = option(
        [0.2, 1.0], "Area of a crop, smallest and largest share [2003.04297].", low=0, high=1
    )
    jitter: list[float] = option(
        [0.4, 0.4, 0.4, 0.1], "Brightness, contrast, saturation, hue [2003.04297].", low=0, high=100, on_card=False
    )
    grayscale: float = option(0.2, "Probability of grayscale [2003.04297].", low=0, high=1, on_card=False)
    blur: float = option(0.5, "Probability of Gaussian blur [2003.04297].", low=0, high=1, on_card=False)
    knn_neighbours: int = option(20, "Neighbours that vote in the online kNN.", low=1, on_card=False)


@dataclass
class ContrastiveOptions:
    """Of the contrastive losses."""

    temperature: float | None = option(
        None,
        "T of the contrastive loss; None: 0.2 with moco [2008.00261], 0.5 with simclr [2002.05709].",
        bounds=TEMPERATURE,
    )
    margin: float | None = option(
        None, "Margin on the positive; None: 0.4 for moco [2008.00261], 0 for simclr.", low=0, high=1.99
    )


@dataclass
class QueueOptions:
    """Of a queue of earlier embeddings."""

    queue_length: int | None = option(
        None,
        "moco: keys kept as negatives; None: the largest multiple of the batch that is <= min(4096, images / 2).",
        low=1,
    )
    instance_aware: bool = option(
        True, "moco: a queue entry of the queried image itself is no negative.", on_card=False
    )


@dataclass
class MomentumOptions:
    """Of an encoder that follows another one."""

    encoder_momentum: float = option(
        0.999, "moco: momentum of the key encoder at the start [1911.05722].", low=0, high=1
    )
    encoder_momentum_end: float | None = option(
        None, "moco: ... at the end, on a half cosine; None: constant.", low=0, high=1, on_card=False
    )
    batchnorm_splits: int | None = option(
        None, "moco: groups the key batch is normalised in; None: one per 32 keys.", low=1, on_card=False
    )


@dataclass
class MultiCropOptions:
    """Of small views beside the full ones."""

    patches: int = option(
        0, "Small views beside two full ones (multi-crop; 6 in [2006.09882, 2101.04731]); 0: none.", low=0
    )
    patch_size: int | None = option(None, "Side of a small view; None: 96/224 of image_size [2006.09882].", low=8)
    patch_scale: list[float] = option(
        [0.05, 0.14], "Area of a small view, smallest and largest share [2006.09882].", low=0, high=1
    )


@dataclass
class ClassifierOptions(NetworkOptions):
    """What every student has."""

    ema_decay: float | None = option(
        None,
        "Decay of the moving average of the weights, which is what is kept; 0: none. None: 0.995 with fixmatch, "
        "else 0.",
        low=0,
        high=0.999999,
    )
    auto_augment: str | None = option(
        None,
        "AutoAugment policy, cifar10 (the published program's) or imagenet, or randaugment: two operations of any "
        "magnitude, as for FixMatch's strong views [1909.13719].",
        choices=tuple(AUTO_AUGMENT_POLICIES),
    )
    student_init: str | None = option(
        None,
        "Where the student's weights come from: 'teacher', 'scratch' or a folder; None: with overhaul, "
        "supervised and fixmatch the teacher where the network is the same, else scratch.",
    )
    layer_decay: float = option(
        1.0,
        "The learning rate falls by this factor with each layer below the head; below 1 it spares a prior.",
        low=0,
        high=1,
        open_low=True,
    )
    crop_scale: list[float] = option(
        list(STUDENT_CROP_SCALE), "Area of a crop, smallest and largest share of the image.", low=0, high=1
    )
    random_shift: int = option(
        0,
        "In place of the crop the whole image, moved by up to so many pixels along each axis; its reflection comes in "
        "at the edge. 0: the crop.",
        low=0,
    )
    flip: float = option(
        0.5,
        "Probability of a left-right flip; 0 where left and right differ (digits, text).",
        low=0,
        high=1,
        on_card=False,
    )
    propagate_labels: bool | None = option(
        None,
        "At the end, fit the classifier to labels that travel to at most 50,000 images without one over the graph of "
        "nearest features [1904.04717]; the trained one stays where validation shows it better. None: with fixmatch.",
    )


@dataclass
class LabelOptions(ClassifierOptions):
    """Of cross-entropy on labels."""

    label_smoothing: float | None = option(
        None,
        "Share of each target spread over all classes; None: 0.1 [2008.00261], 0 with sskd and fixmatch.",
        low=0,
        high=0.99,
    )
    mixup: float = option(0.0, "Alpha of mixup, 0: none.", low=0)
    cutmix: float = option(0.0, "Alpha of CutMix, 0: none.", low=0)
    class_weights: str = option(
        "none", "'balanced' weighs classes by the inverse of their size; 'none'.", choices=("none", "balanced")
    )


@dataclass
class PoolOptions:
    """Of images without labels beside the labelled ones."""

    unlabelled_ratio: int | None = option(
        None,
        "Images without labels beside each labelled one of a step, with overhaul, kd, fitnet and fixmatch; None: 3 "
        "with fixmatch (NOTE 7 in 2001.07685), else 0.",
        low=0,
    )


@dataclass
class DistillationOptions(PoolOptions):
    """Of a frozen teacher, and of its predictions."""

    classification_weight: float | None = option(
        None, "Weight of the cross-entropy; None: 0.1 with kd and sskd [2006.07114], else 1.", low=0
    )
    kd_weight: float | None = option(
        None,
        "Weight of the teacher's predictions, with any method that distils; None: 0.9 with kd and sskd "
        "[2006.07114], else 0.",
        low=0,
    )
    kd_temperature: float = option(4.0, "T of the predictions [2006.07114].", bounds=TEMPERATURE)
    more_teachers: list[str] = option(
        [],
        "Further classifiers like --teacher, for --method kd and --kd_weight: the mean of all predictions is "
        "distilled.",
        on_card=False,
    )
    teacher_batch_statistics: bool = option(
        False,
        "Run the teacher's batch norms on the batch, as the published program of 2008.00261 did (not sskd).",
        on_card=False,
    )
