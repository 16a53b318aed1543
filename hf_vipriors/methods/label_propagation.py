"""Labels that travel to images without one over the graph of nearest features, and a linear classifier on all of them.

References:
    [0] Learning with Local and Global Consistency, NIPS 2003
    [1] Label Propagation for Deep Semi-supervised Learning, https://arxiv.org/abs/1904.04717
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import cg
from scipy.stats import dirichlet_multinomial
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from ..papers import Paper

logger = logging.getLogger(__name__)

LABEL_PROPAGATION = Paper(
    "Label Propagation for Deep Semi-supervised Learning",
    "https://arxiv.org/abs/1904.04717",
    "Ahmet Iscen and Giorgos Tolias and Yannis Avrithis and Ondrej Chum",
    2019,
)


@torch.no_grad()
def fit_to_propagated_labels(
    trainer: Any, num_classes: int, most: int, class_weights: Tensor | None = None
) -> dict[str, Any]:
    """End a training of students: fit the classifier that is deployed to labels that travel to images without one.

    Args:
        trainer: which gives features of the training images, and takes a classifier where validation does not object.
        num_classes: K.
        most: how many images without labels are looked at.
        class_weights: ``(K,)`` weight of each class, as in the training, or None.

    Returns:
        The entry ``propagation`` of ``metrics.json``: how many ``images`` without a label got one, and what the
        trainer says of the new classifier. Nothing where none got one, or where there is no whole linear layer.
    """
    layer = trainer.classifier_layer()
    if layer is None:
        logger.warning("--propagate_labels is left out: the classifier is no single linear layer, or FSDP shards it")
        return {}
    found = trainer.training_features(most)
    labels = propagated_labels(found.values, found.labels)
    known, reached = found.labels >= 0, labels >= 0
    if not (images := int((reached & ~known).sum())):
        logger.info("no label travelled to any image without one; the trained classifier stays")
        return {}
    # As in the loss, the labels together count what the images without do. Counted one by one, travelled labels were
    # as good with 5 labels a class and cost 0.9 points with 25 and with 50 (Fashion-VIPriors).
    weights = torch.where(known, images / int(known.sum()), 1.0)
    if class_weights is not None:
        weights = weights * class_weights.cpu()[labels.clamp(min=0)]
    weight, bias = linear_classifier(found.values[reached], labels[reached], num_classes, weights=weights[reached])
    # No surer of the images without labels than the trained one is: ECE 6.1 in place of 14.2, as trained 9.6.
    pool = found.values[~known]
    trained = F.linear(pool, layer.weight.cpu().float(), layer.bias.cpu().float()).softmax(dim=1)
    factor = min(1.0, scale_to_confidence(F.linear(pool, weight, bias), float(trained.amax(dim=1).mean())))
    entry = {"images": images} | trainer.replace_classifier(layer, factor * weight, factor * bias)
    logger.info(_told(entry))
    return {"propagation": entry}


def seconds_to_propagate(images: int, width: int, classes: int, *, tried: int = 1500) -> float:
    """How long it takes, from what ``tried`` random features take: the graph's cost grows with the square."""
    some = min(images, tried)
    values = torch.randn(some, width, generator=torch.Generator().manual_seed(0))
    labels = torch.where(torch.arange(some) < classes, torch.arange(some), -1)
    start = time.monotonic()
    found = propagated_labels(values, labels)
    linear_classifier(values, found.clamp(min=0), classes)
    return (time.monotonic() - start) * (images / some) ** 2


def propagated_labels(
    features: Tensor, labels: Tensor, *, neighbours: int = 50, power: float = 3.0, alpha: float = 0.99
) -> Tensor:
    r"""The class of each image, carried from the labelled ones over the graph of nearest features [0, 1].

    .. math:: A_{ij} = [\cos(v_i, v_j)]_+^\gamma \; (j \in kNN(i)), \quad W = A + A^T, \quad
        Z = (I - \alpha D^{-1/2} W D^{-1/2})^{-1} Y

    Each column of Z, a class, is scaled to its :func:`class_shares`; the largest entry of a row is the class of the
    image. NOTE [1] takes the rows of Z as they are. NOTE v are standardised features, those of [1] are normalised
    alone.

    Args:
        features: ``(N, D)``, of labelled images and of those without.
        labels: ``(N,)`` integers, -1 where unknown.
        neighbours: k of the graph. Default 50 [1].
        power: gamma. Default 3 [1].
        alpha: how far labels travel, in [0, 1). Default 0.99 [1].

    Returns:
        ``(N,)`` classes; the known ones as they were, -1 where no path leads to any label.

    Raises:
        ValueError: shapes that do not go together, no label at all, or fewer than two images.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
        >>> propagated_labels(features, torch.tensor([4, -1, -1, 7]), neighbours=1).tolist()
        [4, 4, 7, 7]
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) < 2:
        raise ValueError(f"expected (N, D) features and N labels, got {tuple(features.shape)}, {tuple(labels.shape)}")
    classes, counts = labels[labels >= 0].unique(return_counts=True)
    if not len(classes):
        raise ValueError("no image has a label, so none can travel")
    spread = _similarities(standardised(features)[0], min(neighbours, len(features) - 1), power)
    system = sparse.identity(len(features), format="csr") - alpha * spread
    columns = []
    for one, share in zip(classes.tolist(), class_shares(counts.numpy()), strict=True):
        column = cg(system, (labels == one).numpy().astype(np.float64), rtol=1e-6)[0].clip(min=0)
        columns.append(column * (share / column.sum()))
    scores = torch.from_numpy(np.stack(columns, axis=1))
    found = classes[scores.argmax(dim=1)]
    found[scores.sum(dim=1) == 0] = -1
    return torch.where(labels >= 0, labels, found)


def class_shares(counts: np.ndarray) -> np.ndarray:
    r"""What the scores of each class weigh, from its number of labels: what chance made of these is undone.

    .. math:: s_k \propto \sqrt{n_k + a}, \quad
        a = \arg\max_a \log p(n_1, ..., n_K \mid a) \; \text{(Dirichlet-multinomial)}

    Of 50 labels that are drawn from 10 equal classes some class has two and some has eight. That differs no more than
    chance does, so that a is large and all shares are alike; where classes do differ in size, a is small and counts.
    The root is measured (model_cards/RESULTS.md): scores of the graph differ less between classes than probabilities.

    Args:
        counts: ``(K,)`` labels of each class, all above 0.

    Returns:
        ``(K,)``, which sum to 1.

    Example:
        >>> class_shares(np.array([5, 5, 5, 5])).round(2).tolist()
        [0.25, 0.25, 0.25, 0.25]
        >>> class_shares(np.array([3, 7, 5, 5])).round(2).tolist()
        [0.25, 0.25, 0.25, 0.25]
        >>> class_shares(np.array([900, 100])).round(2).tolist()
        [0.75, 0.25]
    """

    def unlikely(log_a: float) -> float:
        return -dirichlet_multinomial.logpmf(counts, np.full(len(counts), math.exp(log_a)), counts.sum())

    log_a = minimize_scalar(unlikely, bounds=(math.log(0.01), math.log(1e5)), method="bounded").x
    roots = np.sqrt(counts + math.exp(log_a))
    return roots / roots.sum()


def linear_classifier(
    features: Tensor, labels: Tensor, num_classes: int, *, weights: Tensor | None = None, decay: float = 0.02
) -> tuple[Tensor, Tensor]:
    r"""Multinomial logistic regression on standardised features x', as a linear layer for the features themselves.

    .. math:: \min_{W, b} \sum_i \frac{w_i}{\sum_j w_j} CE(W x'_i + b, y_i) + \frac{\lambda}{2} \lVert W \rVert^2

    Args:
        features: ``(N, D)``.
        labels: ``(N,)`` integers from 0.
        weights: ``(N,)`` what each image counts; None: all the same.
        num_classes: rows of W; a class without an image gets one, whose probability is small.
        decay: lambda. Default 0.02: from 0.002 to 0.02 little changed on Fashion-VIPriors and CIFAR-10, more cost.

    Returns:
        W ``(K, D)`` and b ``(K,)``, float32.

    Example:
        >>> weight, bias = linear_classifier(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1]), 2)
        >>> (torch.tensor([[0.2, 0.8], [0.9, 0.3]]) @ weight.T + bias).argmax(dim=1)
        tensor([0, 1])
    """
    values, mean, scale = standardised(features)
    shares = torch.ones(len(values)) if weights is None else weights.float()
    shares = shares / shares.sum()
    weight = torch.zeros(num_classes, values.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=300, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        search.zero_grad()
        losses = F.cross_entropy(values @ weight.T + bias, labels, reduction="none")
        loss = shares @ losses + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(objective)
    weight = weight.detach() / scale
    return weight, bias.detach() - weight @ mean


def scale_to_confidence(logits: Tensor, confidence: float) -> float:
    r"""The factor on logits with which their largest probability is ``confidence`` on average.

    Travelled labels are wrong now and then and none of them says so: a classifier that is fitted to them is surer than
    it should be, and by a factor it names the same classes.

    Args:
        logits: ``(N, K)``.
        confidence: in (1 / K, 1); what lies outside of what 0.001 to 1,000 reach gets the nearer of the two.

    Example:
        >>> factor = scale_to_confidence(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 0.7)
        >>> (factor * torch.tensor([[3.0, 0.0], [0.0, 1.0]])).softmax(1).amax(1).mean()
        tensor(0.7000)
    """
    low, high = 1e-3, 1e3
    for _ in range(60):
        factor = math.sqrt(low * high)
        below = (factor * logits.double()).softmax(dim=1).amax(dim=1).mean() < confidence
        low, high = (factor, high) if below else (low, factor)
    return factor


def standardised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features ``(N, D)`` with mean 0 and deviation 1 in each column, and the ``(D,)`` mean and deviation they had.

    A column that is the same for all images becomes 0.
    """
    values = features.float()
    mean, scale = values.mean(dim=0), values.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-6 * values.abs().amax(dim=0).clamp(min=1e-6), scale, torch.ones_like(scale))
    return (values - mean) / scale, mean, scale


def _similarities(values: Tensor, neighbours: int, power: float) -> sparse.csr_matrix:
    """The symmetric graph of cosines, each edge divided by the roots of what its two ends have in all."""
    unit = F.normalize(values, dim=1).numpy()
    # Of unit vectors the nearest are those of the largest cosine, and |a - b|^2 = 2 - 2 cos.
    graph = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(unit).kneighbors_graph(mode="distance")
    graph.data = (1 - graph.data.astype(np.float64) ** 2 / 2).clip(min=0) ** power
    graph = graph + graph.T
    degree = np.asarray(graph.sum(axis=1)).ravel()
    root = sparse.diags(1 / np.sqrt(np.where(degree > 0, degree, 1)))
    return (root @ graph @ root).tocsr()


def _told(entry: dict[str, Any]) -> str:
    text = f"labels travelled to {entry['images']:,} images without one; "
    text += "the classifier is fitted to these" if entry["kept"] else "the trained classifier stays"
    if "validation_before" in entry:
        before, after = entry["validation_before"], entry["validation_after"]
        return f"{text}: validation top-1 {100 * before:.1f} % as trained, {100 * after:.1f} % fitted to them"
    return f"{text}; no validation images tell whether that is better"
