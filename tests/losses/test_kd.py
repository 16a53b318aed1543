import math

import pytest
import torch

from hf_vipriors.losses import kd


def test_agrees_with_the_published_program(oracle):
    values = oracle("kd_T4")
    student = values["student"].requires_grad_()
    loss = kd(student, values["teacher"], temperature=4.0)
    loss.backward()
    torch.testing.assert_close(loss, values["loss"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(student.grad, values["grad_student"], rtol=1e-4, atol=1e-7)


def softened(row, temperature):
    exps = [math.exp(x / temperature) for x in row]
    return [e / sum(exps) for e in exps]


def slow_loop(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        pairs = zip(softened(t, temperature), softened(s, temperature), strict=True)
        total += temperature**2 * sum(p * math.log(p / q) for p, q in pairs)
    return total / len(student)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_agrees_with_a_slow_loop(batch, classes, temperature):
    torch.manual_seed(batch * classes)
    student, teacher = 3 * torch.randn(batch, classes), 3 * torch.randn(batch, classes)
    got = kd(student, teacher, temperature=temperature).item()
    assert got == pytest.approx(slow_loop(student.double(), teacher.double(), temperature), rel=1e-4)


def test_probabilities_that_underflow_still_teach():
    student = torch.zeros(1, 3, requires_grad=True)
    loss = kd(student, torch.tensor([[900.0, 0.0, -900.0]]), temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    torch.testing.assert_close(student.grad, torch.tensor([[1 / 3 - 1, 1 / 3, 1 / 3]]))
    far = torch.tensor([[-900.0, 0.0, 900.0]])
    assert kd(far, -far, temperature=1.0).item() == pytest.approx(1800)


def test_gradient_reaches_the_student_alone():
    student, teacher = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    kd(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_float32_under_autocast_and_for_half_logits():
    student, teacher = torch.randn(8, 10), torch.randn(8, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = kd(student, teacher)
    torch.testing.assert_close(loss, kd(student, teacher))
    half = kd(student.bfloat16(), teacher.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, kd(student.bfloat16().float(), teacher.bfloat16().float()))


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (torch.randn(4, 8), torch.randn(4, 8), {"temperature": 0.0}, "temperature"),
        (torch.randn(4, 8), torch.randn(4, 9), {}, "teacher_logits has shape"),
        (torch.randn(4, 8), torch.randn(1, 8), {}, "teacher_logits has shape"),
        (torch.randn(0, 8), torch.randn(0, 8), {}, "non-empty"),
        (torch.randn(4, 1), torch.randn(4, 1), {}, "2 classes"),
        (torch.randn(4, 8), torch.full((4, 8), torch.nan), {}, "teacher_logits holds NaN"),
    ],
)
def test_refuses_what_would_train_silently_wrong(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        kd(student, teacher, **options)
