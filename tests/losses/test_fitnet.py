import pytest
import torch

from hf_vipriors.losses import fitnet


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 6, 2, 2)])
def test_agrees_with_a_slow_loop(shape):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape), torch.randn(shape)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    want = sum((s - t) ** 2 for s, t in pairs) / student.numel()
    assert fitnet(student, teacher).item() == pytest.approx(want, rel=1e-5)


def test_gradient_reaches_the_student_alone():
    student, teacher = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    fitnet(student, teacher).backward()
    torch.testing.assert_close(student.grad, 2 * (student - teacher).detach() / student.numel())
    assert teacher.grad is None


def test_half_precision_maps_are_compared_in_float32():
    student, teacher = 300 * torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = fitnet(student.half(), teacher.half())  # 300^2 is beyond float16
    assert loss.dtype == torch.float32
    assert loss.item() == 90000


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 1), "equal"),
        (torch.ones(2, 3, 4, 4), torch.ones(2, 1, 4, 4), "equal"),
        (torch.ones(2, 3), torch.ones(2, 3), "equal"),
        (torch.ones(0, 3, 4, 4), torch.ones(0, 3, 4, 4), "non-empty"),
        (torch.ones(1, 3, 1, 1), torch.full((1, 3, 1, 1), torch.nan), "teacher_map holds NaN"),
    ],
)
def test_refuses_what_would_train_silently_wrong(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        fitnet(student, teacher)
