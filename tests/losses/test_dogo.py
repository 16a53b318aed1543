import math

import pytest
import torch

from hf_vipriors.losses import dogo


def test_agrees_with_the_published_program(oracle):
    values = oracle("dogo_T0.1")
    a_view1, b_view1 = values["a_view1"].requires_grad_(), values["b_view1"].requires_grad_()
    loss_a, loss_b = dogo(a_view1, values["a_view2"], b_view1, values["b_view2"], temperature=0.1, reduction="mean")
    (loss_a + loss_b).backward()
    torch.testing.assert_close(loss_a, values["loss_a_elementwise_mean"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(loss_b, values["loss_b_elementwise_mean"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(a_view1.grad, values["grad_a_view1"], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(b_view1.grad, values["grad_b_view1"], rtol=1e-4, atol=1e-7)


def softmax_rows(view1, view2, temperature):
    rows = []
    for u in view1:
        exps = [math.exp(u @ v / (u.norm() * v.norm()) / temperature) for v in view2]
        rows.append([e / sum(exps) for e in exps])
    return rows


def slow_loop(target, own):
    total = 0.0
    for p, q in zip(target, own, strict=True):
        total += sum(p_j * math.log(p_j / q_j) for p_j, q_j in zip(p, q, strict=True))
    return total / len(own)


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("widths", [(4, 4), (2, 16)])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_agrees_with_a_slow_loop(batch, widths, temperature):
    torch.manual_seed(batch)
    views = [torch.randn(batch, width) for width in (widths[0], widths[0], widths[1], widths[1])]
    doubles = [v.double() for v in views]
    a, b = softmax_rows(*doubles[:2], temperature), softmax_rows(*doubles[2:], temperature)
    loss_a, loss_b = dogo(*views, temperature=temperature)
    assert loss_a.item() == pytest.approx(slow_loop(b, a), rel=1e-4)
    assert loss_b.item() == pytest.approx(slow_loop(a, b), rel=1e-4)
    mean_a, mean_b = dogo(*views, temperature=temperature, reduction="mean")
    torch.testing.assert_close(torch.stack([mean_a, mean_b]) * batch, torch.stack([loss_a, loss_b]))


@pytest.mark.parametrize("peer", [0, 1])
def test_each_loss_trains_its_own_peer_alone(peer):
    views = [torch.randn(4, 8, requires_grad=True) for _ in range(4)]
    dogo(*views)[peer].backward()
    own, other = (views[:2], views[2:]) if peer == 0 else (views[2:], views[:2])
    assert all(view.grad.abs().sum() > 0 for view in own)
    assert all(view.grad is None for view in other)


def test_peers_that_agree_have_nothing_to_learn():
    view1, view2 = torch.randn(6, 8), torch.randn(6, 8)
    assert torch.stack(dogo(view1, view2, 3 * view1, view2)).abs().max() < 1e-6


def test_float32_under_autocast():
    views = [torch.randn(8, 64) for _ in range(4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = dogo(*views)
    assert {loss.dtype for loss in losses} == {torch.float32}
    torch.testing.assert_close(losses, dogo(*views))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"reduction": "sum"}, "reduction"),
        ({"a_view2": torch.randn(3, 8)}, "a_view2"),
        ({"b_view2": torch.randn(4, 5)}, "b_view2"),
        ({"b_view1": torch.randn(5, 6), "b_view2": torch.randn(5, 6)}, "same images"),
        ({"a_view1": torch.full((4, 8), torch.nan)}, "a_view1 holds NaN"),
        ({"b_view2": torch.full((4, 6), torch.inf)}, "b_view2 holds NaN"),
        ({"a_view1": torch.randn(0, 8)}, "a_view1 must be a non-empty"),
        ({"b_view1": torch.randn(0, 6)}, "b_view1 must be a non-empty"),
    ],
)
def test_refuses_what_would_train_silently_wrong(change, message):
    widths = {"a_view1": 8, "a_view2": 8, "b_view1": 6, "b_view2": 6}
    with pytest.raises(ValueError, match=message):
        dogo(**({name: torch.randn(4, width) for name, width in widths.items()} | change))


def test_refuses_a_single_image():
    with pytest.raises(ValueError, match="at least 2"):
        dogo(*torch.randn(4, 1, 8))
