"""The networks that a method learns from: frozen, and shown the images as they want them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbones import feature_dim
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..views.sampling import resized


class Renormalise(nn.Module):
    """Images normalised for one network, as another one wants them; nothing is done where both agree.

    Args:
        mean, std: what the images were normalised with.
        config: of the network that is to see them.
        size: the only size it takes, or None.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], config: VipriorsConfig, size: int | None):
        super().__init__()
        mean, std = torch.tensor(mean), torch.tensor(std)
        own_mean, own_std = torch.tensor(config.image_mean), torch.tensor(config.image_std)
        self.size = size
        self.same_statistics = bool(torch.equal(mean, own_mean) and torch.equal(std, own_std))
        # ((x * std + mean) - own_mean) / own_std in one multiply and one add.
        self.register_buffer("scale", (std / own_std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if not self.same_statistics:
            images = images * self.scale + self.shift
        return resized(images, self.size)


class FrozenTeacher(nn.Module):
    """A teacher that stays what it was: eval mode pinned, no gradient, no place in checkpoints or the optimizer.

    The model is deliberately no registered submodule: ``.train()``, ``parameters()``, ``state_dict()`` and DDP pass
    it by, only ``.to()`` reaches it. Its input is normalised again where its statistics differ from the student's, and
    resized where it takes one size only.

    Args:
        model: the teacher; frozen in place.
        student_mean, student_std: what the images were normalised with.
        batch_statistics: run its batch norms on the batch, as the published program did. Default False.
    """

    def __init__(
        self,
        model: VipriorsModel | VipriorsForImageClassification,
        student_mean: Sequence[float],
        student_std: Sequence[float],
        *,
        batch_statistics: bool = False,
    ):
        super().__init__()
        self._held = (model.requires_grad_(False).train(batch_statistics),)
        size = model.config.image_size if model.fixed_size else None
        self.prepared = Renormalise(student_mean, student_std, model.config, size)

    @property
    def model(self) -> VipriorsModel | VipriorsForImageClassification:
        return self._held[0]

    @property
    def num_classes(self) -> int | None:
        """Classes it answers for; None without a classifier."""
        return self.model.config.num_labels if isinstance(self.model, VipriorsForImageClassification) else None

    @property
    def embedding_dim(self) -> int:
        """P of :meth:`embedding`."""
        return embedding_dim(self.model)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.model._apply(fn, recurse)
        return self

    @torch.no_grad()
    def embedding(self, images: Tensor) -> Tensor:
        """``(B, P)``: the projection of a self-supervised teacher, the pooled features of one without a projector."""
        images = self.prepared(images)
        if isinstance(self.model, VipriorsModel):
            output = self.model(images)
            return output.pooled if output.projection is None else output.projection
        return self.model.features(images)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """``(B, K)`` of a classifier."""
        return self.model(self.prepared(images)).logits

    @torch.no_grad()
    def pooled_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pooled features ``(B, D)`` and, of a classifier, logits ``(B, K)``, in one pass."""
        return pooled_and_logits(self.model, self.prepared(images))


def embedding_dim(model: VipriorsModel | VipriorsForImageClassification) -> int:
    """Width of what SEED distils: the projection, or the pooled features of a model without a projector."""
    if isinstance(model, VipriorsModel) and model.projector is not None:
        return model.config.projector_dim
    return feature_dim(model.backbone)


def pooled_and_logits(
    model: VipriorsModel | VipriorsForImageClassification, images: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Pooled features ``(B, D)`` and, of a classifier, logits ``(B, K)``: one pass through the backbone."""
    final = model.backbone.forward_features(images)
    pooled = model.backbone.forward_head(final, pre_logits=True)
    classifies = isinstance(model, VipriorsForImageClassification)
    return pooled, model.backbone.forward_head(final) if classifies else None
