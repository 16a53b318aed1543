import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.errors import InputError
from hf_vipriors.methods import KeyQueue, resolve_queue_length


def keys(*numbers):
    """One recognisable unit vector for each number."""
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(100, 3, generator=generator), dim=1)[list(numbers)]


def test_starts_with_random_unit_keys_of_no_image():
    queue = KeyQueue(50, 3)
    assert len(queue) == 50
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))
    assert len(queue.keys.unique(dim=0)) == 50
    assert queue.index.tolist() == [-1] * 50 and queue.pointer == 0


@pytest.mark.parametrize(("length", "batch"), [(6, 3), (5, 3), (4, 1), (3, 3)])
def test_holds_the_last_keys_with_their_numbers(length, batch):
    """Also where the batch does not divide the length, and a push goes round the end."""
    queue, pushed = KeyQueue(length, 3), []
    for first in range(0, 7 * batch, batch):
        numbers = range(first, first + batch)
        queue.push(keys(*numbers), torch.tensor(numbers))
        pushed += numbers
        assert set(queue.index.tolist()) - {-1} == set(pushed[-length:])
        assert queue.pointer == len(pushed) % length
    assert torch.equal(queue.keys, keys(*queue.index.tolist())), "each key beside its number"
    # The pointer stands on the oldest.
    assert queue.index[queue.pointer] == min(pushed[-length:])


@pytest.mark.parametrize("batch", [3, 4, 7])
def test_a_batch_longer_than_the_queue_leaves_its_last_keys(batch):
    queue = KeyQueue(3, 3)
    queue.push(keys(*range(batch)), torch.arange(batch))
    assert sorted(queue.index.tolist()) == list(range(batch - 3, batch))
    assert torch.equal(queue.keys, keys(*queue.index.tolist()))
    queue.push(keys(50), torch.tensor([50]))
    assert sorted(queue.index.tolist()) == [batch - 2, batch - 1, 50], "the oldest goes first"


def test_embeddings_are_normalised_on_the_way_in_and_lose_their_gradient():
    queue = KeyQueue(4, 3)
    embeddings = (7 * keys(1, 2)).requires_grad_()
    queue.push_from_all(embeddings, torch.tensor([1, 2]))
    torch.testing.assert_close(queue.keys[:2], keys(1, 2))
    assert not queue.keys.requires_grad


def test_half_precision_embeddings_are_kept_as_float32():
    queue = KeyQueue(4, 3)
    queue.push(keys(1, 2).bfloat16(), torch.tensor([1, 2]))
    assert queue.keys.dtype == torch.float32
    queue.push_from_all(100 * keys(3, 4).bfloat16(), torch.tensor([3, 4]))
    torch.testing.assert_close(queue.keys[2:].norm(dim=1), torch.ones(2), rtol=1e-6, atol=1e-6)


def test_a_checkpoint_holds_keys_numbers_and_place():
    queue, other = KeyQueue(5, 3), KeyQueue(5, 3)
    queue.push(keys(1, 2, 3), torch.tensor([1, 2, 3]))
    assert set(queue.state_dict()) == {"keys", "index", "pointer"}
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(keys(4, 5, 6), torch.tensor([4, 5, 6]))
    assert torch.equal(queue.keys, other.keys) and other.index.tolist() == [6, 2, 3, 4, 5]


def test_an_empty_queue_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        KeyQueue(0, 3)


def test_queue_length_up_to_the_published_one_of_each_method():
    assert resolve_queue_length(1_281_167, 256, most=65536) == 65536
    assert resolve_queue_length(50_000, 256, most=65536) == 24832
    assert resolve_queue_length(50_000, 256) == 4096
    with pytest.raises(InputError, match="100 images are too few"):
        resolve_queue_length(100, 64, most=65536)
