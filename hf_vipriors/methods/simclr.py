"""SimCLR: the other images of the global batch are the negatives.

References:
    [0] A Simple Framework for Contrastive Learning of Visual Representations, https://arxiv.org/abs/2002.05709
    [1] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..losses import chance_level, nt_xent
from ..models import VipriorsModel
from ..options import Default
from ..papers import VIPRIORS, Paper
from .base import Material, MethodOutput
from .distributed import gather_with_gradient
from .options import ContrastiveOptions, FeatureOptions, MultiCropOptions, not_given
from .pretraining import LabelFreeMethod, embedded_by_size, full_and_small

SIMCLR = Paper(
    "A Simple Framework for Contrastive Learning of Visual Representations",
    "https://arxiv.org/abs/2002.05709",
    "Ting Chen and Simon Kornblith and Mohammad Norouzi and Geoffrey Hinton",
    2020,
)


@dataclass
class SimCLROptions(ContrastiveOptions, MultiCropOptions, FeatureOptions):
    """What SimCLR reads."""


class SimCLR(LabelFreeMethod):
    """Both views through one encoder, NT-Xent over the global batch.

    Small views (multi-crop [1]) are each compared with both full ones; the loss is the mean over all pairs with a full
    view in them.

    Args:
        model: encoder with a projector (with a batch norm inside it, as in [0]).
        temperature: default 0.5, as on CIFAR-10 in [0]; 0.1 there on ImageNet. See the recipe ``fashion_teacher`` for
            what it was worth with few images.
        margin: taken off the positive, default 0.

    Raises:
        ValueError: when the model has no projector.
    """

    name, job = "simclr", "teacher"
    summary = "in-batch negatives"
    options = SimCLROptions
    papers = (SIMCLR, VIPRIORS)
    parts_shown = {"positive_cosine": "cos+"}

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        return not_given(args, "simclr [2002.05709]", temperature=0.5, margin=0.0, projector_batch_norm=True)

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> SimCLR:
        (model,) = networks
        return cls(model, temperature=args.temperature, margin=args.margin)

    def __init__(self, model: VipriorsModel, *, temperature: float = 0.5, margin: float = 0.0):
        super().__init__()
        if model.config.projector_dim is None:
            raise ValueError("SimCLR needs a model with a projector (projector_dim)")
        self.model, self.temperature, self.margin = model, temperature, margin

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        return self.contrast(views, index)[0]

    def contrast(self, views: list[Tensor], index: Tensor) -> tuple[MethodOutput, Tensor, Tensor]:
        """The step, and the raw embeddings ``(B, P)`` of both views that it compared."""
        full, small = full_and_small(views)
        # One pass for both views: a module with buffers that runs twice under DDP breaks its own backward.
        first, second, *others = embedded_by_size(self.model, full, small)
        pairs = [(first, second), *((one, other) for other in others for one in (first, second))]
        gathered = {id(each): gather_with_gradient(each) for each in (first, second, *others)}
        options = {"temperature": self.temperature, "margin": self.margin}
        loss = torch.stack([nt_xent(gathered[id(a)], gathered[id(b)], **options) for a, b in pairs]).mean()
        cosine = F.cosine_similarity(first.detach().float(), second.detach().float(), dim=1).mean()
        parts = {"contrastive": loss.detach(), "positive_cosine": cosine}
        return MethodOutput(loss=loss, parts=parts), first, second

    def deployable(self) -> VipriorsModel:
        return self.model

    def chance_level(self, global_batch: int) -> float:
        return chance_level(2 * global_batch - 2, temperature=self.temperature, margin=self.margin)
