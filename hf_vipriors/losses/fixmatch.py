"""What a prediction for an image without a label is worth: the threshold, its relatives, and distribution alignment.

References:
    [0] AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation, https://arxiv.org/abs/2106.04732
    [1] SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised Learning,
        https://arxiv.org/abs/2301.10921
    [2] ReMixMatch: Semi-Supervised Learning with Distribution Alignment and Augmentation Anchoring,
        https://arxiv.org/abs/1911.09785
"""

from __future__ import annotations

from torch import Tensor

from . import _checks

_TINY = 1e-6  # of a mean probability, as in the published programs


@_checks.in_float32
def align_distribution(predictions: Tensor, mean: Tensor, target: Tensor) -> Tensor:
    r"""Scale predictions so that on average they have the distribution that they should have [0, 2].

    .. math:: \tilde p = \mathrm{normalise}\Big(p \, \frac{q + \epsilon}{m + \epsilon}\Big)

    Args:
        predictions: ``(B, C)`` probabilities p.
        mean: ``(C,)`` mean m of such predictions.
        target: ``(C,)`` distribution q that they should have.

    Returns:
        ``(B, C)`` probabilities, float32.

    Raises:
        ValueError: on mismatched shapes or an empty batch.

    Example:
        >>> import torch
        >>> predictions = torch.tensor([[0.6, 0.4]])  # too often the first class
        >>> align_distribution(predictions, mean=torch.tensor([0.75, 0.25]), target=torch.tensor([0.5, 0.5]))
        tensor([[0.3333, 0.6667]])
    """
    _checks.embeddings(predictions, "predictions")
    for name, vector in (("mean", mean), ("target", target)):
        if vector.shape != predictions.shape[1:]:
            raise ValueError(
                f"{name} has shape {tuple(vector.shape)}, predictions have {predictions.shape[1]} classes"
            )
    scaled = predictions.float() * ((target.float() + _TINY) / (mean.float() + _TINY))
    return scaled / scaled.sum(dim=1, keepdim=True)


@_checks.in_float32
def relative_threshold(labelled: Tensor, confidence: float = 0.9) -> Tensor:
    r"""The threshold as a share of how sure a network is of images whose label it is trained on [0].

    .. math:: c = \frac{\tau}{L} \sum_{i=1}^{L} \max_j p_{ij}

    Args:
        labelled: ``(L, C)`` probabilities p for the weak views of the labelled images.
        confidence: :math:`\tau` in [0, 1]. Default 0.9 [0].

    Returns:
        Scalar, float32.

    Raises:
        ValueError: on an empty batch.

    Example:
        >>> import torch
        >>> relative_threshold(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), confidence=0.5)
        tensor(0.4000)
    """
    _checks.embeddings(labelled, "labelled")
    return confidence * labelled.float().amax(dim=1).mean()


@_checks.in_float32
def truncated_gaussian(confidence: Tensor, mean: Tensor, variance: Tensor, *, deviations: float = 2.0) -> Tensor:
    r"""A weight in place of a threshold: 1 from the mean confidence upwards, less the further below it [1].

    .. math:: w(c) = \exp\Big(-\frac{\min(c - \mu, 0)^2}{2 \sigma^2 / n^2}\Big)

    The published program narrows the Gaussian of [1] by n = 2. The largest weight is 1, the paper's
    :math:`\lambda_{max}`; a method multiplies by its own weight.

    Args:
        confidence: ``(B,)`` largest probability c of each prediction.
        mean: scalar :math:`\mu`, the running mean of such confidences.
        variance: scalar :math:`\sigma^2`, their running variance.
        deviations: n > 0. Default 2 (published program of [1]).

    Returns:
        ``(B,)`` weights in [0, 1], float32.

    Raises:
        ValueError: on shapes other than these, or deviations <= 0.

    Example:
        >>> import torch
        >>> truncated_gaussian(torch.tensor([0.9, 0.7, 0.5]), torch.tensor(0.7), torch.tensor(0.04))
        tensor([1.0000, 1.0000, 0.1353])
    """
    _checks.positive(deviations, "deviations")
    if confidence.ndim != 1 or mean.numel() != 1 or variance.numel() != 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in (confidence, mean, variance))
        raise ValueError(f"confidence, mean and variance must be a vector and two scalars, got shapes {shapes}")
    below = (confidence.float() - mean.float()).clamp(max=0)
    return (-below.square() * deviations**2 / (2 * variance.float().clamp(min=1e-12))).exp()
