"""Top-1, top-5, balanced and per-class accuracy from rows of class scores, as an `evaluate` metric.

The file stands alone (`evaluate` copies it into its module cache), so it must not import hf_vipriors.
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
Accuracy of an image classifier from its rows of class scores (probabilities or logits): top-1, top-5 when there are
more than five classes, the mean of the per-class accuracies over the classes that occur, and each class's own.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: rows of class scores, (N, K), larger is better; probabilities and logits give the same result.
    references: the true classes, (N,), integers in 0..K-1.
Returns:
    top1: fraction of images whose true class scores highest.
    top5: fraction whose true class is among the five highest; None when K <= 5, where it would say nothing.
    balanced_accuracy: mean of the per-class accuracies over the classes that occur in `references`.
    per_class_accuracy: one value a class, None for a class that does not occur.
    count: number of images.
Equal scores are ranked in class order (as argmax does), so a constant output is right for class 0 only.
Examples:
    >>> metric = evaluate.load("hf_vipriors/evaluation/metrics/vipriors_accuracy")
    >>> metric.compute(predictions=[[0.9, 0.1], [0.8, 0.2]], references=[0, 1])["top1"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class VipriorsAccuracy(evaluate.Metric):
    """See the module's description."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _build_data_dir(self):
        # evaluate makes a folder in its cache, even for what stays in memory.
        return self._data_dir_root if self.keep_in_memory else super()._build_data_dir()

    def _download_and_prepare(self, dl_manager):
        # MetricInfo refuses "numpy" beside rows, but datasets gives such rows as one matrix. Seen with 50,000 x 1,000
        # scores: a third of the time and half a gigabyte less than lists of Python floats.
        self.info.format = "numpy"

    def _compute(self, predictions, references):
        return accuracies(predictions, references)


def accuracies(predictions, references):
    """What :meth:`VipriorsAccuracy.compute` returns, of arrays as they are.

    ``compute`` first copies all through Arrow: of 50,000 x 1,000 scores 7.7 s against 0.1 s.
    """
    scores, labels = np.asarray(predictions), np.asarray(references)
    if scores.ndim != 2 or scores.shape[1] < 1 or len(scores) == 0:
        raise ValueError(f"predictions must be rows of class scores of one length, got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("predictions hold values that are not finite")
    classes = scores.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"references must lie in 0..{classes - 1} (the rows have {classes} scores), "
            f"found {labels.min()}..{labels.max()}"
        )
    rank = _rank_of_truth(scores, labels)
    right = np.bincount(labels[rank == 0], minlength=classes)
    total = np.bincount(labels, minlength=classes)
    per_class = [float(r / t) if t else None for r, t in zip(right, total, strict=True)]
    return {
        "top1": float((rank == 0).mean()),
        "top5": float((rank < 5).mean()) if classes > 5 else None,
        "balanced_accuracy": float(np.mean([value for value in per_class if value is not None])),
        "per_class_accuracy": per_class,
        "count": len(labels),
    }


def _rank_of_truth(scores, labels):
    """How many classes stand before the true one, (N,)."""
    truth = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return ((scores > truth) | ((scores == truth) & earlier)).sum(axis=1)
