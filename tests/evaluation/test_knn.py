"""Weighted kNN on points worked out by hand, and against a loop written from the formula."""

from __future__ import annotations

import math

import pytest
import torch

from hf_vipriors.evaluation.knn import nearest_neighbours, weighted_knn


def test_three_points_by_hand():
    # Query (1, 0). Cosines with the bank: 1, 0.6, 0.6; the two of class 1 vote together.
    bank = torch.tensor([[5.0, 0.0], [0.6, 0.8], [3.0, -4.0]])
    labels = torch.tensor([0, 1, 1])
    scores = weighted_knn(bank, labels, torch.tensor([[2.0, 0.0]]), num_classes=3, k=3, temperature=0.5)
    expected = [math.exp(1 / 0.5), 2 * math.exp(0.6 / 0.5), 0.0]
    assert torch.allclose(scores, torch.tensor([expected]), rtol=1e-6)
    # At T 0.5 the near one outvotes the two, at T 5 it does not, and with k = 1 it stands alone.
    assert scores.argmax() == 0
    assert weighted_knn(bank, labels, torch.tensor([[2.0, 0.0]]), num_classes=3, k=3, temperature=5.0).argmax() == 1
    alone = weighted_knn(bank, labels, torch.tensor([[2.0, 0.0]]), num_classes=3, k=1, temperature=5.0)
    assert alone[0].tolist() == [pytest.approx(math.exp(0.2)), 0.0, 0.0]


def loop(bank, labels, queries, classes, k, temperature):
    rows = []
    for query in queries:
        cosines = [float(query @ key / (query.norm() * key.norm())) for key in bank]
        nearest = sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]
        row = [0.0] * classes
        for i in nearest:
            row[int(labels[i])] += math.exp(cosines[i] / temperature)
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("chunk", [3, 4096])
def test_agrees_with_the_slow_loop(k, temperature, chunk):
    generator = torch.Generator().manual_seed(k)
    bank, queries = torch.randn(30, 8, generator=generator), torch.randn(11, 8, generator=generator)
    labels = torch.randint(0, 4, (30,), generator=generator)
    scores = weighted_knn(bank, labels, queries, num_classes=4, k=k, temperature=temperature, chunk=chunk)
    assert scores.shape == (11, 4)
    assert torch.allclose(scores, loop(bank, labels, queries, 4, k, temperature), rtol=1e-4)


def test_a_bank_smaller_than_k_votes_whole():
    bank, labels = torch.eye(3), torch.tensor([0, 1, 2])
    query = torch.tensor([[1.0, 2.0, 3.0]])
    few = weighted_knn(bank, labels, query, num_classes=3)
    assert torch.equal(few, weighted_knn(bank, labels, query, num_classes=3, k=3))
    assert (few > 0).all()


def test_small_temperatures_do_not_overflow_and_keep_the_ranking():
    bank = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    labels, query = torch.tensor([0, 1, 2]), torch.tensor([[0.9, 0.1]])
    scores = weighted_knn(bank, labels, query, num_classes=3, temperature=1e-3)
    assert torch.isfinite(scores).all()
    assert scores.argmax() == 0 and scores.max() > 0


def test_half_precision_features_are_compared_in_float32():
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(50, 16, generator=generator).bfloat16()
    labels = torch.randint(0, 3, (50,), generator=generator)
    half = weighted_knn(bank, labels, bank[:9], num_classes=3)
    assert half.dtype == torch.float32
    assert torch.equal(half, weighted_knn(bank.float(), labels, bank[:9].float(), num_classes=3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(half, weighted_knn(bank, labels, bank[:9], num_classes=3))


def test_features_carry_no_graph():
    bank = torch.eye(3, requires_grad=True)
    assert not weighted_knn(bank, torch.tensor([0, 1, 2]), bank, num_classes=3).requires_grad


def test_nearest_neighbours_by_hand():
    indices, cosines = nearest_neighbours(torch.eye(3), torch.tensor([[0.0, 3.0, 4.0]]), 2)
    assert indices.tolist() == [[2, 1]]
    assert torch.allclose(cosines, torch.tensor([[0.8, 0.6]]))


GOOD = {
    "bank": torch.eye(3),
    "bank_labels": torch.tensor([0, 1, 2]),
    "queries": torch.eye(3),
    "num_classes": 3,
}


@pytest.mark.parametrize(
    "bad",
    [
        {"bank": torch.eye(3)[0]},
        {"queries": torch.ones(2, 4)},
        {"queries": torch.ones(0, 3)},
        {"bank": torch.full((3, 3), float("nan"))},
        {"queries": torch.tensor([[1.0, 2.0, float("inf")]])},
        {"bank_labels": torch.tensor([0, 1])},
        {"bank_labels": torch.tensor([0.0, 1.0, 2.0])},
        {"bank_labels": torch.tensor([0, 1, 3])},
        {"bank_labels": torch.tensor([-1, 1, 2])},
        {"num_classes": 0},
        {"k": 0},
        {"chunk": 0},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
    ],
    ids=str,
)
def test_bad_input_is_refused(bad):
    arguments = {**GOOD, **bad}
    with pytest.raises(ValueError):
        weighted_knn(arguments.pop("bank"), arguments.pop("bank_labels"), arguments.pop("queries"), **arguments)


@pytest.mark.parametrize("k", [0, 4])
def test_nearest_neighbours_refuses_k_beyond_the_bank(k):
    with pytest.raises(ValueError, match="1..3"):
        nearest_neighbours(torch.eye(3), torch.eye(3), k)
