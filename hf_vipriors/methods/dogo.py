"""DoGo: two peers learn without labels and teach each other online whom they find similar.

References:
    [0] Distill on the Go: Online knowledge distillation in self-supervised learning, https://arxiv.org/abs/2104.09866
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from .. import losses
from ..errors import InputError
from ..models import VipriorsForImageClassification, VipriorsModel
from ..options import LEARNING_RATE, TEMPERATURE, Default, option
from ..papers import Paper
from .base import Material, MethodOutput, Progress, card_options
from .distributed import gather_with_gradient
from .frozen_teacher import Renormalise
from .moco import MoCo, MoCoOptions
from .options import not_given
from .pretraining import LabelFreeMethod, feature_config
from .simclr import SimCLR

CONTRASTS = {method.name: method for method in (SimCLR, MoCo)}
DOGO = Paper(
    "Distill on the Go: Online knowledge distillation in self-supervised learning",
    "https://arxiv.org/abs/2104.09866",
    "Prashant Bhat and Elahe Arani and Bahram Zonooz",
    2021,
)


@dataclass
class DoGoOptions(MoCoOptions):
    """What DoGo reads: its own, and those of each peer's contrastive loss."""

    contrast: str = option("simclr", "dogo: each peer's own loss, simclr or moco.", choices=tuple(CONTRASTS))
    peer_backbone: str | None = option(None, "dogo: the other network; None: the same as --backbone.")
    peer_backbone_args: dict | str | None = option(
        None, "dogo: JSON of arguments of the other network; None: --backbone_args where the network is the same."
    )
    peer_learning_rate: float | None = option(
        None, "dogo: learning rate of the other network; None: the same.", bounds=LEARNING_RATE
    )
    mutual_weight: float | None = option(
        None, "dogo: weight of the KL of --backbone; None: 1, or 100 with mean.", low=0
    )
    peer_mutual_weight: float = option(1.0, "dogo: weight of the KL of --peer_backbone.", low=0)
    mutual_temperature: float = option(0.1, "dogo: T of the similarities [2104.09866].", bounds=TEMPERATURE)
    mutual_reduction: str = option(
        "batchmean",
        "dogo: batchmean (the KL itself), or mean over all entries as in the published program.",
        choices=("batchmean", "mean"),
    )


class DoGo(LabelFreeMethod):
    r"""Each peer's own contrastive loss on its own two views, and the KL divergence to the other's similarities.

    .. math:: L = L_a + w_a \, KL(\sigma(S_b) \| \sigma(S_a)) + L_b + w_b \, KL(\sigma(S_a) \| \sigma(S_b))

    with S the cosines between the first and the second views of the global batch, divided by T; each peer takes the
    other's rows as constants.

    Args:
        peer_a: the first peer, trained by SimCLR or MoCo.
        peer_b: the second; it may be any other network.
        weights: w_a and w_b. Default 1 and 1; the published program has 100 and 1, with ``"mean"``: as much as 0.39
            and 0.004 of the KL itself in a batch of 256.
        temperature: T of the similarities. Default 0.1 [0].
        reduction: ``"batchmean"``, the KL itself (default), or ``"mean"`` over all entries, as published.
        learning_rate_factor: peer_b's learning rate over peer_a's. Default 1.
    """

    name, job = "dogo", "pretrain"
    summary = "two peers teach each other"
    options = DoGoOptions
    papers = (DOGO,)
    scores = (*LabelFreeMethod.scores, "peer.knn", "peer.linear")
    parts_shown = {"mutual": "kl", "peer_mutual": "peer kl", "positive_cosine": "cos+"}

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        published = not_given(
            args, "dogo [2104.09866]", mutual_weight=100.0 if args.mutual_reduction == "mean" else 1.0
        )
        sizes = not_given(args, "dogo", image_size=64, projector_dim=128)
        same = {}
        if args.peer_backbone in (None, args.backbone):
            same = not_given(args, "the same network", peer_backbone_args=args.backbone_args)
        return published | sizes | same | CONTRASTS[args.contrast].defaults(args)

    @classmethod
    def data_defaults(cls, args: Any, images: int) -> dict[str, Default]:
        return CONTRASTS[args.contrast].data_defaults(args, images)

    @classmethod
    def check(cls, args: Any) -> None:
        super().check(args)
        if args.teacher is not None:
            raise InputError("--method dogo has no teacher, its peers teach each other: leave --teacher out")
        if args.patches:
            raise InputError("--patches: dogo compares full views only; leave it out, or use --method seed")

    @classmethod
    def options_read(cls, args: Any) -> tuple[str, ...]:
        own = tuple(name for name in card_options(cls) if name not in card_options(MoCo))
        return (*own, *CONTRASTS[args.contrast].options_read(args))

    @classmethod
    def networks(
        cls, args: Any, class_names: Sequence[str], teacher: VipriorsModel | VipriorsForImageClassification | None
    ) -> tuple[PreTrainedModel, ...]:
        ours = feature_config(args, class_names)
        theirs = feature_config(
            args,
            class_names,
            backbone=args.peer_backbone or args.backbone,
            backbone_args=args.peer_backbone_args or {},
        )
        return VipriorsModel(ours), VipriorsModel(theirs)

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> DoGo:
        peers = [CONTRASTS[args.contrast].build([network], args, material) for network in networks]
        return cls(
            *peers,
            weights=(args.mutual_weight, args.peer_mutual_weight),
            temperature=args.mutual_temperature,
            reduction=args.mutual_reduction,
            learning_rate_factor=(args.peer_learning_rate or args.learning_rate) / args.learning_rate,
        )

    @classmethod
    def full_views(cls, args: Any) -> int:
        return 4

    def __init__(
        self,
        peer_a: SimCLR | MoCo,
        peer_b: SimCLR | MoCo,
        *,
        weights: tuple[float, float] = (1.0, 1.0),
        temperature: float = 0.1,
        reduction: str = "batchmean",
        learning_rate_factor: float = 1.0,
    ):
        super().__init__()
        self.peer_a, self.peer_b, self.weights = peer_a, peer_b, weights
        self.temperature, self.reduction, self.factor = temperature, reduction, learning_rate_factor
        ours, theirs = peer_a.model, peer_b.model
        size = theirs.config.image_size if theirs.fixed_size else None
        self.prepared = Renormalise(ours.config.image_mean, ours.config.image_std, theirs.config, size)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        """``views``: two for peer a, then two for peer b."""
        if len(views) != 4:
            raise ValueError(f"DoGo takes four views, two for each peer, got {len(views)}")
        out_a, *pair_a = self.peer_a.contrast(views[:2], index)
        out_b, *pair_b = self.peer_b.contrast([self.prepared(view) for view in views[2:]], index)
        # The similarities are those of the global batch, on every process the same.
        embeddings = [gather_with_gradient(tensor) for tensor in (*pair_a, *pair_b)]
        mutual = losses.dogo(*embeddings, temperature=self.temperature, reduction=self.reduction)
        own = out_a.loss + out_b.loss
        parts = {
            "contrastive": out_a.loss.detach(),
            "peer_contrastive": out_b.loss.detach(),
            "mutual": mutual[0].detach(),
            "peer_mutual": mutual[1].detach(),
            "positive_cosine": out_a.parts["positive_cosine"],
        }
        return MethodOutput(loss=own + self.weights[0] * mutual[0] + self.weights[1] * mutual[1], parts=parts)

    def begin_step(self, progress: Progress) -> None:
        self.peer_a.begin_step(progress)
        self.peer_b.begin_step(progress)

    def end_step(self, progress: Progress) -> None:
        self.peer_a.end_step(progress)
        self.peer_b.end_step(progress)

    def smaller_and_larger(self) -> tuple[VipriorsModel, VipriorsModel]:
        """The peer that is exported, and the other; of equals the first is exported."""
        peers = [self.peer_a.deployable(), self.peer_b.deployable()]
        sizes = [sum(p.numel() for p in peer.backbone.parameters()) for peer in peers]
        return (peers[0], peers[1]) if sizes[0] <= sizes[1] else (peers[1], peers[0])

    def deployable(self) -> VipriorsModel:
        return self.smaller_and_larger()[0]

    def evaluated(self) -> dict[str, VipriorsModel]:
        smaller, larger = self.smaller_and_larger()
        return {"": smaller, "peer_": larger}

    def learning_rate_factors(self) -> dict[str, float]:
        return {} if self.factor == 1 else {"peer_b.": self.factor}
