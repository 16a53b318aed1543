"""Semi-supervised training: labels where there are any, and the same answer for a weak and a strong view everywhere.

References:
    [0] FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, https://arxiv.org/abs/2001.07685
    [1] Mean teachers are better role models, https://arxiv.org/abs/1703.01780
    [2] AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation, https://arxiv.org/abs/2106.04732
    [3] SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised Learning,
        https://arxiv.org/abs/2301.10921
    [4] Fast FixMatch: Faster Semi-Supervised Learning with Curriculum Batch Size, https://arxiv.org/abs/2309.03469
    [5] Label Propagation for Deep Semi-supervised Learning, https://arxiv.org/abs/1904.04717
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..errors import InputError
from ..models import VipriorsForImageClassification
from ..options import Default, option
from ..papers import RANDAUGMENT, VIPRIORS, Paper
from ..views import STRONG_AUGMENTATIONS, ConsistencyViews
from .base import Material, MethodOutput, Progress, labelled_first
from .options import LabelOptions, PoolOptions, not_given
from .pseudo_labels import ALIGNMENTS, THRESHOLDS, PseudoLabels
from .supervised import Supervised, label_settings

FIXMATCH = Paper(
    "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
    "https://arxiv.org/abs/2001.07685",
    "Kihyuk Sohn and David Berthelot and Chun-Liang Li and Zizhao Zhang and Nicholas Carlini and Ekin D. Cubuk and "
    "Alex Kurakin and Han Zhang and Colin Raffel",
    2020,
)
ADAMATCH = Paper(
    "AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation",
    "https://arxiv.org/abs/2106.04732",
    "David Berthelot and Rebecca Roelofs and Kihyuk Sohn and Nicholas Carlini and Alex Kurakin",
    2021,
)
SOFTMATCH = Paper(
    "SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised Learning",
    "https://arxiv.org/abs/2301.10921",
    "Hao Chen and Ran Tao and Yue Fan and Yidong Wang and Jindong Wang and Bernt Schiele and Xing Xie and Bhiksha Raj "
    "and Marios Savvides",
    2023,
)
FAST_FIXMATCH = Paper(
    "Fast FixMatch: Faster Semi-Supervised Learning with Curriculum Batch Size",
    "https://arxiv.org/abs/2309.03469",
    "John Chen and Chen Dun and Anastasios Kyrillidis",
    2023,
)


@dataclass
class ConsistencyOptions:
    """Of the term for images without labels."""

    consistency_weight: float = option(
        1.0, "fixmatch: weight of the predictions for images without labels [2001.07685].", low=0
    )
    confidence: float = option(
        0.9,
        "fixmatch: a prediction counts where its best class has this probability (NOTE 0.95 in 2001.07685).",
        low=0,
        high=1,
    )
    threshold: str = option(
        "fixed",
        "fixmatch: what a prediction must reach to count: --confidence (fixed), that share of the mean confidence on "
        "the labelled images (relative [2106.04732]), or nothing: each has a weight (soft [2301.10921]).",
        choices=tuple(THRESHOLDS),
    )
    distribution_alignment: str | None = option(
        None,
        "fixmatch: scale predictions so that their mean is that for the labelled images (labelled [2106.04732]) or "
        "equal for all classes (uniform [2301.10921]), or not (none). None: labelled with a relative threshold, "
        "uniform with a soft one, else none.",
        choices=ALIGNMENTS,
    )
    statistics_momentum: float = option(
        0.999,
        "fixmatch: momentum of the running means that alignment and soft weights use, after a warm-up [2301.10921].",
        low=0,
        high=0.999999,
    )
    curriculum: bool = option(
        False,
        "fixmatch: few of the images without labels at the start, all of them at the end [2309.03469]; three "
        "tenths of them on average.",
    )


@dataclass
class FixMatchOptions(PoolOptions, ConsistencyOptions, LabelOptions):
    """What FixMatch reads."""

    strong_augmentation: str = option(
        "jitter",
        "fixmatch: the strong view, jitter (closer crops, turned, other colours, blur) or randaugment (crops like the "
        "weak view's and two operations of [2001.07685]); both with a gray square.",
        choices=STRONG_AUGMENTATIONS,
    )


class FixMatch(Supervised):
    r"""Cross-entropy on the labels, and on the moving average's answers for images without [0, 1].

    For each image x without a label, p = softmax of the moving average's logits for a weak view, s the student's for a
    strong one:

    .. math:: L = CE(\text{labelled}) + \lambda \, \frac{1}{B} \sum_x 1[\max p_x \ge \tau] \, CE(\arg\max p_x, s_x)

    NOTE [0] takes p from the student itself; here it is the slower moving average's [1], which is what is kept. While
    it trains, the average predicts as mean teachers do [1]: its batch norms see the batch of weak views, and its
    running statistics follow them.

    NOTE Schedules differ too: lambda rises linearly over the first fifth of the training, [0] has it constant; the
    default learning rate falls on half a cosine to 0, [0] stops at 7/16 of one; the average's default decay is 0.995
    for short trainings, 0.999 in [0].

    With another ``threshold`` and ``distribution_alignment``, what a prediction counts is that of AdaMatch [2] or
    SoftMatch [3]: see :class:`~hf_vipriors.methods.pseudo_labels.PseudoLabels`. NOTE without the random logit
    interpolation of [2] and its cross-entropy on strong views of labelled images. Predictions for labelled images that
    are compared with are the moving average's too, for the weak views, unmixed, in one batch with the others.

    With ``curriculum`` a step uses of its images without labels, after a share t of the training, only the share
    :math:`1 - (1 - t) / (1 - \alpha + \alpha (1 - t))`, alpha 0.7 [4] (the formula is from memory).
    The average then predicts for the labelled images in the same batch, as with a relative threshold.

    With ``propagate_labels`` the training ends with a step that [0] has not: labels travel over the graph of nearest
    features of the average [5], and its classifier is fitted anew on all images that got one, see
    :mod:`hf_vipriors.methods.label_propagation`. There the labels together count what the images without do, as in the
    loss; checkpoints have the classifier as it was trained. On Fashion-VIPriors it adds 3.7 points at 5 labels a class
    (+2.0 to +5.5, ten choices of them), 1.1 at 10 (-2.2 to +4.4, three) and nothing at 25 (+0.3) and 50 (-0.1). NOTE
    [5] does so every epoch, and trains the network on them.

    Args:
        student: the classifier.
        consistency_weight: lambda. Default 1 [0].
        confidence: tau, the least probability of the winning class that counts. Default 0.9 (NOTE 0.95 [0]).
        threshold: ``"fixed"`` (default [0]), ``"relative"`` [2] or ``"soft"`` [3].
        distribution_alignment: ``"none"`` (default [0]), ``"labelled"`` [2] or ``"uniform"`` [3].
        statistics_momentum: of the running means that the last two use. Default 0.999 [3].
        curriculum: fewer images without labels at the start. Default False [0].
        label_smoothing: default 0 [0]: smoothed targets keep the predictions below tau.
        propagate_labels: as in :class:`Supervised`. Default True.
        ema_decay: of the average that predicts, and that is kept; it must be > 0.
        options: as in :class:`Supervised`; mixup and cutmix act on the labelled images alone.

    Raises:
        ValueError: no moving average.
    """

    ramp = 0.2
    curriculum_alpha = 0.7

    name = "fixmatch"
    summary = "labels, and one prediction for two views of images without"
    options = FixMatchOptions
    papers = (VIPRIORS, FIXMATCH)
    parts_shown = {**Supervised.parts_shown, "consistency": "cons", "confident": "conf"}
    takes_unlabelled = True
    views_kind = ConsistencyViews

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        ours = {"label_smoothing": 0.0, "unlabelled_ratio": 3, "ema_decay": 0.995, "propagate_labels": True}
        alignment = not_given(args, f"--threshold {args.threshold}", distribution_alignment=THRESHOLDS[args.threshold])
        return super().defaults(args) | not_given(args, cls.name, **ours) | alignment

    @classmethod
    def check(cls, args: Any) -> None:
        super().check(args)
        if not args.unlabelled_ratio:
            raise InputError("--method fixmatch learns from images without labels: --unlabelled_ratio 1 or more")
        if not args.ema_decay:
            raise InputError(
                "--method fixmatch predicts with the moving average of the weights: give --ema_decay 0.995"
            )
        if args.curriculum and args.torch_compile:
            raise InputError(
                "--curriculum changes a step's size, and --torch_compile would compile each: leave one out"
            )
        read = cls.options_read(args)
        for each in fields(ConsistencyOptions):
            if each.name not in read and getattr(args, each.name) != each.default:
                raise InputError(
                    f"--{each.name} has no effect with --threshold {args.threshold} --distribution_alignment "
                    f"{args.distribution_alignment}: leave it out"
                )

    @classmethod
    def options_read(cls, args: Any) -> tuple[str, ...]:
        idle = ("confidence",) if args.threshold == "soft" else ()
        if args.threshold != "soft" and args.distribution_alignment == "none":
            idle += ("statistics_momentum",)
        return tuple(name for name in super().options_read(args) if name not in idle)

    @classmethod
    def papers_used(cls, args: Any) -> tuple[Paper, ...]:
        kinds = {THRESHOLDS[args.threshold], args.distribution_alignment, args.strong_augmentation}
        kinds |= {"curriculum"} if args.curriculum else set()
        more = {"labelled": ADAMATCH, "uniform": SOFTMATCH, "randaugment": RANDAUGMENT, "curriculum": FAST_FIXMATCH}
        found = (*super().papers_used(args), *(paper for kind, paper in more.items() if kind in kinds))
        return tuple(dict.fromkeys(found))

    @classmethod
    def view_settings(cls, args: Any) -> dict[str, Any]:
        return super().view_settings(args) | {"strong": args.strong_augmentation}

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> FixMatch:
        own = {each.name: getattr(args, each.name) for each in fields(ConsistencyOptions)}
        return cls(*networks, **own, **label_settings(networks[0], args, material))

    def __init__(
        self,
        student: VipriorsForImageClassification,
        *,
        consistency_weight: float = 1.0,
        confidence: float = 0.9,
        threshold: str = "fixed",
        distribution_alignment: str = "none",
        statistics_momentum: float = 0.999,
        curriculum: bool = False,
        label_smoothing: float = 0.0,
        propagate_labels: bool = True,
        **options,
    ):
        super().__init__(student, label_smoothing=label_smoothing, propagate_labels=propagate_labels, **options)
        if self.ema is None:
            raise ValueError("FixMatch predicts with the moving average of the weights: ema_decay must be > 0")
        self.consistency_weight, self.curriculum = consistency_weight, curriculum
        self.pool_share = 1.0
        self.pseudo_labels = PseudoLabels(
            self.num_classes,
            threshold=threshold,
            confidence=confidence,
            alignment=distribution_alignment,
            momentum=statistics_momentum,
        )
        # A tensor: a number that changes every step would be compiled anew every step.
        self.register_buffer("ramped", torch.zeros(()), persistent=False)

    def begin_step(self, progress: Progress) -> None:
        self.ramped.fill_(min(1.0, progress.share / self.ramp))
        if self.curriculum:
            left, alpha = 1 - progress.share, self.curriculum_alpha
            self.pool_share = 1 - left / (1 - alpha + alpha * left)

    def rows_used(self, rows: int, labelled: int | None) -> int:
        if labelled is None or self.pool_share == 1:
            return rows
        return labelled + max(1, round(self.pool_share * (rows - labelled)))  # those without labels have no order

    @torch.no_grad()
    def predictions(self, images: Tensor) -> Tensor:
        """``(B, K)`` probabilities of the moving average."""
        return self.ema.module(images).logits.float().softmax(dim=1)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        (weak, strong), labels = labelled_first(views, labels, labelled)
        count = len(labels)
        images, targets = self._mixed(weak[:count].clone(), labels)  # timm mixes in place
        # One pass for both, so that batch norms see the labelled and the unlabelled images as one batch.
        logits = self.student(torch.cat([images, strong[count:]])).logits
        labelled, unlabelled = logits[:count], logits[count:]
        classification = self.classification_loss(labelled, targets)
        # A curriculum begins with images that are too few for statistics of batch norms, or a single one.
        ours = count if self.pseudo_labels.needs_labelled or self.curriculum else 0
        predictions = self.predictions(weak[count - ours :])
        classes, weights = self.pseudo_labels(predictions[ours:], predictions[:ours])
        consistency = (weights * F.cross_entropy(unlabelled.float(), classes, reduction="none")).mean()
        loss = classification + self.consistency_weight * self.ramped * consistency
        parts = {"classification": classification, "consistency": consistency, "confident": weights.mean()}
        return MethodOutput(loss=loss, parts={k: v.detach() for k, v in parts.items()}, logits=labelled)
