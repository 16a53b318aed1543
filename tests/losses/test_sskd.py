import math

import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import SskdLosses, kd, sskd

INPUTS = ("student_logits", "student_projection", "teacher_logits", "teacher_projection", "labels")


@pytest.mark.parametrize(("case", "keep"), [("sskd_tf1_ss0.75", (1.0, 0.75)), ("sskd_tf0.5_ss0.25", (0.5, 0.25))])
def test_agrees_with_the_published_program(oracle, case, keep):
    values = oracle(case)
    for name in ("student_logits", "student_projection"):
        values[name].requires_grad_()
    losses = sskd.sskd(*(values[name] for name in INPUTS), keep=keep)
    losses.total.backward()
    for part in ("total", "ce", "kd", "tf", "ss"):
        torch.testing.assert_close(getattr(losses, part), values[part].squeeze(), rtol=1e-5, atol=0)
    assert torch.equal(losses.kept_tf, values["keep_tf"])
    assert torch.equal(losses.kept_ss, values["keep_ss"])
    for name in ("student_logits", "student_projection"):
        torch.testing.assert_close(values[name].grad, values[f"grad_{name}"], rtol=1e-4, atol=1e-7)


def test_pretext_agrees_with_the_published_program(oracle):
    values = oracle("sskd_pretext")
    projection = values["projection"].requires_grad_()
    loss = sskd.pretext(projection)
    loss.backward()
    torch.testing.assert_close(loss, values["loss"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(projection.grad, values["grad"], rtol=1e-4, atol=1e-7)


def rotated(rows):
    return [row for number, row in enumerate(rows) if number % 4]


def cosines(projection):
    return [[F.cosine_similarity(row, u, dim=0).item() for u in projection[::4]] for row in rotated(projection)]


def softened(row, temperature):
    exps = [math.exp(x / temperature) for x in row]
    return [e / sum(exps) for e in exps]


def slow_transfer(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        pairs = zip(softened(t, temperature), softened(s, temperature), strict=True)
        total += temperature**2 * sum(p * math.log(p / q) for p, q in pairs)
    return total / len(student) if student else 0.0


def slow_selection(teacher, predictions, share):
    ranks = [sorted(row, reverse=True).index(row[answer]) for row, answer in zip(teacher, predictions, strict=True)]
    right = [number for number, rank in enumerate(ranks) if rank == 0]
    wrong = sorted((number for number, rank in enumerate(ranks) if rank > 0), key=lambda number: ranks[number])
    return sorted(right + wrong[: int(len(wrong) * share)])


def slow_loop(student_logits, student_projection, teacher_logits, teacher_projection, labels, keep, temperatures):
    labels = labels.tolist()
    upright = [row for row in student_logits[::4].tolist()], [row for row in teacher_logits[::4].tolist()]
    turned = rotated(student_logits.tolist()), rotated(teacher_logits.tolist())
    alike = cosines(student_projection), cosines(teacher_projection)
    predictions = [label for label in labels for _ in range(3)], [i for i in range(len(labels)) for _ in range(3)]
    kept_tf = slow_selection(turned[1], predictions[0], keep[0])
    kept_ss = slow_selection(alike[1], predictions[1], keep[1])
    ce = -sum(math.log(softened(row, 1)[label]) for row, label in zip(upright[0], labels, strict=True)) / len(labels)
    return (
        ce,
        slow_transfer(*upright, temperatures[0]),
        slow_transfer(*([rows[i] for i in kept_tf] for rows in turned), temperatures[1]),
        slow_transfer(*([rows[i] for i in kept_ss] for rows in alike), temperatures[2]),
        kept_tf,
        kept_ss,
    )


def inputs(batch=3, classes=5, width=8, teacher_width=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    widths = (classes, width, classes, teacher_width or width)
    rows = [torch.randn(4 * batch, n, generator=generator) for n in widths]
    return dict(zip(INPUTS, [*rows, torch.randint(classes, (batch,), generator=generator)], strict=True))


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize(("width", "teacher_width"), [(3, 3), (4, 16)])
@pytest.mark.parametrize("keep", [(1.0, 0.75), (0.3, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("temperatures", [(4.0, 4.0, 0.5), (2.0, 1.0, 0.2)])
def test_agrees_with_a_slow_loop(batch, width, teacher_width, keep, temperatures):
    named = inputs(batch, width=width, teacher_width=teacher_width, seed=batch)
    losses = sskd.sskd(**named, keep=keep, temperatures=temperatures, weights=(0.5, 1.0, 2.0, 3.0))
    rows = (named[name].double() for name in INPUTS[:4])
    ce, kd_part, tf, ss, kept_tf, kept_ss = slow_loop(*rows, named["labels"], keep, temperatures)
    assert losses.kept_tf.tolist() == kept_tf
    assert losses.kept_ss.tolist() == kept_ss
    got = [part.item() for part in losses[:5]]
    assert got == pytest.approx([0.5 * ce + kd_part + 2 * tf + 3 * ss, ce, kd_part, tf, ss], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("batch", [2, 6])
@pytest.mark.parametrize("width", [2, 16])
def test_pretext_agrees_with_a_slow_loop(batch, width):
    torch.manual_seed(batch)
    projection = torch.randn(4 * batch, width)
    rows = cosines(projection.double())
    want = -sum(math.log(softened(row, 1)[number // 3]) for number, row in enumerate(rows)) / len(rows)
    assert sskd.pretext(projection).item() == pytest.approx(want, rel=1e-5)


def test_wrong_rows_are_kept_by_rank_and_in_order():
    labels = torch.tensor([0, 1])
    right, second, third = [9.0, 5.0, 1.0], [5.0, 9.0, 1.0], [1.0, 9.0, 5.0]
    # Predictions of image 0 (class 0) by rank of the label: 2, 1, 0; of image 1 (class 1): 1, 1, 0.
    rows = [right, third, second, right, right, right, right, second]
    named = inputs(2, classes=3) | {"teacher_logits": torch.tensor(rows), "labels": labels}
    kept = {share: sskd.sskd(**named, keep=(share, 1.0)).kept_tf.tolist() for share in (0.0, 0.25, 0.5, 0.99, 1.0)}
    assert kept == {
        0.0: [2, 5],
        0.25: [1, 2, 5],
        0.5: [1, 2, 3, 5],
        0.99: [1, 2, 3, 4, 5],
        1.0: [0, 1, 2, 3, 4, 5],
    }


def test_a_teacher_that_finds_everything_alike_is_not_right_everywhere():
    named = inputs(3) | {"teacher_projection": torch.ones(12, 8), "teacher_logits": torch.zeros(12, 5)}
    losses = sskd.sskd(**named | {"labels": torch.tensor([0, 1, 2])}, keep=(0.0, 0.0))
    assert losses.kept_ss.tolist() == losses.kept_tf.tolist() == [0, 1, 2]


def test_no_row_kept_is_a_zero_with_a_clean_gradient():
    named = inputs(2, classes=3)
    never = torch.tensor([5.0, 9.0, 9.5]).repeat(8, 1)
    elsewhere = torch.eye(2).repeat_interleave(4, dim=0)
    elsewhere[[1, 2, 3, 5, 6, 7]] = elsewhere[[5, 6, 7, 1, 2, 3]]  # each rotated row sits at the other image
    named |= {"teacher_logits": never, "teacher_projection": elsewhere, "labels": torch.tensor([0, 0])}
    leaves = [named[name].requires_grad_() for name in ("student_logits", "student_projection")]
    losses = sskd.sskd(**named, keep=(0.0, 0.0))
    losses.total.backward()
    assert losses.tf.item() == losses.ss.item() == 0
    assert len(losses.kept_tf) == len(losses.kept_ss) == 0 and losses.kept_tf.dtype == torch.long
    assert torch.equal(leaves[0].grad[[1, 2, 3, 5, 6, 7]], torch.zeros(6, 3))
    assert leaves[0].grad[[0, 4]].abs().sum() > 0
    assert torch.equal(leaves[1].grad, torch.zeros_like(leaves[1]))


def test_kd_part_is_kd_of_the_upright_rows():
    named = inputs()
    want = kd(named["student_logits"][::4], named["teacher_logits"][::4], temperature=4.0)
    torch.testing.assert_close(sskd.sskd(**named).kd, want)


def test_gradient_reaches_the_student_alone():
    named = inputs()
    for name in INPUTS[:4]:
        named[name].requires_grad_()
    sskd.sskd(**named, keep=(1.0, 1.0)).total.backward()
    assert all(named[name].grad.abs().sum(1).all() for name in INPUTS[:2]), "every row teaches something"
    assert all(named[name].grad is None for name in INPUTS[2:4])


def test_float32_under_autocast():
    named = inputs(width=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, head = sskd.sskd(**named), sskd.pretext(named["teacher_projection"])
    assert isinstance(losses, SskdLosses)
    torch.testing.assert_close(tuple(losses), tuple(sskd.sskd(**named)))
    torch.testing.assert_close(head, sskd.pretext(named["teacher_projection"]))
    assert losses.total.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperatures": (4.0, 0.0, 0.5)}, "temperatures"),
        ({"temperatures": (4.0, 4.0)}, "three"),
        ({"weights": (0.1, 0.9, -1.0, 10.0)}, "weights"),
        ({"weights": (0.1, 0.9, 2.7)}, "four"),
        ({"keep": (1.5, 0.75)}, "keep"),
        ({"keep": (1.0,)}, "keep"),
        ({"teacher_logits": torch.randn(12, 4)}, "teacher_logits has shape"),
        ({"teacher_logits": torch.full((12, 5), torch.nan)}, "teacher_logits holds NaN"),
        ({"teacher_projection": torch.full((12, 8), torch.nan)}, "teacher_projection holds NaN"),
        ({"student_projection": torch.randn(8, 8)}, "same rotated images"),
        ({"student_projection": torch.randn(12, 8, 1)}, "student_projection must be"),
        ({"labels": torch.tensor([0, 1])}, r"labels have shape \(2,\)"),
        ({"labels": torch.arange(12) % 5}, r"labels have shape \(12,\)"),
        ({"labels": torch.tensor([0, 1, 5])}, "labels must lie"),
        ({"labels": torch.tensor([0, 1, -100])}, "labels must lie"),
        ({"labels": torch.tensor([0.0, 1.0, 2.0])}, "integers"),
    ],
)
def test_refuses_what_would_train_silently_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        sskd.sskd(**(inputs() | change))


@pytest.mark.parametrize(
    ("rows", "message"), [(0, "non-empty"), (4, "at least 2 images"), (6, "4 rotations"), (9, "4 rotations")]
)
def test_refuses_rows_that_are_not_the_rotations_of_several_images(rows, message):
    with pytest.raises(ValueError, match=message):
        sskd.pretext(torch.randn(rows, 8))
    if rows:
        named = {name: torch.randn(rows, 8) for name in INPUTS[:4]}
        with pytest.raises(ValueError, match=message):
            sskd.sskd(**named, labels=torch.zeros(rows // 4, dtype=torch.long))
