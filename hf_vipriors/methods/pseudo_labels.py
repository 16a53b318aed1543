"""From predictions for images without labels to pseudo-labels and what each of them counts.

References:
    [0] FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, https://arxiv.org/abs/2001.07685
    [1] AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation, https://arxiv.org/abs/2106.04732
    [2] SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised Learning,
        https://arxiv.org/abs/2301.10921
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..losses import fixmatch
from .distributed import gather, mean_over_processes

# How a prediction's confidence becomes its weight -> the alignment that its paper has beside it.
THRESHOLDS = {"fixed": "none", "relative": "labelled", "soft": "uniform"}
ALIGNMENTS = ("none", "labelled", "uniform")


class PseudoLabels(nn.Module):
    """The class of each prediction, and its weight.

    ``threshold``, with c the largest probability of a prediction:

    - ``"fixed"``: 1 where c >= ``confidence``, else 0 [0].
    - ``"relative"``: the same with :func:`~hf_vipriors.losses.fixmatch.relative_threshold` of the labelled images of
      the batch of all processes [1].
    - ``"soft"``: :func:`~hf_vipriors.losses.fixmatch.truncated_gaussian` of c, with running mean and (unbiased)
      variance of c over the batches of all processes, at first 1 / C and 1 [2].

    ``alignment`` of the predictions (:func:`~hf_vipriors.losses.fixmatch.align_distribution`), with running means of
    the predictions over the batches of all processes, at first 1 / C:

    - ``"none"``.
    - ``"labelled"``: to the mean for labelled images; threshold and class are those of the aligned prediction [1].
      NOTE the formula of [1] has the means of the batch. Its program has running ones, as here, that for images
      without labels over the last 128 batches, as ReMixMatch (1911.09785) has it.
    - ``"uniform"``: to equal shares; the weight is that of the aligned prediction, the class that of the raw one [2].
      NOTE the running mean of the program of [2] starts with the first batch.

    What runs is updated by each batch before it is used, in training mode only; it is equal on all processes, and
    part of a checkpoint. NOTE the momentum is at most (1 + t) / (10 + t) after t updates, as that of the average of
    the weights: with 0.999 from the start, soft weights are all 1 for the first thousand steps, and alignment does
    little.

    Args:
        classes: C.
        threshold: default ``"fixed"``.
        confidence: of the fixed and of the relative threshold. Default 0.9 [1] (NOTE 0.95 [0]).
        alignment: default ``"none"``.
        momentum: of what runs, once it has warmed up. Default 0.999 [2].

    Raises:
        ValueError: an unknown threshold or alignment.

    Example:
        >>> predictions = torch.tensor([[0.95, 0.05], [0.3, 0.7]])
        >>> PseudoLabels(2)(predictions)
        (tensor([0, 1]), tensor([1., 0.]))
        >>> PseudoLabels(2, threshold="relative")(predictions, torch.tensor([[0.4, 0.6]]))  # 0.54
        (tensor([0, 1]), tensor([1., 1.]))
    """

    def __init__(
        self,
        classes: int,
        *,
        threshold: str = "fixed",
        confidence: float = 0.9,
        alignment: str = "none",
        momentum: float = 0.999,
    ):
        super().__init__()
        for name, value, known in (("threshold", threshold, THRESHOLDS), ("alignment", alignment, ALIGNMENTS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.threshold, self.confidence, self.alignment, self.momentum = threshold, confidence, alignment, momentum
        self.follows = threshold == "soft" or alignment != "none"
        if self.follows:
            self.register_buffer("updates", torch.tensor(0))
        if threshold == "soft":
            self.register_buffer("confidence_mean", torch.tensor(1 / classes))
            self.register_buffer("confidence_variance", torch.tensor(1.0))
        if alignment != "none":
            self.register_buffer("mean", torch.full((classes,), 1 / classes))
            # Equal shares stay as they are; those of labelled images are followed.
            self.register_buffer("target", torch.full((classes,), 1 / classes), persistent=alignment == "labelled")

    @property
    def needs_labelled(self) -> bool:
        """Whether predictions for labelled images are compared with."""
        return self.threshold == "relative" or self.alignment == "labelled"

    @torch.no_grad()
    def forward(self, predictions: Tensor, labelled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(U,)`` classes and ``(U,)`` weights of ``predictions`` ``(U, C)`` for images without labels.

        Args:
            predictions: probabilities.
            labelled: ``(L, C)`` probabilities for the weak views of labelled images; looked at where needed.
        """
        if self.training and self.follows:
            self.updates.add_(1)
        aligned = self._aligned(predictions, labelled)
        confidence, classes = aligned.max(dim=1)
        if self.alignment == "uniform":
            classes = predictions.argmax(dim=1)
        if self.threshold == "soft":
            return classes, self._soft_weights(confidence)
        threshold: Tensor | float = self.confidence
        if self.threshold == "relative":
            threshold = mean_over_processes(fixmatch.relative_threshold(labelled, self.confidence))
        return classes, (confidence >= threshold).float()

    def _aligned(self, predictions: Tensor, labelled: Tensor | None) -> Tensor:
        if self.alignment == "none":
            return predictions
        self._follow(self.mean, mean_over_processes(predictions.mean(dim=0)))
        if self.alignment == "labelled":
            self._follow(self.target, mean_over_processes(labelled.mean(dim=0)))
        return fixmatch.align_distribution(predictions, self.mean, self.target)

    def _soft_weights(self, confidence: Tensor) -> Tensor:
        everywhere = gather(confidence)
        mean = everywhere.mean()
        # Of a single image the unbiased variance would be 0 / 0.
        variance = (everywhere - mean).square().sum() / max(1, len(everywhere) - 1)
        self._follow(self.confidence_mean, mean)
        self._follow(self.confidence_variance, variance)
        return fixmatch.truncated_gaussian(confidence, self.confidence_mean, self.confidence_variance)

    def _follow(self, average: Tensor, value: Tensor) -> None:
        if self.training:
            momentum = (self.updates / (9 + self.updates)).clamp(max=self.momentum)  # (1 + t) / (10 + t) from t = 0
            average.lerp_(value, 1 - momentum)
