"""Scores by hand, the confusion matrix, and ensembles."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from hf_vipriors.evaluation.classification import ensemble, score
from hf_vipriors.evaluation.metrics import load_metric
from hf_vipriors.evaluation.statistics import wilson_interval

NAMES = ["cat", "dog", "owl"]
ROWS = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
LABELS = np.array([0, 0, 1, 1])


def test_four_images_by_hand():
    found = score(ROWS, LABELS, NAMES)
    assert found.top1 == 0.75
    assert found.top5 is None
    assert found.interval == wilson_interval(3, 4)
    assert found.balanced_accuracy == 0.75
    assert found.per_class == {"cat": 1.0, "dog": 0.5, "owl": None}
    assert found.confusion == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found.count == 4


def test_confusion_rows_are_the_truth():
    # One dog taken for an owl: row 1, column 2.
    found = score(np.array([[0.0, 0.0, 1.0]]), np.array([1]), NAMES)
    assert found.confusion[1][2] == 1 and np.sum(found.confusion) == 1


def test_the_numbers_agree_with_each_other_on_random_scores():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(300, 7)), rng.integers(0, 7, 300)
    found = score(rows, labels, list("abcdefg"))
    confusion = np.array(found.confusion)
    assert confusion.sum() == found.count == 300
    assert np.trace(confusion) / 300 == pytest.approx(found.top1)
    assert found.interval[0] < found.top1 < found.interval[1]
    assert found.top5 > found.top1
    recalls = [confusion[c, c] / confusion[c].sum() for c in range(7)]
    assert list(found.per_class.values()) == pytest.approx(recalls)
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))


def test_gives_what_the_metric_module_computes():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(300, 7)).astype(np.float32), rng.integers(0, 7, 300)
    found = score(rows, labels, list("abcdefg"))
    computed = load_metric("vipriors_accuracy").compute(predictions=rows, references=labels)
    shared = {name: getattr(found, name) for name in ("top1", "top5", "balanced_accuracy", "count")}
    assert {**shared, "per_class_accuracy": list(found.per_class.values())} == computed


def test_tensors_of_any_precision_are_taken():
    found = score(ROWS, LABELS, NAMES)
    coarse = score(torch.tensor(ROWS).bfloat16(), torch.tensor(LABELS), NAMES)
    assert coarse.calibration_error == pytest.approx(found.calibration_error, abs=1e-2)
    assert dataclasses.replace(coarse, calibration_error=found.calibration_error) == found
    assert score(torch.tensor(ROWS, requires_grad=True), torch.tensor(LABELS, dtype=torch.int32), NAMES) == found


@pytest.mark.parametrize("classes", [1000, 1001])
def test_beyond_1000_classes_there_is_no_confusion_matrix(classes):
    rows = np.eye(classes, dtype=np.float32)[[5, 7]]
    found = score(rows, np.array([5, 6]), [str(number) for number in range(classes)])
    assert found.top1 == 0.5 and found.interval == wilson_interval(1, 2)
    assert (found.confusion is None) == (classes > 1000)


def test_to_dict_is_plain_json():
    written = json.loads(json.dumps(score(ROWS, LABELS, NAMES).to_dict(), allow_nan=False))
    assert written["top1"] == 0.75 and written["per_class"]["owl"] is None
    assert written["interval"] == list(wilson_interval(3, 4))


@pytest.mark.parametrize(
    ("rows", "labels", "names"),
    [
        (ROWS[0], LABELS, NAMES),
        (ROWS, LABELS[:3], NAMES),
        (ROWS, LABELS.astype(float), NAMES),
        (ROWS, LABELS + 2, NAMES),
        (ROWS, LABELS - 1, NAMES),
        (ROWS, LABELS, NAMES[:2]),
        (ROWS, LABELS, ["cat", "dog", "dog"]),
        (ROWS * float("nan"), LABELS, NAMES),
        (ROWS[:0], LABELS[:0], NAMES),
    ],
    ids=range(9),
)
def test_bad_input_is_refused(rows, labels, names):
    with pytest.raises(ValueError):
        score(rows, labels, names)


def test_ensemble_is_the_mean_of_probabilities():
    a, b = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.0, 1.0]])
    assert np.allclose(ensemble([a, b]), [[0.75, 0.25], [0.25, 0.75]])
    # Two unsure models that agree outvote a sure one only where the mean says so.
    assert ensemble([np.array([[0.9, 0.1]]), np.array([[0.3, 0.7]]), np.array([[0.4, 0.6]])]).argmax() == 0


def test_ensemble_keeps_kind_and_precision():
    rows = torch.softmax(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    mean = ensemble([rows, rows.flip(0)])
    assert isinstance(mean, torch.Tensor) and mean.dtype == torch.float32
    assert torch.allclose(mean, (rows + rows.flip(0)) / 2)
    assert isinstance(ensemble([rows.numpy()]), np.ndarray)


@pytest.mark.parametrize(
    "rows",
    [[], [ROWS, ROWS[:2]], [ROWS, ROWS * 8], [ROWS, ROWS * float("nan")], [np.array([[1.5, -0.5]])], [ROWS[0]]],
    ids=["none", "shapes", "logits", "nan", "negative", "flat"],
)
def test_ensemble_refuses_what_are_not_probabilities(rows):
    with pytest.raises(ValueError):
        ensemble(rows)


def test_probabilities_have_a_calibration_error_and_logits_have_none():
    # Sure of 0.7, 0.6, 0.8, 0.5 in bins of their own: right, right, right, wrong.
    assert score(ROWS, LABELS, NAMES).calibration_error == pytest.approx((0.3 + 0.4 + 0.2 + 0.5) / 4)
    assert score(np.log(ROWS), LABELS, NAMES).calibration_error is None
