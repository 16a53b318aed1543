"""The calibration error against a slow loop, and by hand."""

import numpy as np
import pytest
import torch

from hf_vipriors.evaluation.calibration import are_probabilities, calibration_error, reliability

ROWS = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
LABELS = np.array([0, 1, 1, 1])


def slow_error(rows, labels, bins):
    """As the paper writes it, one image at a time."""
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(rows)) if b / bins < max(rows[i]) <= (b + 1) / bins]
        if inside:
            accuracy = sum(np.argmax(rows[i]) == labels[i] for i in inside) / len(inside)
            confidence = sum(max(rows[i]) for i in inside) / len(inside)
            total += len(inside) / len(rows) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("sharpness", [0.3, 3])
def test_equals_the_papers_loop(classes, bins, sharpness):
    random = np.random.default_rng(classes * bins)
    logits = sharpness * random.normal(size=(200, classes))
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = random.integers(0, classes, 200)
    expected = slow_error(rows, labels, bins)
    assert expected > 0.01 and calibration_error(rows, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_four_images_by_hand():
    # Bins of 0.25: two sure of 0.6 and 0.7, both right; two sure of 0.9 and 0.8, one right.
    assert [tuple(each) for each in reliability(ROWS, LABELS, 4)] == [
        (0.0, 0.25, None, None, 0),
        (0.25, 0.5, None, None, 0),
        (0.5, 0.75, pytest.approx(0.65), 1.0, 2),
        (0.75, 1.0, pytest.approx(0.85), 0.5, 2),
    ]
    assert calibration_error(ROWS, LABELS, 4) == pytest.approx(0.5 * 0.35 + 0.5 * 0.35)


def test_a_bin_takes_its_upper_edge():
    counts = [each.count for each in reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), 2)]
    assert counts == [1, 1]


def test_a_calibrated_model_has_no_error_and_a_braggart_a_large_one():
    random = np.random.default_rng(0)
    rows = random.dirichlet(np.ones(3), 20_000)
    labels = (rows.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert calibration_error(rows, labels) < 0.02
    sharpened = rows**4 / (rows**4).sum(axis=1, keepdims=True)
    assert calibration_error(sharpened, labels) > 0.15


def test_tensors_of_any_precision_are_taken():
    exact = calibration_error(ROWS, LABELS)
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        assert calibration_error(torch.tensor(ROWS, dtype=kind), torch.tensor(LABELS)) == pytest.approx(
            exact, abs=5e-3
        )


@pytest.mark.parametrize(
    ("rows", "labels", "bins"),
    [
        (ROWS * 2, LABELS, 15),
        (ROWS - 0.5, LABELS, 15),
        (ROWS * float("nan"), LABELS, 15),
        (ROWS[0], LABELS, 15),
        (ROWS[:0], LABELS[:0], 15),
        (ROWS, LABELS[:2], 15),
        (ROWS, LABELS + 1, 15),
        (ROWS, LABELS - 1, 15),
        (ROWS, LABELS.astype(float), 15),
        (ROWS, LABELS, 0),
    ],
    ids=range(10),
)
def test_bad_input_is_refused(rows, labels, bins):
    with pytest.raises(ValueError):
        calibration_error(rows, labels, bins)


def test_logits_are_no_probabilities():
    assert are_probabilities(ROWS) and are_probabilities(np.float16(ROWS).astype(np.float32))
    assert not are_probabilities(ROWS + 1) and not are_probabilities(np.array([[1.5, -0.5]]))
