"""BYOL: a network predicts what its own moving average makes of another view; there are no negatives.

References:
    [0] Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, https://arxiv.org/abs/2006.07733
    [1] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..backbones import feature_dim
from ..models import VipriorsModel
from ..options import Default, option
from ..papers import VIPRIORS, Paper
from .base import Material, MethodOutput, Progress
from .options import FeatureOptions, MultiCropOptions, not_given
from .pretraining import LabelFreeMethod, embedded_by_size, follow, full_and_small, half_cosine

BYOL = Paper(
    "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
    "https://arxiv.org/abs/2006.07733",
    "Jean-Bastien Grill and Florian Strub and Florent Altche and Corentin Tallec and Pierre H. Richemond and "
    "Elena Buchatskaya and Carl Doersch and Bernardo Avila Pires and Zhaohan Daniel Guo and Mohammad Gheshlaghi Azar "
    "and Bilal Piot and Koray Kavukcuoglu and Remi Munos and Michal Valko",
    2020,
)


@dataclass
class ByolOptions(MultiCropOptions, FeatureOptions):
    """What BYOL reads."""

    target_momentum: float = option(
        0.996, "byol: momentum of the target network at the start [2006.07733].", low=0, high=1
    )
    target_momentum_end: float = option(1.0, "byol: ... at the end, on a half cosine [2006.07733].", low=0, high=1)
    predictor_hidden_dim: int | None = option(
        None, "byol: width of the predictor's hidden layer; None: the projector's [2006.07733 has 4096].", low=1
    )


class Byol(LabelFreeMethod):
    r"""Online network with a predictor, and a target network that follows it [0].

    .. math:: L = \frac{1}{2B} \sum_i \|\bar q(z_i) - \bar z'_i\|^2 + \|\bar q(z'_i) - \bar z_i\|^2

    with z the online network's projection of one view, z' the target network's of the other, q the predictor, and bars
    for unit vectors; the target is a constant, :math:`\xi \leftarrow a\,\xi + (1 - a)\,\theta` after each step.

    Small views (multi-crop [1]) predict the targets of both full ones; the loss is the mean over all predictions.

    NOTE both views go through each network in one pass: their batch norms see them together, where [0] has one view at
    a time. There is no chance level: the loss of a collapsed network is 0, which the spread of the features tells.

    Args:
        model: online network with a projector (with a batch norm inside it [0]).
        momentum, momentum_end: a at the start and at the end, on a half cosine. Defaults 0.996 and 1 [0].
        predictor_hidden_dim: width inside the predictor; None (default) takes the projector's, or the features'.

    Raises:
        ValueError: when the model has no projector.

    Example:
        >>> from hf_vipriors.models import VipriorsConfig
        >>> projector = {"projector_dim": 8, "projector_batch_norm": True}
        >>> method = Byol(VipriorsModel(VipriorsConfig.for_backbone("test_resnet", image_size=32, **projector)))
        >>> views = [torch.rand(4, 3, 32, 32) for _ in range(2)]
        >>> 0 <= method(views, torch.full((4,), -1), torch.arange(4)).loss.item() <= 4
        True
    """

    name, job = "byol", "teacher"
    summary = "no negatives, a predictor and a moving target"
    options = ByolOptions
    papers = (BYOL, VIPRIORS)
    parts_shown = {"positive_cosine": "cos+"}

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        return not_given(args, "byol [2006.07733]", projector_batch_norm=True)

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> Byol:
        (model,) = networks
        return cls(
            model,
            momentum=args.target_momentum,
            momentum_end=args.target_momentum_end,
            predictor_hidden_dim=args.predictor_hidden_dim,
        )

    def __init__(
        self,
        model: VipriorsModel,
        *,
        momentum: float = 0.996,
        momentum_end: float = 1.0,
        predictor_hidden_dim: int | None = None,
    ):
        super().__init__()
        if model.config.projector_dim is None:
            raise ValueError("BYOL needs a model with a projector (projector_dim)")
        self.model = model
        self.target = copy.deepcopy(model).requires_grad_(False)
        self.momentum, self.momentum_end = momentum, momentum_end
        width = model.config.projector_dim
        hidden = predictor_hidden_dim or model.config.projector_hidden_dim or feature_dim(model.backbone)
        self.predictor = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        full, small = full_and_small(views)
        online = embedded_by_size(self.model, full, small)
        groups = [online[:2], online[2:]] if small else [online]
        predictions = [each for group in groups for each in self.predictor(torch.cat(group)).chunk(len(group))]
        with torch.no_grad():
            first, second = self.target(torch.cat(full)).projection.chunk(2)
        pairs = [(predictions[0], second), (predictions[1], first)]
        pairs += [(prediction, target) for prediction in predictions[2:] for target in (first, second)]
        cosine = torch.cat([F.cosine_similarity(p.float(), target.float(), dim=1) for p, target in pairs]).mean()
        loss = 2 - 2 * cosine
        return MethodOutput(loss=loss, parts={"regression": loss.detach(), "positive_cosine": cosine.detach()})

    def end_step(self, progress: Progress) -> None:
        """Move the target network's weights; its batch-norm statistics are its own."""
        follow(self.target, self.model, self.momentum_at(progress.share))

    def momentum_at(self, share: float) -> float:
        """a after ``share`` of training."""
        return half_cosine(self.momentum, self.momentum_end, share)

    def deployable(self) -> VipriorsModel:
        return self.model
