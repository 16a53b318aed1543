"""The linear probe: separable points, the choice of C on validation, and what it refuses."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hf_vipriors.evaluation.linear_probe import linear_probe


def blobs(count: int, seed: int, *, scale: float = 1.0, spread: float = 0.4):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.array([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.0]])
    return torch.tensor(scale * (centres[labels] + spread * rng.normal(size=(count, 2)))), torch.tensor(labels)


def test_separable_points_are_learnt():
    (x, y), (x_val, y_val), (x_test, y_test) = blobs(60, 0), blobs(30, 1), blobs(90, 2)
    probe = linear_probe(x, y, x_val, y_val)
    probabilities = probe.predict_proba(x_test)
    assert probabilities.shape == (90, 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == y_test.numpy()).mean() > 0.95
    assert probe.validation_accuracy == probe.accuracies[probe.cost] == max(probe.accuracies.values())


def test_agrees_with_a_logistic_regression_on_features_standardised_by_hand():
    (x, y), (x_val, y_val) = blobs(60, 0, spread=1.5), blobs(30, 1, spread=1.5)
    probe = linear_probe(x, y, x_val, y_val, costs=[0.3])
    mean, std = x.numpy().mean(axis=0), x.numpy().std(axis=0)
    plain = LogisticRegression(C=0.3, max_iter=2000).fit((x.numpy() - mean) / std, y.numpy())
    assert np.allclose(probe.predict_proba(x_val), plain.predict_proba((x_val.numpy() - mean) / std), atol=1e-4)


def test_the_scale_of_the_features_does_not_matter():
    (x, y), (x_val, y_val) = blobs(60, 0, spread=1.5), blobs(30, 1, spread=1.5)
    small = linear_probe(x * 1e-3, y, x_val * 1e-3, y_val)
    large = linear_probe(x * 1e3, y, x_val * 1e3, y_val)
    assert small.cost == large.cost
    assert np.allclose(small.predict_proba(x_val * 1e-3), large.predict_proba(x_val * 1e3), atol=1e-4)


def test_on_a_tie_the_stronger_penalty_wins():
    (x, y), (x_val, y_val) = blobs(60, 0, spread=0.1), blobs(30, 1, spread=0.1)
    probe = linear_probe(x, y, x_val, y_val, costs=[10.0, 0.1, 1.0])
    assert set(probe.accuracies.values()) == {1.0}
    assert probe.cost == 0.1


def test_c_is_chosen_on_validation():
    # One image in ten is of class 1. A strong penalty leaves only the majority, a weak one finds the line.
    y = (torch.arange(60) % 10 == 0).long()
    rng = np.random.default_rng(0)
    x = torch.tensor(2.0 * y.numpy()[:, None] + 0.1 * rng.normal(size=(60, 1)))
    probe = linear_probe(x, y, x, y, costs=[1e-6, 1.0])
    assert probe.accuracies == {1e-6: pytest.approx(0.9), 1.0: 1.0}
    assert (probe.cost, probe.validation_accuracy) == (1.0, 1.0)
    assert (probe.predict_proba(x).argmax(axis=1) == y.numpy()).all()


def test_validation_chooses_but_does_not_train():
    (x, y), (x_val, y_val) = blobs(60, 0, spread=1.5), blobs(30, 1, spread=1.5)
    true, wrong = linear_probe(x, y, x_val, y_val, costs=[0.1]), linear_probe(x, y, x_val, 2 - y_val, costs=[0.1])
    assert np.array_equal(true.predict_proba(x), wrong.predict_proba(x))
    assert true.validation_accuracy > wrong.validation_accuracy


def test_a_class_without_training_images_keeps_its_column():
    x, y = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 3, 3])
    probabilities = linear_probe(x, y, x, torch.tensor([0, 0, 4, 3])).predict_proba(x)
    assert probabilities.shape == (4, 5)
    assert (probabilities[:, [1, 2, 4]] == 0).all()
    assert probabilities.argmax(axis=1).tolist() == [0, 0, 3, 3]


def test_a_fit_that_does_not_converge_is_logged_and_warns_nobody(caplog, recwarn, monkeypatch):
    monkeypatch.setattr("hf_vipriors.evaluation.linear_probe._MAX_ITERATIONS", 1)
    (x, y), (x_val, y_val) = blobs(60, 0, spread=1.5), blobs(30, 1)
    with caplog.at_level(logging.INFO):
        linear_probe(x, y, x_val, y_val, costs=[10.0])
    assert "C = 10 had not converged after 1 iterations" in caplog.text
    assert not recwarn.list


X, Y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    "arguments",
    [
        (X[:, 0], Y, X, Y),
        (X, Y, torch.ones(2, 3), Y),
        (X, Y[:1], X, Y),
        (X, Y.float(), X, Y),
        (X, torch.tensor([-1, 0]), X, Y),
        (X, torch.tensor([1, 1]), X, Y),
        (X * float("nan"), Y, X, Y),
        (X, Y, X[:0], Y[:0]),
    ],
    ids=range(8),
)
def test_bad_input_is_refused(arguments):
    with pytest.raises(ValueError):
        linear_probe(*arguments)


@pytest.mark.parametrize("costs", [[], [0.0], [-1.0, 1.0]])
def test_bad_costs_are_refused(costs):
    with pytest.raises(ValueError, match="costs"):
        linear_probe(X, Y, X, Y, costs=costs)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match="1 features, got 2"):
        linear_probe(X, Y, X, Y).predict_proba(torch.ones(3, 2))
