"""Cross-entropy with the tricks a strong baseline needs: label smoothing, mixup, cutmix, class weights, EMA.

References:
    [0] mixup: Beyond Empirical Risk Minimization, https://arxiv.org/abs/1710.09412
    [1] CutMix: Regularization Strategy to Train Strong Classifiers, https://arxiv.org/abs/1905.04899
"""

from __future__ import annotations

import torch
from timm.data import Mixup
from timm.data.mixup import mixup_target
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from ..models import VipriorsForImageClassification
from .base import Method, MethodOutput, Progress, labelled_first


class Supervised(Method):
    """A classifier on labels alone: the baseline, and phase 2 without distillation when it starts from a teacher.

    Args:
        student: the classifier.
        label_smoothing: share of each target spread over all classes. Default 0.1 [2008.00261].
        mixup: alpha of mixup [0], 0 for none.
        cutmix: alpha of CutMix [1], 0 for none; with both, each batch takes one of the two at random.
        ema_decay: decay of the moving average of the weights that is evaluated and deployed (warmed up over the
            first steps, so that short runs do not keep their random start); 0 for none.
        class_weights: ``(K,)`` weight of each class in the cross-entropy, or None.
        layer_decay: factor on the learning rate for each layer below the head, as timm counts layers. Default 1.
    """

    def __init__(
        self,
        student: VipriorsForImageClassification,
        *,
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        ema_decay: float = 0.0,
        class_weights: Tensor | None = None,
        layer_decay: float = 1.0,
    ):
        super().__init__()
        self.student = student
        self.num_classes, self.label_smoothing = student.config.num_labels, label_smoothing
        self.mixer = None
        if mixup or cutmix:
            self.mixer = Mixup(
                mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=label_smoothing, num_classes=self.num_classes
            )
        self.ema = ModelEmaV3(student, decay=ema_decay, use_warmup=True) if ema_decay else None
        if self.ema is not None:
            self.ema.requires_grad_(False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.layer_decay = layer_decay

    def learning_rate_factors(self) -> dict[str, float]:
        if self.layer_decay == 1:
            return {}
        backbone = self.student.backbone
        groups = param_groups_layer_decay(backbone, weight_decay=0.0, layer_decay=self.layer_decay)
        factors = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        return {f"student.backbone.{name}": factors[id(p)] for name, p in backbone.named_parameters()}

    def mixed(self, images: Tensor, labels: Tensor, labelled: int | None = None) -> tuple[Tensor, Tensor]:
        """Images, mixed where asked, and the soft targets ``(L, K)`` of the L labelled ones, which come first.

        Images without a label (-1) follow, mixed among themselves. timm mixes pairs: an odd image stays as it is.
        """
        (images,), labels = labelled_first([images], labels, labelled)
        others = len(images) - len(labels)
        if others and self.mixer is not None:
            ours, targets = self._mixed(images[:-others], labels)
            theirs, _ = self._mixed(images[-others:], labels.new_zeros(others))
            return torch.cat([ours, theirs]), targets
        return self._mixed(images, labels)

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        targets = mixup_target(labels, self.num_classes, smoothing=self.label_smoothing)
        even = len(images) // 2 * 2
        if self.mixer is not None and even:
            mixed, soft = _drawn_and_mixed(self.mixer, images[:even], labels[:even])
            images, targets = torch.cat([mixed, images[even:]]), torch.cat([soft, targets[even:]])
        return images, targets

    def classification_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the labelled rows, which come first."""
        return F.cross_entropy(logits[: len(targets)].float(), targets, weight=self.class_weights)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        (images,), labels = labelled_first(views[:1], labels, labelled)
        if len(labels) < len(images):
            raise ValueError("supervised training met an image without a label")
        images, targets = self._mixed(images, labels)
        logits = self.student(images).logits
        loss = self.classification_loss(logits, targets)
        return MethodOutput(loss=loss, parts={"classification": loss.detach()}, logits=logits)

    @torch.no_grad()
    def end_step(self, progress: Progress) -> None:
        if self.ema is not None:
            # Sharded weights and whole batch-norm statistics do not go into one call.
            self.ema.foreach = not isinstance(next(self.student.parameters()), DTensor)
            self.ema.update(self.student, step=progress.step)

    def deployable(self) -> VipriorsForImageClassification:
        return self.student if self.ema is None else self.ema.module


@torch.compiler.disable
def _drawn_and_mixed(mixer: Mixup, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """timm draws with NumPy: inside a compiled graph each draw would be a constant, compiled anew every step."""
    return mixer(images, labels)
