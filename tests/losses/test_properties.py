"""What holds of every loss whatever the embeddings are: order, scale, margin, temperature, symmetry, floors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_vipriors.losses import crd, dogo, fitnet, kd, margin_info_nce, nt_xent, overhaul, seed, sskd, unit_rows

TEMPERATURES = st.floats(0.02, 2.0)


@st.composite
def draws(draw, least=2):
    """A generator, a batch and a width: embeddings are drawn from it, for lists of floats would be slow."""
    number, batch, width = draw(st.integers(0, 2**32)), draw(st.integers(least, 7)), draw(st.integers(2, 20))
    generator = torch.Generator().manual_seed(number)
    return lambda *shape: torch.randn(*(shape or (batch, width)), generator=generator), batch, width


def same(one, other, temperature=1.0):
    """Equal but for the rounding of logits."""
    return math.isclose(one.item(), other.item(), rel_tol=1e-4, abs_tol=1e-5 / temperature)


# Each from embeddings of one batch alone, so that all can be turned and stretched alike.
BY_IMAGE = {
    "margin_info_nce": lambda one, two, three, more, t: margin_info_nce(one, two, more, temperature=t),
    "nt_xent": lambda one, two, three, more, t: nt_xent(one, two, temperature=t),
    "seed": lambda one, two, three, more, t: seed(one, two, more, student_temperature=t, teacher_temperature=t),
    "dogo": lambda one, two, three, more, t: dogo(one, two, three, one, temperature=t)[0],
    "crd": lambda one, two, three, more, t: crd(
        one, two, more.expand(len(one), *more.shape), images=50, temperature=t, normaliser=100.0
    ),
    "pretext": lambda one, two, three, more, t: sskd.pretext(
        torch.stack([one, two, three, one + two], 1).flatten(0, 1)
    ),
}


@pytest.mark.parametrize("loss", BY_IMAGE.values(), ids=BY_IMAGE)
@given(draw=draws(), temperature=TEMPERATURES, data=st.data())
def test_the_order_of_the_batch_does_not_count(loss, draw, temperature, data):
    random, batch, width = draw
    one, two, three, more = random(), random(), random(), random(5, width)
    order = data.draw(st.permutations(range(batch)))
    turned = loss(one[order], two[order], three[order], more, temperature)
    assert same(loss(one, two, three, more, temperature), turned, temperature)
    if loss is not BY_IMAGE["nt_xent"]:  # of the keys neither
        turned = loss(one, two, three, more[data.draw(st.permutations(range(5)))], temperature)
        assert same(loss(one, two, three, more, temperature), turned, temperature)


@pytest.mark.parametrize("loss", [name for name in BY_IMAGE if name != "pretext"])  # whose fourth row is a sum
@given(draw=draws(), temperature=TEMPERATURES, sizes=st.lists(st.floats(1e-4, 1e4), min_size=4, max_size=4))
def test_the_length_of_an_embedding_does_not_count(loss, draw, temperature, sizes):
    random, batch, width = draw
    one, two, three, more = random(), random(), random(), random(5, width)
    stretched = [
        each * (size * (1 + torch.arange(len(each)))[:, None])
        for each, size in zip((one, two, three, more), sizes, strict=True)
    ]
    loss = BY_IMAGE[loss]
    assert same(loss(one, two, three, more, temperature), loss(*stretched, temperature), temperature)


@given(draw=draws(1), temperature=TEMPERATURES, margins=st.tuples(st.floats(0, 1.9), st.floats(0, 1.9)))
def test_a_larger_margin_is_a_larger_loss(draw, temperature, margins):
    random, batch, width = draw
    one, two, more = random(), random(), random(5, width)
    less, greater = sorted(margins)
    low, high = (margin_info_nce(one, two, more, temperature=temperature, margin=m) for m in (less, greater))
    assert low <= high <= low + (greater - less) / temperature + 1e-4 / temperature
    if batch > 1:
        low, high = (nt_xent(one, two, temperature=temperature, margin=m) for m in (less, greater))
        assert low <= high <= low + (greater - less) / temperature + 1e-4 / temperature


@given(draw=draws(1), temperatures=st.tuples(TEMPERATURES, TEMPERATURES))
def test_a_hotter_softmax_is_nearer_to_chance(draw, temperatures):
    """The positive is the best there can be, so that every step towards equal logits costs."""
    random, batch, width = draw
    one, more = random(), random(5, width)
    cold, hot = sorted(temperatures)
    losses = [margin_info_nce(one, one, more, temperature=t, margin=0.0).item() for t in (cold, hot)]
    assert 0 <= losses[0] <= losses[1] + 1e-5 / cold and losses[1] <= math.log(6) + 1e-5


@given(draw=draws(), temperature=TEMPERATURES, margin=st.floats(0, 1.9))
def test_nt_xent_does_not_know_which_view_is_first(draw, temperature, margin):
    random, _, _ = draw
    one, two = random(), random()
    options = {"temperature": temperature, "margin": margin}
    assert same(nt_xent(one, two, **options), nt_xent(two, one, **options), temperature)


@given(draw=draws(1), temperature=TEMPERATURES)
def test_seed_at_equality_is_the_entropy_of_the_teacher_and_never_less(draw, temperature):
    random, batch, width = draw
    student, teacher, queue = random(), random(), random(5, width)
    options = {"student_temperature": temperature, "teacher_temperature": temperature}
    unit, keys = unit_rows(teacher), unit_rows(queue)
    logits = torch.cat([torch.ones(batch, 1), unit @ keys.T], dim=1) / temperature
    entropy = torch.distributions.Categorical(logits=logits.double()).entropy().mean()
    at_equality = seed(teacher, teacher, queue, **options)
    assert same(at_equality, entropy, temperature)
    assert seed(student, teacher, queue, **options) >= at_equality - 1e-5 / temperature


@given(draw=draws(1), temperature=st.floats(0.1, 20), size=st.floats(0.01, 50), shift=st.floats(-100, 100))
def test_kd_is_zero_at_equality_alone_and_knows_no_constant(draw, temperature, size, shift):
    random, _, _ = draw
    student, teacher = size * random(), size * random()
    assert kd(teacher, teacher, temperature=temperature) == 0
    apart = kd(student, teacher, temperature=temperature)
    shares = [(each.double() / temperature).softmax(dim=1) for each in (student, teacher)]
    apart_at_least = 2 * ((shares[0] - shares[1]).abs().sum(dim=1) / 2).square().mean()  # Pinsker's inequality
    assert apart >= temperature**2 * (apart_at_least - 1e-6)
    moved = kd(student + shift, teacher - shift, temperature=temperature)
    assert math.isclose(moved, apart, rel_tol=1e-3, abs_tol=1e-4 * temperature**2)


@given(draw=draws(), temperature=TEMPERATURES)
def test_dogo_is_zero_where_the_peers_agree_and_turns_with_them(draw, temperature):
    random, batch, _ = draw
    a, b = (random(), random()), (random(), random())
    assert all(part == 0 for part in dogo(*a, *a, temperature=temperature))
    of_a, of_b = dogo(*a, *b, temperature=temperature)
    again_b, again_a = dogo(*b, *a, temperature=temperature)
    assert of_a == again_a >= -1e-6 and of_b == again_b >= -1e-6
    means = dogo(*a, *b, temperature=temperature, reduction="mean")
    assert all(same(mean * batch, part) for mean, part in zip(means, (of_a, of_b), strict=True))


@given(draw=draws(1), size=st.floats(1e-3, 1e3))
def test_maps_at_no_distance_below_zero(draw, size):
    random, batch, channels = draw
    student, teacher = (size * random(batch, channels, 3, 3) for _ in range(2))
    margin = overhaul.bn_margin(random(channels), random(channels))
    distance = overhaul.partial_l2(student, teacher, margin)
    assert (margin <= 0).all() and 0 <= distance <= (student - teacher).square().sum() * (1 + 1e-5)
    held = torch.maximum(teacher, margin[None, :, None, None])
    assert overhaul.partial_l2(held, teacher, margin) == 0, "the target itself"
    assert overhaul.partial_l2(held.minimum(margin[None, :, None, None]), teacher.clamp(max=0), margin) == 0
    assert fitnet(teacher, teacher) == 0 and fitnet(student, teacher) > 0


@given(draw=draws(2), keep=st.tuples(st.floats(0, 1), st.floats(0, 1)), data=st.data())
def test_sskd_keeps_what_the_teacher_knows_and_the_share_asked_for(draw, keep, data):
    random, batch, width = draw
    labels = torch.tensor(data.draw(st.lists(st.integers(0, width - 1), min_size=batch, max_size=batch)))
    mine, theirs = (random(4 * batch, width), random(4 * batch, 6)), (random(4 * batch, width), random(4 * batch, 5))
    losses = sskd.sskd(*mine, *theirs, labels, keep=keep)
    rotated = theirs[0].unflatten(0, (batch, 4))[:, 1:].flatten(0, 1)
    right = rotated.argmax(dim=1) == labels.repeat_interleave(3)
    wrong = int((~right).sum())
    kept = set(losses.kept_tf.tolist())
    assert set(right.nonzero().flatten().tolist()) <= kept and len(kept) == 3 * batch - wrong + int(wrong * keep[0])
    parts = 0.1 * losses.ce + 0.9 * losses.kd + 2.7 * losses.tf + 10 * losses.ss
    assert same(losses.total, parts) and min(losses.kd, losses.tf, losses.ss) >= -1e-6
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    rows = (4 * order[:, None] + torch.arange(4)).flatten()
    turned = sskd.sskd(*(each[rows] for each in (*mine, *theirs)), labels[order], keep=(1.0, 1.0))
    assert same(sskd.sskd(*mine, *theirs, labels, keep=(1.0, 1.0)).total, turned.total)
