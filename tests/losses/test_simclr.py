import math

import pytest
import torch

from hf_vipriors.losses import chance_level, nt_xent


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_agrees_with_the_published_program(oracle, temperature):
    values = oracle(f"ntxent_T{temperature}")
    view1 = values["view1"].requires_grad_()
    loss = nt_xent(view1, values["view2"], temperature=temperature)
    loss.backward()
    torch.testing.assert_close(loss, values["loss"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(view1.grad, values["grad_view1"], rtol=1e-4, atol=1e-7)


def slow_loop(view1, view2, temperature, margin):
    views = [v / v.norm() for v in torch.cat([view1, view2])]
    batch, total = len(view1), 0.0
    for i, anchor in enumerate(views):
        partner = (i + batch) % (2 * batch)
        positive = math.exp((anchor @ views[partner] - margin) / temperature)
        negative = sum(math.exp(anchor @ v / temperature) for j, v in enumerate(views) if j not in (i, partner))
        total -= math.log(positive / (positive + negative))
    return total / (2 * batch)


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("width", [2, 16])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_agrees_with_a_slow_loop(batch, width, temperature, margin):
    torch.manual_seed(batch)
    view1, view2 = torch.randn(batch, width), torch.randn(batch, width)
    got = nt_xent(view1, view2, temperature=temperature, margin=margin).item()
    assert got == pytest.approx(slow_loop(view1.double(), view2.double(), temperature, margin), rel=1e-4)


def test_identical_embeddings_sit_at_the_chance_level():
    same = torch.ones(8, 4)
    want = chance_level(14, temperature=0.2, margin=0.1)
    assert nt_xent(same, same, temperature=0.2, margin=0.1).item() == pytest.approx(want, rel=1e-5)


def test_float32_under_autocast():
    view1, view2 = torch.randn(8, 64), torch.randn(8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(view1, view2, temperature=0.05)
    torch.testing.assert_close(loss, nt_xent(view1, view2, temperature=0.05))


@pytest.mark.parametrize(
    ("view1", "view2", "options", "message"),
    [
        (torch.randn(4, 8), torch.randn(4, 8), {"temperature": -1.0}, "temperature"),
        (torch.randn(4, 8), torch.randn(3, 8), {}, "view2"),
        (torch.randn(1, 8), torch.randn(1, 8), {}, "at least 2"),
        (torch.randn(4, 8), torch.randn(4, 8), {"margin": 2.0}, "margin"),
    ],
)
def test_refuses_what_would_train_silently_wrong(view1, view2, options, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(view1, view2, **options)
