import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_vipriors.losses import fixmatch


def probabilities(count, classes, seed=0, size=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (size * torch.randn(count, classes, generator=generator)).softmax(dim=1)


@pytest.mark.parametrize(("count", "classes"), [(1, 2), (5, 3), (9, 100)])
def test_alignment_agrees_with_a_slow_loop(count, classes):
    predictions, mean, target = probabilities(count, classes), *probabilities(2, classes, seed=1)
    got = fixmatch.align_distribution(predictions, mean, target)
    for row, aligned in zip(predictions.tolist(), got, strict=True):
        scaled = [p * (q + 1e-6) / (m + 1e-6) for p, m, q in zip(row, mean.tolist(), target.tolist(), strict=True)]
        torch.testing.assert_close(aligned, torch.tensor([each / sum(scaled) for each in scaled]))


def test_predictions_that_are_right_on_average_stay():
    predictions = probabilities(50, 4)
    mean = predictions.mean(dim=0)
    torch.testing.assert_close(fixmatch.align_distribution(predictions, mean, mean), predictions)
    other = torch.tensor([0.7, 0.1, 0.1, 0.1])
    moved = fixmatch.align_distribution(predictions, mean, other).mean(dim=0)
    assert (moved - other).abs().sum() < 0.7 * (mean - other).abs().sum()


def test_a_class_that_never_came_up_stays_finite():
    """Its mean is 0: without the small number the one prediction of it would be NaN or swallow all others."""
    predictions = torch.tensor([[1.0, 0.0], [0.999, 0.001]])
    aligned = fixmatch.align_distribution(predictions, torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
    assert aligned.isfinite().all() and aligned[0].tolist() == [1, 0]


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("count", "classes"), [(1, 2), (7, 10)])
def test_relative_threshold_agrees_with_a_slow_loop(count, classes, confidence):
    labelled = probabilities(count, classes)
    want = confidence * sum(max(row) for row in labelled.tolist()) / count
    assert fixmatch.relative_threshold(labelled, confidence).item() == pytest.approx(want)


@pytest.mark.parametrize("deviations", [1.0, 2.0])
@pytest.mark.parametrize(("mean", "variance"), [(0.25, 1.0), (0.8, 0.02), (0.99, 1e-4)])
def test_soft_weights_agree_with_a_slow_loop(mean, variance, deviations):
    confidence = probabilities(20, 4).amax(dim=1)
    got = fixmatch.truncated_gaussian(
        confidence, torch.tensor(mean), torch.tensor(variance), deviations=deviations
    ).tolist()
    for c, weight in zip(confidence.tolist(), got, strict=True):
        sigma = math.sqrt(variance) / deviations
        want = 1.0 if c >= mean else math.exp(-((c - mean) ** 2) / (2 * sigma**2))
        assert weight == pytest.approx(want, rel=1e-3, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0, 1), st.floats(0, 1))
def test_a_soft_weight_lies_between_0_and_1_and_grows_with_the_confidence(confidence, mean, variance):
    ordered = torch.tensor(sorted(confidence))
    weights = fixmatch.truncated_gaussian(ordered, torch.tensor(mean), torch.tensor(variance))
    assert weights.isfinite().all() and (weights >= 0).all() and (weights <= 1).all()
    assert (weights.diff() >= 0).all() and (weights[ordered >= mean] == 1).all()


def test_no_spread_at_all_is_a_weight_of_one():
    assert fixmatch.truncated_gaussian(torch.ones(3), torch.tensor(1.0), torch.tensor(0.0)).tolist() == [1, 1, 1]


def test_float32_under_autocast():
    predictions, vector = probabilities(4, 3).bfloat16(), torch.full((3,), 1 / 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = (
            fixmatch.align_distribution(predictions, vector, vector),
            fixmatch.relative_threshold(predictions),
            fixmatch.truncated_gaussian(predictions.amax(dim=1), vector.mean(), vector.mean()),
        )
    assert all(each.dtype == torch.float32 for each in found)


THIRDS = torch.full((3,), 1 / 3)
REFUSED = [
    (lambda: fixmatch.align_distribution(torch.ones(2, 4), THIRDS, THIRDS), "mean has shape"),
    (lambda: fixmatch.align_distribution(torch.ones(2, 3), THIRDS, torch.ones(1, 3)), "target has shape"),
    (lambda: fixmatch.align_distribution(torch.ones(0, 3), THIRDS, THIRDS), "predictions must be a non-empty"),
    (lambda: fixmatch.relative_threshold(torch.ones(0, 3)), "labelled must be a non-empty"),
    (lambda: fixmatch.truncated_gaussian(torch.ones(2, 3), torch.ones(()), torch.ones(())), "two scalars"),
    (lambda: fixmatch.truncated_gaussian(torch.ones(2), torch.ones(3), torch.ones(())), "two scalars"),
    (lambda: fixmatch.truncated_gaussian(torch.ones(2), torch.ones(()), torch.ones(()), deviations=0), "deviations"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refuses_what_would_train_silently_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
