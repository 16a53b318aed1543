import math

import pytest
import torch

from hf_vipriors.losses import seed


@pytest.mark.parametrize("teacher_temperature", [0.0001, 0.01, 0.07])
def test_agrees_with_the_published_program(oracle, teacher_temperature):
    values = oracle(f"seed_ts0.2_tt{teacher_temperature}")
    student = values["student"].requires_grad_()
    loss = seed(student, values["teacher"], values["queue"], teacher_temperature=teacher_temperature)
    loss.backward()
    torch.testing.assert_close(loss, values["loss"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(student.grad, values["grad_student"], rtol=1e-4, atol=1e-7)


def unit(vector):
    return vector / vector.norm()


def slow_loop(student, teacher, queue, student_temperature, teacher_temperature, query_index, queue_index):
    total = 0.0
    for i in range(len(student)):
        z_s, z_t = unit(student[i]), unit(teacher[i])
        anchors = [z_t] + [unit(d) for j, d in enumerate(queue) if query_index[i] != queue_index[j]]
        exp_t = [math.exp(z_t @ d / teacher_temperature) for d in anchors]
        exp_s = [math.exp(z_s @ d / student_temperature) for d in anchors]
        for t, s in zip(exp_t, exp_s, strict=True):
            total -= t / sum(exp_t) * math.log(s / sum(exp_s))
    return total / len(student)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("width", [2, 16])
@pytest.mark.parametrize("temperatures", [(0.2, 0.01), (0.07, 0.07), (1.0, 0.5)])
def test_agrees_with_a_slow_loop(batch, width, temperatures):
    torch.manual_seed(batch * width)
    student, teacher, queue = torch.randn(batch, width), torch.randn(batch, width), torch.randn(12, width)
    query_index, queue_index = torch.arange(batch), torch.randint(-1, 5, (12,))
    got = seed(
        student,
        teacher,
        queue,
        student_temperature=temperatures[0],
        teacher_temperature=temperatures[1],
        query_index=query_index,
        queue_index=queue_index,
    )
    doubles = (t.double() for t in (student, teacher, queue))
    want = slow_loop(*doubles, *temperatures, query_index, queue_index)
    assert got.item() == pytest.approx(want, rel=1e-4)


def test_own_image_in_the_queue_leaves_both_softmaxes_and_the_gradient():
    torch.manual_seed(0)
    teacher, queue = torch.randn(2, 8), torch.randn(6, 8)
    student = torch.randn(2, 8, requires_grad=True)
    index, queue_index = torch.tensor([10, 11]), torch.tensor([10, 3, 11, 4, -1, 10])
    options = {"teacher_temperature": 0.5}
    masked = seed(student, teacher, queue, query_index=index, queue_index=queue_index, **options)
    masked.backward()
    again = student.detach().requires_grad_()
    rows = [slice(0, 1), slice(1, 2)]
    by_hand = sum(seed(again[r], teacher[r], queue[queue_index != index[r]], **options) for r in rows) / 2
    by_hand.backward()
    torch.testing.assert_close(masked, by_hand)
    torch.testing.assert_close(student.grad, again.grad)
    assert not torch.isclose(masked, seed(student, teacher, queue, **options))


def test_a_queue_of_nothing_but_the_own_image_gives_zero_and_a_clean_gradient():
    student = torch.randn(1, 8, requires_grad=True)
    index = torch.tensor([5])
    loss = seed(student, torch.randn(1, 8), torch.randn(4, 8), query_index=index, queue_index=index.expand(4))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(student.grad, torch.zeros(1, 8))


def test_gradient_reaches_the_student_alone():
    student, teacher, queue = (torch.randn(n, 8, requires_grad=True) for n in (4, 4, 6))
    seed(student, teacher, queue).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None and queue.grad is None


def test_float32_under_autocast():
    torch.manual_seed(0)
    student, teacher, queue = (torch.randn(n, 64) for n in (8, 8, 32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = seed(student, teacher, queue)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, seed(student, teacher, queue))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_temperature": 0.0}, "student_temperature"),
        ({"teacher_temperature": -0.1}, "teacher_temperature"),
        ({"teacher": torch.randn(3, 8)}, "teacher has shape"),
        ({"teacher": torch.full((4, 8), torch.nan)}, "teacher holds NaN"),
        ({"queue": torch.full((5, 8), torch.inf)}, "queue holds NaN"),
        ({"queue": torch.randn(5, 7)}, "width"),
        ({"queue": torch.randn(0, 8)}, "queue must be a non-empty"),
        ({"student": torch.randn(0, 8), "teacher": torch.randn(0, 8)}, "student must be a non-empty"),
        ({"queue_index": torch.arange(5)}, "go together"),
        ({"query_index": torch.arange(4), "queue_index": torch.arange(4)}, "must number"),
    ],
)
def test_refuses_what_would_train_silently_wrong(change, message):
    inputs = {"student": torch.randn(4, 8), "teacher": torch.randn(4, 8), "queue": torch.randn(5, 8)} | change
    with pytest.raises(ValueError, match=message):
        seed(**inputs)
