import math

import pytest
import torch

from hf_vipriors.losses import crd, crd_normaliser


def unit(vector):
    return vector / vector.norm()


def slow_loop(anchor, positive, negatives, images, temperature, normaliser):
    """The objective of the paper, pair by pair, with its critic h."""
    total, count = 0.0, negatives.shape[1]

    def h(a, x):
        u = math.exp(unit(a) @ unit(x) / temperature) / normaliser
        return u / (u + count / images)

    for a, p, others in zip(anchor, positive, negatives, strict=True):
        total += math.log(h(a, p)) + sum(math.log(1 - h(a, n)) for n in others)
    return -total / len(anchor)


def embeddings(batch=4, negatives=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*s, width, generator=generator) for s in ((batch,), (batch,), (batch, negatives)))


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("negatives", [1, 7])
@pytest.mark.parametrize("width", [2, 16])
@pytest.mark.parametrize(("temperature", "normaliser"), [(0.07, 5000.0), (0.5, 1.0), (1.0, 60.0)])
def test_agrees_with_a_slow_loop(batch, negatives, width, temperature, normaliser):
    inputs = embeddings(batch, negatives, width, seed=batch + width)
    got = crd(*inputs, images=50, temperature=temperature, normaliser=normaliser).item()
    want = slow_loop(*(t.double() for t in inputs), 50, temperature, normaliser)
    assert got == pytest.approx(want, rel=1e-4)


def test_gradient_is_that_of_the_formula():
    leaves = [t.double().requires_grad_() for t in embeddings()]
    crd(*leaves, images=20, temperature=0.5, normaliser=30.0).backward()
    again = [t.detach().clone().requires_grad_() for t in leaves]
    anchor, positive, negatives = (torch.nn.functional.normalize(t, dim=-1) for t in again)
    u_positive = torch.exp((anchor * positive).sum(1) / 0.5) / 30
    u_negatives = torch.exp((anchor[:, None] * negatives).sum(2) / 0.5) / 30
    noise = 6 / 20
    log_h = (u_positive / (u_positive + noise)).log() + (noise / (u_negatives + noise)).log().sum(1)
    (-log_h.mean()).backward()
    for got, want in zip(leaves, again, strict=True):
        assert want.grad.abs().sum() > 0
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-4, atol=1e-6)


def test_saturated_pairs_stay_finite_and_still_push():
    """The negative is the anchor itself: in float32 1 - h is 0 there, and its logarithm lost."""
    anchor = torch.nn.functional.normalize(torch.randn(2, 8), dim=1).requires_grad_()
    opposite, same = -anchor.detach(), anchor.detach()[:, None] + 0.01 * torch.randn(2, 3, 8)
    loss = crd(anchor, opposite, same, images=10**6, temperature=0.02)
    loss.backward()
    logit = 50 - math.log(3 / 10**6)
    assert loss.item() == pytest.approx(3 * logit + 50 + math.log(3 / 10**6), rel=0.01)
    assert anchor.grad.isfinite().all() and anchor.grad.abs().sum() > 0


def test_normaliser_is_the_mean_over_all_pairs_times_the_images():
    anchor, positive, negatives = embeddings()
    exps = [
        math.exp(unit(a) @ unit(x) / 0.3)
        for a, p, others in zip(anchor, positive, negatives, strict=True)
        for x in [p, *others]
    ]
    anchor.requires_grad_()
    got = crd_normaliser(anchor, positive, negatives, images=100, temperature=0.3)
    assert got.item() == pytest.approx(100 * sum(exps) / len(exps), rel=1e-5)
    assert not got.requires_grad and got.ndim == 0


def test_alike_embeddings_sit_at_the_level_where_nothing_is_learnt():
    same = torch.ones(4, 8), torch.ones(4, 8), torch.ones(4, 16, 8)
    level = crd_normaliser(*same, images=1000)
    loss = crd(*same, images=1000, normaliser=level)
    assert loss.item() == pytest.approx(math.log(17) + 16 * math.log(17 / 16), rel=1e-5)


def test_one_constant_as_number_or_tensor():
    inputs = embeddings()
    want = crd(*inputs, images=50, normaliser=12.0)
    for normaliser in (torch.tensor(12.0), torch.tensor([12.0]), torch.tensor(12.0, requires_grad=True)):
        torch.testing.assert_close(crd(*inputs, images=50, normaliser=normaliser), want)


def test_float32_under_autocast():
    inputs = embeddings(width=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, level = crd(*inputs, images=50), crd_normaliser(*inputs, images=50)
    assert loss.dtype == level.dtype == torch.float32
    torch.testing.assert_close(loss, crd(*inputs, images=50))
    torch.testing.assert_close(level, crd_normaliser(*inputs, images=50))


NAN = torch.nan
REFUSED = [
    ({"temperature": 0.0}, "temperature"),
    ({"images": 0}, "images"),
    ({"positive": torch.randn(3, 8)}, "positive has shape"),
    ({"negatives": torch.randn(4, 8)}, "negatives must be"),
    ({"negatives": torch.randn(4, 0, 8)}, "negatives must be"),
    ({"negatives": torch.randn(3, 6, 8)}, "negatives must be"),
    ({"negatives": torch.randn(4, 6, 7)}, "negatives must be"),
    ({"anchor": torch.randn(0, 8)}, "anchor must be a non-empty"),
    ({"anchor": torch.full((4, 8), NAN)}, "anchor holds NaN"),
    ({"positive": torch.full((4, 8), torch.inf)}, "positive holds NaN"),
    ({"negatives": torch.full((4, 6, 8), NAN)}, "negatives holds NaN"),
    ({"negatives": torch.full((4, 6, 8), torch.inf)}, "negatives holds NaN"),
]


@pytest.mark.parametrize("loss", [crd, crd_normaliser])
@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refuses_what_would_train_silently_wrong(loss, change, message):
    named = dict(zip(("anchor", "positive", "negatives"), embeddings(), strict=True)) | {"images": 50}
    with pytest.raises(ValueError, match=message):
        loss(**(named | change))


@pytest.mark.parametrize("normaliser", [0.0, -1.0, NAN, torch.inf, torch.ones(2)])
def test_refuses_a_normaliser_that_is_no_positive_number(normaliser):
    with pytest.raises(ValueError, match="normaliser"):
        crd(*embeddings(), images=50, normaliser=normaliser)


def test_refuses_a_normaliser_beyond_float32():
    same = torch.ones(2, 8), torch.ones(2, 8), torch.ones(2, 3, 8)
    with pytest.raises(ValueError, match="overflows"):
        crd_normaliser(*same, images=10, temperature=0.01)
