"""DoGo: two peers learn without labels and teach each other online whom they find similar.

References:
    [0] Distill on the Go: Online knowledge distillation in self-supervised learning, https://arxiv.org/abs/2104.09866
"""

from __future__ import annotations

from torch import Tensor

from .. import losses
from ..models import VipriorsModel
from .base import Method, MethodOutput, Progress, Renormalise
from .distributed import gather_with_gradient
from .moco import MoCo
from .simclr import SimCLR


class DoGo(Method):
    r"""Each peer's own contrastive loss on its own two views, and the KL divergence to the other's similarities.

    .. math:: L = L_a + w_a \, KL(\sigma(S_b) \| \sigma(S_a)) + L_b + w_b \, KL(\sigma(S_a) \| \sigma(S_b))

    with S the cosines between the first and the second views of the global batch, divided by T; each peer takes the
    other's rows as constants.

    Args:
        peer_a: the first peer, trained by SimCLR or MoCo.
        peer_b: the second; it may be any other network.
        weights: w_a and w_b. Default 1 and 1; the published program has 100 and 1, with ``"mean"``.
        temperature: T of the similarities. Default 0.1 [0].
        reduction: ``"batchmean"``, the KL itself (default), or ``"mean"`` over all entries, as published.
        learning_rate_factor: peer_b's learning rate over peer_a's. Default 1.
    """

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
