"""MoCo v2 with a margin and an instance-aware queue: phase 1 of Distilling Visual Priors.

References:
    [0] Distilling Visual Priors from Self-Supervised Learning, https://arxiv.org/abs/2008.00261
    [1] Momentum Contrast for Unsupervised Visual Representation Learning, https://arxiv.org/abs/1911.05722
    [2] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
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

from ..losses import chance_level, margin_info_nce
from ..models import VipriorsModel
from ..options import Default, option
from ..papers import VIPRIORS, Paper
from .base import Material, MethodOutput, Progress
from .distributed import gather, local_rows, shared_permutation, world
from .key_queue import KeyQueue, queue_default
from .options import ContrastiveOptions, FeatureOptions, MomentumOptions, MultiCropOptions, QueueOptions, not_given
from .pretraining import LabelFreeMethod, embedded_by_size, follow, full_and_small, half_cosine

MOCO_V2 = Paper(
    "Improved Baselines with Momentum Contrastive Learning",
    "https://arxiv.org/abs/2003.04297",
    "Xinlei Chen and Haoqi Fan and Ross Girshick and Kaiming He",
    2020,
)


@dataclass
class MoCoOptions(ContrastiveOptions, QueueOptions, MomentumOptions, MultiCropOptions, FeatureOptions):
    """What MoCo reads."""

    symmetric: bool = option(
        False,
        "moco: each full view is a query for the other's key [authors' CIFAR-10 program]: twice the time of a step.",
    )


class MoCo(LabelFreeMethod):
    r"""Query encoder, momentum encoder and queue.

    :math:`\theta_k \leftarrow a\,\theta_k + (1 - a)\,\theta_q` after each optimizer step; keys enter the queue
    after the loss, each with the number of its image, so that a queue which holds other views of the very image being
    queried does not push an image from itself.

    With small views (multi-crop [2]) each of them is a query too, for the same key; the loss is the mean over queries.
    The symmetric loss makes each full view the query of the other's key, and both keys enter the queue (NOTE: the
    authors' CIFAR-10 program adds the two losses where this takes their mean, which Adam does not see, and normalises
    the views apart, which run through the network together here). 12 epochs of the quickstart's recipe: linear probe
    75.2 against 73.2, above in three seeds of three, in 1.9 times the time.

    Batch norm leaks which key belongs to which query. Across processes the key batch is therefore shuffled; within one
    it is normalised in ``batchnorm_splits`` groups (SyncBN is no substitute).

    Args:
        model: query encoder with a projector.
        queue_length: K, number of keys kept. [0]: 4096.
        temperature, margin: see :func:`hf_vipriors.losses.margin_info_nce`. Defaults 0.2 and 0.4 [0].
        momentum: a at the start. Default 0.999 [1].
        momentum_end: a at the end, on a half cosine from ``momentum``; None keeps it constant [1].
        batchnorm_splits: groups of the key batch; None for one group per 32 keys (8 for a batch of 256).
        instance_aware: mask queue entries of the query's own image. Default True.
        symmetric: each full view is a query for the other's key. Default False, as in [0] and [1].

    Raises:
        ValueError: when the model has no projector or the queue is empty.
    """

    name, job = "moco", "teacher"
    summary = "momentum encoder, queue, margin"
    options = MoCoOptions
    papers = (VIPRIORS, MOCO_V2)
    parts_shown = {"positive_cosine": "cos+"}

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        return not_given(args, "moco [2008.00261]", temperature=0.2, margin=0.4, projector_batch_norm=False)

    @classmethod
    def data_defaults(cls, args: Any, images: int) -> dict[str, Default]:
        otherwise = f"use {'--method' if args.method == cls.name else '--contrast'} simclr"
        return queue_default(args, images, otherwise=otherwise)

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> MoCo:
        (model,) = networks
        return cls(
            model,
            queue_length=args.queue_length,
            temperature=args.temperature,
            margin=args.margin,
            momentum=args.encoder_momentum,
            momentum_end=args.encoder_momentum_end,
            batchnorm_splits=args.batchnorm_splits,
            instance_aware=args.instance_aware,
            symmetric=args.symmetric,
        )

    def __init__(
        self,
        model: VipriorsModel,
        *,
        queue_length: int,
        temperature: float = 0.2,
        margin: float = 0.4,
        momentum: float = 0.999,
        momentum_end: float | None = None,
        batchnorm_splits: int | None = None,
        instance_aware: bool = True,
        symmetric: bool = False,
    ):
        super().__init__()
        if model.config.projector_dim is None:
            raise ValueError("MoCo needs a model with a projector (projector_dim)")
        self.model = model
        self.momentum_model = copy.deepcopy(model).requires_grad_(False)
        self.temperature, self.margin = temperature, margin
        self.momentum, self.momentum_end = momentum, momentum_end
        self.batchnorm_splits, self.instance_aware = batchnorm_splits, instance_aware
        self.symmetric = symmetric
        self.has_batchnorm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        self.queue = KeyQueue(queue_length, model.config.projector_dim)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        return self.contrast(views, index)[0]

    def contrast(self, views: list[Tensor], index: Tensor) -> tuple[MethodOutput, Tensor, Tensor]:
        """The step, and the embeddings ``(B, P)`` of both views that it compared: raw query, unit key."""
        full, small = full_and_small(views)
        asked = full[1::-1] if self.symmetric else full[1:]
        queries = embedded_by_size(self.model, full[: len(asked)], small)
        all_keys = [self._keys(view) for view in asked]
        own = [local_rows(keys) for keys in all_keys]
        pairs = [*zip(queries, own, strict=False)]
        pairs += [(each, key) for each in queries[len(own) :] for key in own]
        loss = torch.stack([self._loss(query, key, index) for query, key in pairs]).mean()
        query, key = pairs[0]
        cosine = F.cosine_similarity(query.detach().float(), key, dim=1).mean()
        if self.training:
            for keys in all_keys:
                self.queue.push(keys, gather(index))
        parts = {"contrastive": loss.detach(), "positive_cosine": cosine}
        return MethodOutput(loss=loss, parts=parts), query, key

    def _loss(self, query: Tensor, key: Tensor, index: Tensor) -> Tensor:
        return margin_info_nce(
            query,
            key,
            self.queue.keys,
            temperature=self.temperature,
            margin=self.margin,
            query_index=index if self.instance_aware else None,
            queue_index=self.queue.index if self.instance_aware else None,
        )

    @torch.no_grad()
    def _keys(self, view: Tensor) -> Tensor:
        """Unit keys ``(W * B, D)`` of all processes in rank order, none normalised together with its own query."""
        if not (self.has_batchnorm and self.momentum_model.training):
            return gather(F.normalize(self.momentum_model(view).projection.float(), dim=1))
        shuffled = world()[1] > 1
        if shuffled:
            order = shared_permutation(world()[1] * len(view), view.device)
            rows = view.permute(0, 2, 3, 1)  # how channels_last lies in memory: gathered without a copy
            view = local_rows(gather(rows)[order]).permute(0, 3, 1, 2)
        splits = self.batchnorm_splits or max(1, len(view) // 32)
        keys = torch.cat([self.momentum_model(group).projection for group in view.chunk(splits)])
        keys = gather(F.normalize(keys.float(), dim=1))
        if shuffled:
            keys = torch.empty_like(keys).index_copy(0, order, keys)
        return keys

    def end_step(self, progress: Progress) -> None:
        """Move the momentum encoder's weights; its batch-norm statistics are its own."""
        follow(self.momentum_model, self.model, self.momentum_at(progress.share))

    def momentum_at(self, share: float) -> float:
        """a after ``share`` of training."""
        if self.momentum_end is None:
            return self.momentum
        return half_cosine(self.momentum, self.momentum_end, share)

    def deployable(self) -> VipriorsModel:
        return self.model

    def chance_level(self, global_batch: int) -> float:
        return chance_level(len(self.queue), temperature=self.temperature, margin=self.margin)
