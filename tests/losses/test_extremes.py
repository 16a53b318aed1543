"""Every loss against its formula in float64 where float32, bfloat16 and float16 are at their worst.

Tolerances come from what float32 can hold. A cosine is off by a few 1e-7, so a logit by a few 1e-7 / T: that much may
a value be off, and a softmax, beside a relative 1e-5. Gradients are compared in units of their own size, which for a
row x is 1 / (T |x|). What comes back in half precision may be off by its rounding on top.
"""

import itertools
import math

import pytest
import torch
from scipy import stats

from hf_vipriors.losses import crd, crd_normaliser, dogo, fitnet, kd, margin_info_nce, nt_xent, overhaul, seed, sskd

NEGATIVES = 65_536
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
LARGEST = 65504.0  # in float16
# The type of the inputs, and that of the autocast around the loss.
PRECISIONS = [
    pytest.param(torch.float32, torch.bfloat16, id="float32-in-bf16-autocast"),
    pytest.param(torch.float32, torch.float16, id="float32-in-fp16-autocast"),
    pytest.param(torch.bfloat16, torch.bfloat16, id="bf16"),
    pytest.param(torch.float16, torch.float16, id="fp16"),
]


# The formulas, in float64


def unit(rows):
    length = rows.norm(dim=-1, keepdim=True)
    has_direction = length > 1e-12
    return torch.where(has_direction, rows / torch.where(has_direction, length, 1.0), 0.0)


def log_shares(logits):
    return logits - torch.logsumexp(logits, dim=-1, keepdim=True)


def divergence(student, teacher, temperature):
    """KL(teacher || student), row by row; the teacher is constant."""
    log_student, log_teacher = log_shares(student / temperature), log_shares(teacher.detach() / temperature)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)


def moco_formula(query, key, queue, *, temperature, margin=0.4):
    query, key, queue = unit(query), unit(key), unit(queue)
    losses = []
    for q, k in zip(query, key, strict=True):
        logits = torch.cat([(q @ k - margin).reshape(1), queue @ q]) / temperature
        losses.append(torch.logsumexp(logits, 0) - logits[0])
    return torch.stack(losses).mean()


def nt_xent_formula(view1, view2, *, temperature, margin=0.0):
    views, count = unit(torch.cat([view1, view2])), len(view1)
    losses = []
    for i, anchor in enumerate(views):
        partner = (i + count) % (2 * count)
        others = [views[j] @ anchor for j in range(2 * count) if j not in (i, partner)]
        logits = torch.stack([views[partner] @ anchor - margin, *others]) / temperature
        losses.append(torch.logsumexp(logits, 0) - logits[0])
    return torch.stack(losses).mean()


def seed_formula(student, teacher, queue, *, student_temperature, teacher_temperature):
    student, teacher, queue = unit(student), unit(teacher.detach()), unit(queue.detach())
    losses = []
    for s, t in zip(student, teacher, strict=True):
        candidates = torch.cat([t[None], queue])
        aim = log_shares(candidates @ t / teacher_temperature).exp()
        losses.append(-(aim * log_shares(candidates @ s / student_temperature)).sum())
    return torch.stack(losses).mean()


def dogo_formula(a1, a2, b1, b2, *, temperature):
    a, b = unit(a1) @ unit(a2).T, unit(b1) @ unit(b2).T
    return divergence(a, b, temperature).mean() + divergence(b, a, temperature).mean()


def crd_formula(anchor, positive, negatives, *, images, temperature, normaliser=1.0):
    anchor, positive, negatives = unit(anchor), unit(positive), unit(negatives)
    shift = math.log(normaliser) + math.log(negatives.shape[1] / images)
    losses = []
    for a, p, others in zip(anchor, positive, negatives, strict=True):
        right, wrong = a @ p / temperature - shift, others @ a / temperature - shift
        losses.append(torch.logaddexp(-right, torch.zeros_like(right)))
        losses[-1] = losses[-1] + torch.logaddexp(wrong, torch.zeros_like(wrong)).sum()
    return torch.stack(losses).mean()


def similarities(projection):
    fours = unit(projection).unflatten(0, (-1, 4))
    return fours[:, 1:].flatten(0, 1) @ fours[:, 0].T


def pretext_formula(projection):
    shares = log_shares(similarities(projection))
    return -torch.stack([row[i // 3] for i, row in enumerate(shares)]).mean()


def kd_formula(student, teacher, *, temperature):
    return temperature**2 * divergence(student, teacher, temperature).mean()


def sskd_formula(
    student_logits, student_projection, teacher_logits, teacher_projection, *, labels, kept, temperatures
):
    """On the rows that the loss kept: where several rank alike, which of them is a matter of rounding."""
    student, teacher = (each.unflatten(0, (-1, 4)) for each in (student_logits, teacher_logits))
    total = -0.1 * torch.stack([log_shares(row)[y] for row, y in zip(student[:, 0], labels, strict=True)]).mean()
    pairs = [
        (0.9, student[:, 0], teacher[:, 0], slice(None)),
        (2.7, student[:, 1:].flatten(0, 1), teacher[:, 1:].flatten(0, 1), kept[0]),
        (10.0, similarities(student_projection), similarities(teacher_projection), kept[1]),
    ]
    for (weight, mine, theirs, rows), temperature in zip(pairs, temperatures, strict=True):
        parts = temperature**2 * divergence(mine[rows], theirs[rows], temperature)
        total = total + weight * parts.sum() / max(len(parts), 1)
    return total


def partial_l2_formula(student, teacher, margin):
    margin = margin[None, :, None, None].expand_as(teacher)
    teacher = teacher.detach()
    above = torch.where(student > teacher, (student - teacher) ** 2, 0.0)
    below = torch.where(student > margin, (student - margin) ** 2, 0.0)
    return torch.where(teacher > 0, (student - teacher) ** 2, torch.where(teacher > margin, above, below)).sum()


# Comparing


def compare(loss, formula, inputs, precision, autocast, *, value_off, gradient_off):
    """``loss`` under autocast, on leaves of ``precision``, with ``formula`` on the very same numbers in float64."""
    mine = [each.to(precision, copy=True).requires_grad_() for each in inputs]
    exact = [each.detach().double().requires_grad_() for each in mine]
    with torch.autocast("cpu", dtype=autocast):
        got = loss(*mine)
    want = formula(*exact)
    assert got.dtype == torch.float32 and got.isfinite()
    assert abs(got.item() - want.item()) <= 1e-5 * abs(want.item()) + value_off, (got.item(), want.item())
    got.backward()
    want.backward()
    for number, (leaf, reference) in enumerate(zip(mine, exact, strict=True)):
        if leaf.grad is None:
            assert reference.grad is None or not reference.grad.any(), f"input {number} gets no gradient"
            continue
        wanted = torch.zeros_like(reference) if reference.grad is None else reference.grad
        assert leaf.grad.dtype == precision and not leaf.grad.isnan().any()
        if precision == torch.float16:  # a true gradient beyond it becomes infinite, for a gradient scaler to see
            assert leaf.grad[wanted.abs() < 0.99 * LARGEST].isfinite().all()
            wanted = wanted.clamp(-LARGEST, LARGEST)
        off = (leaf.grad.double().clamp(-LARGEST, LARGEST) if precision == torch.float16 else leaf.grad) - wanted
        size = gradient_off(reference.detach())
        bound = size + (1e-5 + ROUNDING[precision]) * wanted.abs() + (6e-8 if precision == torch.float16 else 0)
        assert (off.abs() <= bound).all(), (number, off.abs().max().item(), (off.abs() / bound).max().item())


def of_rows(temperature, terms=1):
    """What a gradient to raw embeddings may be off by: a few 1e-7 / T of its size, 1 / (T |x|)."""

    def off(rows):
        length = rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return terms * (2e-6 + 1e-6 / temperature) / (temperature * length) * (length > 1e-12)

    return off


def embeddings(case, batch=4, width=16):
    """Two views of ``batch`` images."""
    generator = torch.Generator().manual_seed(3)
    one, two = (torch.randn(batch, width, generator=generator) for _ in range(2))
    one, two = (each / each.norm(dim=1, keepdim=True) for each in (one, two))
    lengths = torch.tensor([1e-6, 1.0, 1e4, 0.0]).repeat(batch)[:batch, None]
    return {
        "identical views": lambda: (one, one),
        "opposite views": lambda: (one, -one),
        "all alike": lambda: (one[:1].expand(batch, -1), one[:1].expand(batch, -1)),
        "a zero row": lambda: (one * (torch.arange(batch) != 1)[:, None], two * (torch.arange(batch) > 0)[:, None]),
        "all zero": lambda: (one * 0, two * 0),
        "norm 1e-6": lambda: (one * 1e-6, two * 1e-6),
        "norm 1e4": lambda: (one * 1e4, two * 1e4),
        "norms from 0 to 1e4": lambda: (one * lengths, two * lengths.flip(0)),
    }[case]()


def all_of(**grid):
    """One test of each precision for all combinations of ``grid``: it lists every one that fails."""

    def sweep(check):
        @pytest.mark.parametrize(("precision", "autocast"), PRECISIONS)
        def test(precision, autocast):
            failed = []
            for values in itertools.product(*grid.values()):
                try:
                    check(precision=precision, autocast=autocast, **dict(zip(grid, values, strict=True)))
                except AssertionError as error:
                    failed.append(f"{values}: {error}")
            assert not failed, "\n".join(failed)

        return test

    return sweep


CASES = ["identical views", "opposite views", "all alike", "a zero row", "all zero", "norm 1e-6", "norm 1e4"]
CASES += ["norms from 0 to 1e4"]


def queue_of(one, count):
    """Random keys, one of them the first view itself and one zero."""
    queue = torch.randn(count, one.shape[1], generator=torch.Generator().manual_seed(4))
    queue[0], queue[1] = one[-1], 0
    return queue


@all_of(case=CASES, temperature=[0.01, 0.2], batch=[4, 1])
def test_margin_info_nce(case, batch, precision, autocast, temperature):
    one, two = embeddings(case, batch)
    compare(
        lambda *each: margin_info_nce(*each, temperature=temperature),
        lambda *each: moco_formula(*each, temperature=temperature),
        (one, two, queue_of(one, 12)),
        precision,
        autocast,
        value_off=1e-6 / temperature,
        gradient_off=of_rows(temperature),
    )


@all_of(case=CASES, temperature=[0.01, 0.5])
def test_nt_xent(case, precision, autocast, temperature):
    compare(
        lambda *each: nt_xent(*each, temperature=temperature),
        lambda *each: nt_xent_formula(*each, temperature=temperature),
        embeddings(case),
        precision,
        autocast,
        value_off=1e-6 / temperature,
        gradient_off=of_rows(temperature),
    )


@all_of(case=CASES, temperatures=[(0.2, 0.01), (0.01, 0.07), (0.2, 1e-4)], batch=[4, 1])
def test_seed(case, batch, precision, autocast, temperatures):
    """T 1e-4 is the published program's: there two keys that float64 tells apart by 1e-7 are one in float32."""
    student_temperature, teacher_temperature = temperatures
    options = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    softest = min(student_temperature, teacher_temperature)
    one, two = embeddings(case, batch)
    compare(
        lambda *each: seed(*each, **options),
        lambda *each: seed_formula(*each, **options),
        (one, two, queue_of(two, 12)),
        precision,
        autocast,
        value_off=1e-6 / softest,
        gradient_off=lambda rows: of_rows(student_temperature)(rows) * student_temperature / softest,
    )


@all_of(case=CASES, temperature=[0.01, 0.1])
def test_dogo(case, precision, autocast, temperature):
    one, two = embeddings(case)
    compare(
        lambda *each: sum(dogo(*each, temperature=temperature)),
        lambda *each: dogo_formula(*each, temperature=temperature),
        (one, two, two.flip(0), one.roll(1, dims=0)),
        precision,
        autocast,
        value_off=2e-6 / temperature,
        gradient_off=of_rows(temperature),
    )


@all_of(case=CASES, scale=[(0.01, 1.0), (0.07, 1e6)], batch=[4, 1])
def test_crd(case, batch, precision, autocast, scale):
    temperature, normaliser = scale
    options = {"images": 50, "temperature": temperature, "normaliser": normaliser}
    one, two = embeddings(case, batch)
    compare(
        lambda *each: crd(*each, **options),
        lambda *each: crd_formula(*each, **options),
        (one, two, torch.stack([queue_of(one, 6) for _ in range(batch)])),
        precision,
        autocast,
        value_off=1e-6 / temperature,
        gradient_off=of_rows(temperature),
    )


@all_of(case=CASES)
def test_crd_normaliser(case, precision, autocast):
    one, two = (each.to(precision) for each in embeddings(case))
    negatives = torch.stack([queue_of(one, 6)] * 4).to(precision)
    with torch.autocast("cpu", dtype=autocast):
        got = crd_normaliser(one, two, negatives, images=50, temperature=0.02)
    positive = (unit(one.double()) * unit(two.double())).sum(1, keepdim=True)
    others = torch.einsum("bd,bkd->bk", unit(one.double()), unit(negatives.double()))
    want = 50 * (torch.cat([positive, others], dim=1) / 0.02).exp().mean()
    assert got.dtype == torch.float32 and got.item() == pytest.approx(want.item(), rel=1e-4)


@all_of(case=CASES)
def test_pretext(case, precision, autocast):
    one, two = embeddings(case, 8)
    compare(
        sskd.pretext,
        pretext_formula,
        (torch.cat([one, two]),),
        precision,
        autocast,
        value_off=1e-6,
        gradient_off=of_rows(1.0),
    )


@pytest.mark.parametrize("loss", ["moco", "seed", "crd"])
@pytest.mark.parametrize("temperature", [0.01, 0.2])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_65536_negatives(loss, temperature, precision):
    one, two = embeddings("identical views", 2)
    queue = queue_of(one, NEGATIVES)
    if loss == "crd":
        queue = torch.stack([queue, queue.flip(0)])
    options = {
        "moco": {"temperature": temperature},
        "seed": {"student_temperature": temperature, "teacher_temperature": temperature},
        "crd": {"temperature": temperature, "images": 10**6, "normaliser": 1e9},
    }[loss]
    mine, formula = {
        "moco": (margin_info_nce, moco_formula),
        "seed": (seed, seed_formula),
        "crd": (crd, crd_formula),
    }[loss]
    compare(
        lambda *each: mine(*each, **options),
        lambda *each: formula(*each, **options),
        (one, two, queue),
        precision,
        torch.bfloat16,
        value_off=1e-6 / temperature,
        # CRD adds up a term for each negative, where the others share one probability among them.
        gradient_off=of_rows(temperature, terms=50 if loss == "crd" else 1),
    )


def logits_of(case):
    """Student's and teacher's (8, 5)."""
    generator = torch.Generator().manual_seed(5)
    student, teacher = (torch.randn(8, 5, generator=generator) for _ in range(2))
    sure = torch.nn.functional.one_hot(torch.arange(8) % 5, 5).float()
    return {
        "equal": lambda: (student, student),
        "all alike": lambda: (student * 0, teacher * 0),
        "1e4 apart": lambda: (1e4 * sure, 1e4 * sure.flip(0)),
        "-1e4": lambda: (-1e4 * sure, -1e4 * sure.flip(0)),
        "around 1e4": lambda: (1e4 + student, 1e4 + teacher),
        "of size 1e4": lambda: (1e4 * student, 1e4 * teacher),
    }[case]()


LOGITS = ["equal", "all alike", "1e4 apart", "-1e4", "around 1e4", "of size 1e4"]


@all_of(case=LOGITS, temperature=[0.01, 1.0, 4.0], batch=[8, 1])
def test_kd(case, precision, autocast, temperature, batch):
    compare(
        lambda *each: kd(*each, temperature=temperature),
        lambda *each: kd_formula(*each, temperature=temperature),
        [each[:batch] for each in logits_of(case)],
        precision,
        autocast,
        value_off=1e-6 * temperature**2,
        gradient_off=lambda rows: 1e-6 * temperature,
    )


# Each with its own extreme: all pairs would tell nothing more.
@all_of(cases=list(zip(2 * LOGITS, 2 * CASES, strict=False)), temperatures=[(4.0, 4.0, 0.5), (0.01, 0.01, 0.01)])
def test_sskd(cases, precision, autocast, temperatures):
    case, projections = cases
    (student_logits, teacher_logits), (one, two) = logits_of(case), embeddings(projections, 8)
    labels, kept = torch.tensor([1, 3]), []

    def loss(*each):
        found = sskd.sskd(*each, labels, temperatures=temperatures)
        kept[:] = found.kept_tf, found.kept_ss
        return found.total

    hardest = min(temperatures)
    compare(
        loss,
        lambda *each: sskd_formula(*each, labels=labels, kept=kept, temperatures=temperatures),
        (student_logits, one, teacher_logits, two),
        precision,
        autocast,
        value_off=1e-5 / hardest,
        gradient_off=lambda rows: 1e-5 if rows.shape[1] == 5 else 10 * of_rows(hardest)(rows),
    )


@all_of(size=[1e-6, 1.0, 1e4], batch=[3, 1])
def test_partial_l2(precision, autocast, size, batch):
    generator = torch.Generator().manual_seed(6)
    student, teacher = (size * torch.randn(batch, 4, 5, 5, generator=generator) for _ in range(2))
    student[0, 0], teacher[0, 1], student[0, 2] = 0, 0, teacher[0, 2]
    margin = size * torch.tensor([-1.0, -0.1, 0.0, -3.0])
    compare(
        lambda *maps: overhaul.partial_l2(*maps, margin),
        lambda *maps: partial_l2_formula(*maps, margin.double()),
        (student, teacher),
        precision,
        autocast,
        value_off=0.0,
        gradient_off=lambda rows: 0.0,
    )


@all_of(size=[1e-6, 1.0, 1e4], batch=[3, 1])
def test_fitnet(precision, autocast, size, batch):
    generator = torch.Generator().manual_seed(7)
    student, teacher = (size * torch.randn(batch, 4, 5, 5, generator=generator) for _ in range(2))
    student[0, 0], teacher[0, 1], student[0, 2] = 0, 0, teacher[0, 2]
    compare(
        fitnet,
        lambda s, t: ((s - t.detach()) ** 2).mean(),
        (student, teacher),
        precision,
        autocast,
        value_off=0.0,
        gradient_off=lambda rows: 0.0,
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_bn_margin(precision):
    weight, bias = (each.flatten() for each in torch.meshgrid(*2 * (torch.tensor([0, 1e-4, 1, 1e4]),), indexing="ij"))
    weight = torch.cat([weight, -weight, torch.ones(5)]).to(precision)
    bias = torch.cat([bias, -bias, torch.tensor([3.0, 3.08, 3.1, -3.1, 30])]).to(precision)
    sigma, mu = weight.double().abs().clamp(min=1e-12).numpy(), bias.double().numpy()
    ratio = mu / sigma
    far = stats.norm.sf(ratio) <= 0.001
    mean = mu - sigma * stats.norm.pdf(ratio) / stats.norm.sf(ratio).clip(1e-300)
    want = torch.from_numpy(mean).where(~torch.from_numpy(far), torch.from_numpy(-3 * sigma))
    got = overhaul.bn_margin(weight, bias)
    assert got.dtype == torch.float32 and far.any() and not far.all()
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0)
