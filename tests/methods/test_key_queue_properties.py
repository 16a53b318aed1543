"""The queue against Python's own ring, for pushes of any sizes."""

from collections import deque

import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_vipriors.errors import InputError
from hf_vipriors.methods import KeyQueue, resolve_queue_length

PUSHES = st.lists(st.integers(1, 12), max_size=8)


def batch(first, count):
    """Keys that tell which they are: the number, and a unit vector made of it."""
    angle = torch.arange(first, first + count).float() / 10
    return torch.stack([angle.cos(), angle.sin()], dim=1), torch.arange(first, first + count)


def filled(length, pushes):
    """A queue, and the deque that it must equal, oldest first."""
    queue, ring, first = KeyQueue(length, 2), deque([-1] * length, maxlen=length), 0
    for count in pushes:
        queue.push(*batch(first, count))
        ring.extend(range(first, first + count))
        first += count
    return queue, ring


def oldest_first(queue):
    return queue.index.roll(-int(queue.pointer)).tolist()


@given(length=st.integers(1, 10), pushes=PUSHES)
def test_equals_a_ring(length, pushes):
    queue, ring = filled(length, pushes)
    assert oldest_first(queue) == list(ring)
    for key, number in zip(queue.keys, queue.index.tolist(), strict=True):
        if number >= 0:
            assert torch.equal(key, batch(number, 1)[0][0]), "each key beside its number"
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(length))


@given(length=st.integers(1, 10), before=PUSHES, after=PUSHES)
def test_a_checkpoint_goes_on_as_if_nothing_had_been(length, before, after):
    queue, _ = filled(length, before)
    other = KeyQueue(length, 2)
    other.load_state_dict({name: tensor.clone() for name, tensor in queue.state_dict().items()})
    first = sum(before)
    for count in after:
        for each in (queue, other):
            each.push(*batch(first, count))
        first += count
    for name, tensor in queue.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@given(images=st.integers(0, 10**6), size=st.integers(1, 4096), most=st.integers(1, 65536))
def test_a_default_queue_is_whole_batches_and_at_most_half_of_the_images(images, size, most):
    try:
        length = resolve_queue_length(images, size, most=most)
    except InputError as error:
        assert size > min(most, images // 2) and "\n" not in str(error)
    else:
        assert length % size == 0 and 0 < length <= min(most, images / 2) < length + size


@given(images=st.integers(0, 1000), given_length=st.integers(-5, 1200))
def test_a_queue_as_long_as_the_data_set_is_refused(images, given_length):
    try:
        assert resolve_queue_length(images, 8, given_length) == given_length and 0 < given_length < images
    except InputError:
        assert not 0 < given_length < images
