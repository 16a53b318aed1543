import pytest
import torch

from hf_vipriors.losses import overhaul


def test_agrees_with_the_published_program(oracle):
    values = oracle("ofd")
    margin = overhaul.bn_margin(values["bn_weight"], values["bn_bias"])
    torch.testing.assert_close(margin, values["margin"], rtol=1e-5, atol=1e-7)
    student = values["student"].requires_grad_()
    loss = overhaul.partial_l2(student, values["teacher"], margin)
    loss.backward()
    torch.testing.assert_close(loss, values["loss_sum"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(student.grad, values["grad_student"], rtol=1e-4, atol=1e-6)


def slow_loop(student, teacher, margin):
    total = 0.0
    batch, channels, height, width = student.shape
    for b in range(batch):
        for c in range(channels):
            g = margin[c].item()
            for y in range(height):
                for x in range(width):
                    s, t = student[b, c, y, x].item(), teacher[b, c, y, x].item()
                    if t > 0:
                        total += (s - t) ** 2
                    elif g < t <= 0 and s > t:
                        total += (s - t) ** 2
                    elif t <= g and s > g:
                        total += (s - g) ** 2
    return total


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 6, 2, 2)])
def test_agrees_with_a_slow_loop(shape):
    torch.manual_seed(sum(shape))
    student, teacher = 2 * torch.randn(shape), 2 * torch.randn(shape)
    margin = -torch.rand(shape[1])
    got = overhaul.partial_l2(student, teacher, margin).item()
    assert got == pytest.approx(slow_loop(student, teacher, margin), rel=1e-5)


def test_margin_is_the_mean_of_the_negative_part():
    torch.manual_seed(0)
    weight, bias = torch.tensor([0.5, -1.5, 1.0]), torch.tensor([0.2, -0.7, 1.5])
    sample = torch.randn(2_000_000, 3) * weight.abs() + bias
    want = torch.stack([sample[:, c][sample[:, c] < 0].mean() for c in range(3)])
    torch.testing.assert_close(overhaul.bn_margin(weight, bias), want, rtol=1e-2, atol=1e-3)


def test_margin_of_a_channel_that_is_never_or_always_negative():
    margin = overhaul.bn_margin(torch.tensor([1.0, 0.0, 0.0, 0.1]), torch.tensor([10.0, -2.0, 0.0, -5.0]))
    torch.testing.assert_close(margin, torch.tensor([-3.0, -2.0, 0.0, -5.0]), rtol=1e-5, atol=1e-6)


def test_large_maps_stay_float32_under_autocast():
    student, teacher = torch.randn(2, 4, 8, 8) * 100, torch.randn(2, 4, 8, 8) * 100
    margin = -torch.ones(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = overhaul.partial_l2(student, teacher, margin)
    torch.testing.assert_close(got, overhaul.partial_l2(student, teacher, margin))


@pytest.mark.parametrize(
    ("student", "teacher", "margin", "message"),
    [
        (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 5), torch.zeros(3), "equal"),
        (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4), torch.zeros(2), "channels"),
        (torch.ones(0, 3, 4, 4), torch.ones(0, 3, 4, 4), torch.zeros(3), "equal"),
        (torch.ones(1, 3, 1, 1), torch.full((1, 3, 1, 1), torch.nan), torch.zeros(3), "NaN"),
    ],
)
def test_refuses_what_would_train_silently_wrong(student, teacher, margin, message):
    with pytest.raises(ValueError, match=message):
        overhaul.partial_l2(student, teacher, margin)


def test_margin_needs_matching_vectors():
    with pytest.raises(ValueError, match="one length"):
        overhaul.bn_margin(torch.ones(3), torch.ones(2))
