import pytest
import torch

from hf_vipriors.evaluation.features import Outputs
from hf_vipriors.evaluation.frozen import knn_score, linear_score

NAMES = ["left", "right"]


def points(count, noise, seed):
    """Two clouds on opposite sides; with much noise some points lie on the wrong one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    centres = torch.tensor([[-1.0, 0.5], [1.0, 0.5]])[labels]
    return Outputs(centres + noise * torch.randn(count, 2, generator=generator), labels)


def test_features_that_separate_the_classes_score_full_marks():
    train, validation, target = (points(20, 0.1, seed) for seed in range(3))
    assert knn_score(train, target, NAMES).top1 == 1.0
    found = linear_score(train, validation, target, NAMES)
    assert found.score.top1 == 1.0 and found.cost > 0 and found.score.per_class == {"left": 1.0, "right": 1.0}


def test_labels_that_have_nothing_to_do_with_the_features_score_chance():
    train, validation, target = (points(200, 0.1, seed) for seed in range(3))
    shuffled = Outputs(target.values, target.labels[torch.randperm(200, generator=torch.Generator().manual_seed(1))])
    assert knn_score(train, shuffled, NAMES).top1 == pytest.approx(0.5, abs=0.1)
    assert linear_score(train, validation, shuffled, NAMES).score.top1 == pytest.approx(0.5, abs=0.1)


def test_one_neighbour_decides_alone():
    bank = Outputs(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1, 1]))
    target = Outputs(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert knn_score(bank, target, NAMES, neighbours=1).top1 == 1.0
    assert knn_score(bank, target, NAMES, neighbours=50).top1 == 0.0, "all three vote, two of them for the other"
