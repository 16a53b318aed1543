import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hf_vipriors.methods.label_propagation import class_shares, linear_classifier, propagated_labels, standardised


def paths(steps=20):
    """Two classes, each a path from one axis over others to a fourth one, and a label at the start of each."""
    corners, turn = torch.eye(8), torch.linspace(0, torch.pi / 2, steps)[:, None]
    legs = [
        [turn.cos() * corners[axis] + turn.sin() * corners[axis + 1] for axis in range(start, start + 3)]
        for start in (0, 4)
    ]
    features = torch.cat([torch.cat(path) for path in legs])
    truth = torch.arange(2).repeat_interleave(3 * steps)
    labels = torch.full_like(truth, -1)
    labels[[0, 3 * steps]] = truth[[0, 3 * steps]]
    return features + 0.01 * torch.randn(features.shape, generator=torch.Generator().manual_seed(0)), labels, truth


def by_hand(features, labels, neighbours, power, alpha):
    """The formula with whole matrices, image by image."""
    values = features.double()
    values = (values - values.mean(0)) / values.std(0, correction=0)
    count = len(values)
    cosines = torch.nn.functional.cosine_similarity(values[:, None], values[None], dim=2)
    affinity = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        near = sorted((j for j in range(count) if j != i), key=lambda j: -cosines[i, j])[:neighbours]
        for j in near:
            affinity[i, j] = max(0.0, float(cosines[i, j])) ** power
    affinity = affinity + affinity.T
    degree = affinity.sum(1)
    spread = affinity / (degree[:, None] * degree[None]).sqrt()
    classes = sorted(set(labels[labels >= 0].tolist()))
    given = torch.stack([(labels == one).double() for one in classes], dim=1)
    scores = torch.linalg.solve(torch.eye(count, dtype=torch.float64) - alpha * spread, given)
    scores = scores / scores.sum(0) * torch.tensor(class_shares(given.sum(0).numpy()))
    return torch.tensor(classes)[scores.argmax(1)]


@pytest.mark.parametrize(("neighbours", "power", "alpha"), [(5, 3.0, 0.99), (12, 1.0, 0.8)])
def test_labels_travel_as_the_formula_has_it(neighbours, power, alpha):
    features, labels, _ = paths(10)
    labels[[5, 20, 50]] = torch.tensor([0, 0, 1])
    found = propagated_labels(features, labels, neighbours=neighbours, power=power, alpha=alpha)
    expected = torch.where(labels >= 0, labels, by_hand(features, labels, neighbours, power, alpha))
    assert found.tolist() == expected.tolist()


def test_labels_follow_the_shape_of_the_classes_where_a_line_does_not():
    features, labels, truth = paths()
    found = propagated_labels(features, labels, neighbours=3)
    weight, bias = linear_classifier(features[labels >= 0], labels[labels >= 0], 2)
    line = (features @ weight.T + bias).argmax(1)
    assert (found == truth).float().mean() > 0.97 > (line == truth).float().mean() + 0.1


def test_what_chance_made_of_the_counts_is_undone_and_what_classes_differ_in_counts_by_its_root():
    drawn = np.random.default_rng(0).multinomial(50, np.full(10, 0.1))
    assert drawn.min() < 4 and drawn.max() > 7
    np.testing.assert_allclose(class_shares(drawn), 0.1, rtol=0.1)
    tail = np.array([400, 100, 25])
    np.testing.assert_allclose(class_shares(tail), np.sqrt(tail) / np.sqrt(tail).sum(), rtol=0.1)
    assert class_shares(np.array([3])).tolist() == [1.0]


def test_labels_that_chance_spread_unevenly_reach_as_many_images_of_each_class():
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(4).repeat_interleave(50)
    features = torch.eye(16)[truth] + 0.2 * torch.randn(200, 16, generator=generator)
    labels = torch.full((200,), -1)
    for one, count in enumerate((2, 5, 3, 2)):
        labels[50 * one : 50 * one + count] = one
    found = propagated_labels(features, labels, neighbours=10)
    assert torch.bincount(found).min() > 35 and (found == truth).float().mean() > 0.85


def test_a_class_gets_its_share_of_the_images_where_one_label_lies_better_than_another():
    """A label in the thick of its class reaches further than one at the edge, and would swallow the other class."""
    generator = torch.Generator().manual_seed(1)
    clouds = [torch.randn(40, 8, generator=generator) + shift for shift in (0.0, 0.6)]
    distances = [(cloud - cloud.mean(dim=0)).norm(dim=1) for cloud in clouds]
    labels = torch.full((80,), -1)
    labels[distances[0].argmin()], labels[40 + distances[1].argmax()] = 3, 8
    counts = torch.bincount(propagated_labels(torch.cat(clouds), labels, neighbours=10), minlength=9)
    assert counts[3] + counts[8] == 80 and counts[[3, 8]].min() > 35


def test_images_that_no_label_reaches_have_none():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1], [-1.0, 0.1]])
    found = propagated_labels(features, torch.tensor([2, -1, -1, -1, -1]), neighbours=1)
    assert found[:2].tolist() == [2, 2] and (found[2:] == -1).any()


def test_more_neighbours_than_images_are_all_of_them():
    features, labels = torch.eye(6)[[0, 0, 1, 1]] + 0.1, torch.tensor([0, -1, 1, -1])
    assert propagated_labels(features, labels).tolist() == [0, 0, 1, 1]


def test_columns_that_never_change_are_no_feature():
    features, labels, _ = paths()
    still = torch.cat([features, torch.full((len(features), 2), 7.3)], dim=1)
    assert propagated_labels(still, labels).equal(propagated_labels(features, labels))
    assert standardised(still)[0][:, -2:].abs().max() < 1e-5
    weight, bias = linear_classifier(still, labels.clamp(min=0), 2)
    assert weight.isfinite().all() and bias.isfinite().all()


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long)),
        (torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)),
        (torch.zeros(3, 2), torch.full((3,), -1)),
    ],
)
def test_what_cannot_travel_is_refused(features, labels):
    with pytest.raises(ValueError, match="features|label"):
        propagated_labels(features, labels)


def test_the_classifier_is_scikit_learns_on_standardised_features():
    generator = np.random.default_rng(0)
    labels, weights = generator.integers(0, 3, 90), generator.uniform(0, 3, 90).astype(np.float32)
    features = (generator.normal(size=(90, 6)) * [1, 5, 0.1, 1, 1, 1] + labels[:, None]).astype(np.float32) + 4
    weight, bias = linear_classifier(
        torch.from_numpy(features), torch.from_numpy(labels), 3, weights=torch.from_numpy(weights), decay=0.02
    )
    scaled = StandardScaler().fit(features)
    theirs = LogisticRegression(C=1 / (0.02 * weights.sum()), tol=1e-8, max_iter=5000)
    theirs.fit(scaled.transform(features), labels, sample_weight=weights)
    ours = (torch.from_numpy(features) @ weight.T + bias).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled.transform(features)), atol=2e-3)


def test_a_class_without_images_is_seldom_named():
    features, labels, _ = paths()
    labels = propagated_labels(features, labels)
    weight, bias = linear_classifier(features, labels, 4)
    assert weight.shape == (4, features.shape[1]) and bias.shape == (4,)
    assert (features @ weight.T + bias).argmax(1).max() < 2
