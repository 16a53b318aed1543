"""Which images are worth a label: unsure and not all alike; or the typical ones of all that there are."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.evaluation.choosing import choose, in_groups, most_typical


def test_unsure_images_of_every_kind_are_chosen():
    """Three tight kinds, of which one is certain; within a kind all are alike."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(300) % 3
    features = torch.eye(3)[kinds] + 0.01 * torch.randn(300, 3, generator=generator)
    top = torch.where(kinds == 2, 0.999, 0.55) + 0.001 * torch.rand(300, generator=generator)
    probabilities = torch.stack([top, 1 - top], dim=1)
    chosen = choose(features, probabilities, 6)
    assert sorted(set(kinds[chosen].tolist())) == [0, 1]
    margins = (2 * top - 1)[chosen]
    assert margins.tolist() == sorted(margins.tolist()) and len(set(chosen.tolist())) == 6
    assert np.bincount(kinds[chosen], minlength=3).tolist() == pytest.approx([3, 3, 0], abs=1)


def test_few_or_equal_images():
    features, probabilities = torch.ones(5, 4), torch.ones(5, 2) / 2
    assert sorted(choose(features, probabilities, 9).tolist()) == [0, 1, 2, 3, 4]
    assert len(set(choose(features, probabilities, 3).tolist())) == 3
    with pytest.raises(ValueError, match="at least 1"):
        choose(features, probabilities, 0)
    assert [each.tolist() for each in most_typical(features, 9)] == [[0], [5]]
    for some, count in ((features, 0), (features[:0], 3)):
        with pytest.raises(ValueError, match="at least 1"):
            most_typical(some, count)


def test_of_every_cluster_the_image_with_the_nearest_neighbours_is_chosen():
    """Three kinds on the circle, of 40, 25 and 1 images; the densest place of each is at its edge."""
    places = [torch.linspace(0, 0.5, 40) ** 3 * 4, 2 + torch.linspace(0, 0.5, 25) ** 2, torch.tensor([4.0])]
    angles = torch.cat(places)
    features = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    rows, sizes = most_typical(features, 3)
    assert sizes.tolist() == [40, 25, 1]
    for place, row, start in zip(places, rows, (0, 40, 65), strict=True):
        distances = (
            F.normalize(features, dim=1)[start : start + len(place)] - F.normalize(features[row], dim=0)
        ).norm(dim=1)
        near = distances.sort().values[1:21].mean()
        every = (
            torch.cdist(*[F.normalize(features, dim=1)[start : start + len(place)]] * 2).sort(dim=1).values[:, 1:21]
        )
        assert len(place) == 1 or near == pytest.approx(float(every.mean(dim=1).min()), abs=1e-6)
        assert len(place) == 1 or row != start + (angles[start : start + len(place)] - place.mean()).abs().argmin()


def test_as_many_images_as_are_asked_for_of_all_kinds_also_where_one_is_rare():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.repeat_interleave(torch.arange(3), torch.tensor([300, 90, 12]))
    features = torch.eye(3)[kinds] + 0.05 * torch.randn(402, 3, generator=generator)
    features = torch.cat([features, features[:30]])
    rows, sizes = most_typical(features, 20)
    assert len(set(rows.tolist())) == 20 and sizes.sum() == 432 and sizes.tolist() == sorted(sizes, reverse=True)
    assert set(kinds[rows].tolist()) == {0, 1, 2}
    assert most_typical(features, 20, seed=1)[0].tolist() != rows.tolist()
    groups = in_groups(features, rows, sizes, 3)
    assert [set(kinds[each].tolist()) for each, _ in groups] == [{0}, {1}, {2}]
    assert [size for _, size in groups] == [330, 90, 12]
    assert sorted(np.concatenate([each for each, _ in groups])) == sorted(rows)
    assert len(in_groups(features, rows[:2], sizes[:2], 5)) == 2
    with pytest.raises(ValueError, match="at least 1"):
        in_groups(features, rows, sizes, 0)
