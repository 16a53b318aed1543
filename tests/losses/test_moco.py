import math

import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import chance_level, margin_info_nce

CASES = [("moco_margin0.4_T0.2", 0.4, 0.2), ("moco_margin0.4_T0.07", 0.4, 0.07), ("moco_margin0.6_T0.2", 0.6, 0.2)]
CASES += [("moco_margin0_T0.2", 0.0, 0.2), ("moco_margin0_T0.07", 0.0, 0.07)]


@pytest.mark.parametrize(("case", "margin", "temperature"), CASES)
def test_agrees_with_the_published_program(oracle, case, margin, temperature):
    values = oracle(case)
    query = values["query"].requires_grad_()
    loss = margin_info_nce(query, values["key"], values["queue"], temperature=temperature, margin=margin)
    loss.backward()
    torch.testing.assert_close(loss, values["loss"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(query.grad, values["grad_query"], rtol=1e-4, atol=1e-7)


def slow_loop(query, key, queue, temperature, margin, query_index, queue_index):
    total = 0.0
    for i in range(len(query)):
        q = query[i] / query[i].norm()
        positive = math.exp((q @ (key[i] / key[i].norm()) - margin) / temperature)
        negative = sum(
            math.exp(q @ (n / n.norm()) / temperature) for j, n in enumerate(queue) if query_index[i] != queue_index[j]
        )
        total -= math.log(positive / (positive + negative))
    return total / len(query)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("width", [2, 16])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_agrees_with_a_slow_loop(batch, width, temperature):
    torch.manual_seed(batch * width)
    query, key, queue = torch.randn(batch, width), torch.randn(batch, width), torch.randn(12, width)
    query_index, queue_index = torch.arange(batch), torch.randint(-1, 5, (12,))
    got = margin_info_nce(query, key, queue, temperature=temperature, query_index=query_index, queue_index=queue_index)
    want = slow_loop(query.double(), key.double(), queue.double(), temperature, 0.4, query_index, queue_index)
    assert got.item() == pytest.approx(want, rel=1e-4)


def test_own_image_in_the_queue_is_no_negative():
    torch.manual_seed(0)
    query, queue = torch.randn(2, 8), torch.randn(6, 8)
    index = torch.tensor([10, 11])
    queue_index = torch.tensor([10, 3, 11, 4, -1, 10])
    masked = margin_info_nce(query, query, queue, query_index=index, queue_index=queue_index)
    by_hand = torch.stack(
        [margin_info_nce(query[i : i + 1], query[i : i + 1], queue[queue_index != index[i]]) for i in range(2)]
    ).mean()
    torch.testing.assert_close(masked, by_hand)
    assert masked < margin_info_nce(query, query, queue)


def test_chance_level_is_the_loss_of_identical_embeddings():
    same = torch.ones(4, 8)
    loss = margin_info_nce(same, same, torch.ones(32, 8), temperature=0.2, margin=0.4)
    assert loss.item() == pytest.approx(chance_level(32, temperature=0.2, margin=0.4), rel=1e-5)


def test_float32_under_autocast():
    torch.manual_seed(0)
    query, key, queue = (torch.randn(n, 64) for n in (8, 8, 32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = margin_info_nce(query, key, queue, temperature=0.01)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, margin_info_nce(query, key, queue, temperature=0.01))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"margin": -0.1}, "margin"),
        ({"margin": 2.5}, "margin"),
        ({"key": torch.randn(3, 8)}, "key"),
        ({"queue": torch.randn(5, 7)}, "width"),
        ({"query": torch.randn(0, 8), "key": torch.randn(0, 8)}, "non-empty"),
        ({"query": torch.randn(4, 8, dtype=torch.complex64)}, "query must be floats, got torch.complex64"),
        ({"key": torch.ones(4, 8, dtype=torch.long)}, "key must be floats"),
        ({"query_index": torch.arange(4)}, "go together"),
        ({"query_index": torch.arange(3), "queue_index": torch.arange(5)}, "must number"),
    ],
)
def test_refuses_what_would_train_silently_wrong(change, message):
    inputs = {"query": torch.randn(4, 8), "key": torch.randn(4, 8), "queue": torch.randn(5, 8)} | change
    with pytest.raises(ValueError, match=message):
        margin_info_nce(inputs.pop("query"), inputs.pop("key"), inputs.pop("queue"), **inputs)


def test_gradient_reaches_the_query_only_where_asked():
    query = torch.randn(4, 8, requires_grad=True)
    margin_info_nce(query, torch.randn(4, 8), F.normalize(torch.randn(6, 8))).backward()
    assert query.grad.abs().sum() > 0
