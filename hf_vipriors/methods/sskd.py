"""SSKD: rotated images and a self-supervision head make the teacher tell more than its answers.

References:
    [0] Knowledge Distillation Meets Self-Supervision, https://arxiv.org/abs/2006.07114
"""

from __future__ import annotations

from torch import Tensor, nn

from ..backbones import feature_dim
from ..losses import sskd
from ..models import VipriorsForImageClassification
from .base import FrozenTeacher, Method, MethodOutput, labelled_first, pooled_and_logits
from .supervised import Supervised


def self_supervision_head(width: int) -> nn.Sequential:
    """Linear - ReLU - Linear, as wide as the features [0]."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class SskdPretext(Method):
    """Stage 1: the self-supervision head learns, on the frozen teacher, which image a rotated one was made from.

    Args:
        teacher: a classifier, frozen here in eval mode; images arrive with its own normalisation.
        head: trained in place.
    """

    def __init__(self, teacher: VipriorsForImageClassification, head: nn.Module):
        super().__init__()
        self.teacher = FrozenTeacher(teacher, teacher.config.image_mean, teacher.config.image_std)
        self.head = head.requires_grad_(True).train()

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        projection = self.head(self.teacher.embedding(views[0]))
        loss = sskd.pretext(projection)
        return MethodOutput(loss=loss, parts={"pretext": loss.detach()})

    def deployable(self) -> VipriorsForImageClassification:
        return self.teacher.model


class Sskd(Supervised):
    """Stage 2: answers on upright and on rotated images, and similarities between them, distilled with a selection.

    Where the teacher is wrong, only the best-ranked share of its rows is transferred; the shares kept are logged.

    Rows are ranked, selected and averaged, and similarities taken, within the batch of one process: W processes train
    on the mean of W such losses, as gradient accumulation over W batches would, not as on one batch W times as large.

    Args:
        student: the classifier.
        teacher: a classifier of the same classes, frozen here.
        teacher_head: its self-supervision head of stage 1, frozen here.
        weights, temperatures, keep: see :func:`hf_vipriors.losses.sskd.sskd`.
        ema_decay, layer_decay: as in :class:`Supervised`. The loss on labels is the plain cross-entropy [0].

    Raises:
        ValueError: a teacher without a classifier for these classes.
    """

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsForImageClassification,
        teacher_head: nn.Module,
        *,
        weights: tuple[float, float, float, float] = (0.1, 0.9, 2.7, 10.0),
        temperatures: tuple[float, float, float] = (4.0, 4.0, 0.5),
        keep: tuple[float, float] = (1.0, 0.75),
        ema_decay: float = 0.0,
        layer_decay: float = 1.0,
    ):
        super().__init__(student, label_smoothing=0.0, ema_decay=ema_decay, layer_decay=layer_decay)
        self.teacher = FrozenTeacher(teacher, student.config.image_mean, student.config.image_std)
        if self.teacher.num_classes != self.num_classes:
            raise ValueError(f"the teacher answers for {self.teacher.num_classes} classes, not {self.num_classes}")
        # Held like the teacher: no parameter of ours, not in checkpoints.
        self._held_head = (teacher_head.requires_grad_(False).eval(),)
        self.head = self_supervision_head(feature_dim(student.backbone))
        self.options = {"weights": tuple(weights), "temperatures": tuple(temperatures), "keep": tuple(keep)}

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self._held_head[0]._apply(fn, recurse)
        return self

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        """``views``: one, ``(4B, 3, h, w)``, rows 4i to 4i + 3 the four rotations of image i."""
        images = views[0]
        if len(images) != 4 * len(labels):
            raise ValueError(f"SSKD takes four rotations of each image: {len(images)} rows for {len(labels)} labels")
        if len(labelled_first([], labels, labelled)[1]) < len(labels):
            raise ValueError("supervised training met an image without a label")
        features, logits = pooled_and_logits(self.student, images)
        teacher_features, teacher_logits = self.teacher.pooled_and_logits(images)
        result = sskd.masked_sskd(
            logits, self.head(features), teacher_logits, self._held_head[0](teacher_features), labels, **self.options
        )
        parts = {
            "classification": result.ce.detach(),
            "kd": result.kd.detach(),
            "transfer": result.tf.detach(),
            "similarity": result.ss.detach(),
            "kept_transfer": result.kept_tf.float().mean(),
            "kept_similarity": result.kept_ss.float().mean(),
        }
        return MethodOutput(loss=result.total, parts=parts, logits=logits[::4])
