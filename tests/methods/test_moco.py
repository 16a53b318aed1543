import copy

import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.errors import InputError
from hf_vipriors.losses import margin_info_nce
from hf_vipriors.methods import MoCo, Progress, resolve_queue_length
from hf_vipriors.models import VipriorsModel


@pytest.fixture
def moco(tiny_config):
    torch.manual_seed(0)
    return MoCo(VipriorsModel(tiny_config(projector_dim=8)), queue_length=12, momentum=0.9)


def batch(count=4, first=0):
    generator = torch.Generator().manual_seed(first)
    views = [torch.randn(count, 3, 32, 32, generator=generator) for _ in range(2)]
    return {"views": views, "labels": torch.full((count,), -1), "index": torch.arange(first, first + count)}


def test_one_step_moves_the_query_encoder_and_leaves_the_momentum_encoder_to_its_average(
    moco, assert_trained, snapshot, steps
):
    before = snapshot(moco)
    optimizer = torch.optim.SGD([p for p in moco.parameters() if p.requires_grad], lr=0.1)
    steps(moco, batch(), optimizer)
    assert_trained(before, moco, stays=("momentum_model",))
    moco.end_step(Progress(step=1, epoch=0.1, share=0.1))
    for name, old in before.items():
        if name.startswith("momentum_model."):
            query = moco.get_parameter(name.replace("momentum_model.", "model."))
            torch.testing.assert_close(moco.get_parameter(name), 0.9 * old + 0.1 * query)


def test_loss_is_the_formula_on_query_key_and_queue(moco):
    moco.eval()
    inputs = batch()
    query, key = moco.model(inputs["views"][0]).projection, moco.momentum_model(inputs["views"][1]).projection
    want = margin_info_nce(query, key, moco.queue.keys, temperature=0.2, margin=0.4)
    torch.testing.assert_close(moco(**inputs).loss, want)


def test_keys_enter_after_the_loss_with_their_index_and_wrap_around(moco):
    queue = moco.queue.keys.clone()
    for first in (0, 4, 8, 12):
        inputs = batch(first=first)
        keys = moco._keys(inputs["views"][1])
        moco(**inputs)
        start = first % 12
        torch.testing.assert_close(moco.queue.keys[start : start + 4], keys, rtol=1e-3, atol=1e-4)
    assert moco.queue.index.tolist() == [12, 13, 14, 15, 4, 5, 6, 7, 8, 9, 10, 11]
    assert moco.queue.pointer == 4
    assert not torch.equal(moco.queue.keys, queue)
    torch.testing.assert_close(moco.queue.keys.norm(dim=1), torch.ones(12))


def test_a_batch_longer_than_the_queue_leaves_its_last_keys(tiny_config):
    method = MoCo(VipriorsModel(tiny_config(projector_dim=8)), queue_length=3)
    method(**batch(8))
    assert sorted(method.queue.index.tolist()) == [5, 6, 7]


def test_an_image_is_not_pushed_from_its_own_earlier_view(tiny_config):
    torch.manual_seed(0)
    model = VipriorsModel(tiny_config(projector_dim=8))
    aware, blind = MoCo(model, queue_length=8), MoCo(copy.deepcopy(model), queue_length=8, instance_aware=False)
    blind.load_state_dict(aware.state_dict())
    for method in (aware, blind):
        method.eval()
        own = F.normalize(method.momentum_model(batch()["views"][1]).projection, dim=1)
        method.queue.keys[:4], method.queue.index[:4] = own, torch.arange(4)
    assert aware(**batch()).loss < blind(**batch()).loss


def test_the_queue_is_still_while_evaluating(moco):
    moco.eval()
    before = moco.queue.keys.clone()
    moco(**batch())
    assert torch.equal(before, moco.queue.keys)


def test_key_batch_is_normalised_in_groups(tiny_config):
    torch.manual_seed(0)
    method = MoCo(VipriorsModel(tiny_config(projector_dim=8)), queue_length=12, batchnorm_splits=2)
    view = batch(8)["views"][1]
    want = [copy.deepcopy(method.momentum_model)(half).projection for half in view.chunk(2)]
    got = method._keys(view)
    torch.testing.assert_close(got, F.normalize(torch.cat(want), dim=1), rtol=1e-4, atol=1e-5)
    whole = F.normalize(copy.deepcopy(method.momentum_model)(view).projection, dim=1)
    assert not torch.allclose(got, whole, atol=1e-3)


def test_momentum_schedule_is_a_half_cosine(tiny_config):
    method = MoCo(VipriorsModel(tiny_config(projector_dim=8)), queue_length=4, momentum=0.99, momentum_end=1.0)
    assert [method.momentum_at(s) for s in (0, 0.5, 1)] == pytest.approx([0.99, 0.995, 1.0])


def test_checkpoint_holds_all_that_resuming_needs(moco):
    moco(**batch())
    other = MoCo(copy.deepcopy(moco.model), queue_length=12)
    other.load_state_dict(moco.state_dict())
    moco.eval(), other.eval()
    assert torch.equal(moco(**batch(first=20)).loss, other(**batch(first=20)).loss)
    assert set(moco.deployable().state_dict()) == {
        n.removeprefix("model.") for n in moco.state_dict() if n.startswith("model.")
    }


def test_chance_level_counts_the_queue(moco):
    same = {"views": [torch.zeros(4, 3, 32, 32)] * 2, "labels": torch.zeros(4), "index": torch.arange(4)}
    moco.queue.keys[:] = F.normalize(moco.eval().momentum_model(same["views"][0]).projection, dim=1)[0]
    assert moco(**same).loss.item() == pytest.approx(moco.chance_level(4), rel=1e-4)


def test_needs_a_projector(tiny_config):
    with pytest.raises(ValueError, match="projector"):
        MoCo(VipriorsModel(tiny_config(projector_dim=None)), queue_length=4)


@pytest.mark.parametrize(
    ("images", "batch", "given", "want"),
    [(5500, 128, None, 2688), (500, 128, None, 128), (10**6, 256, None, 4096), (100, 8, 99, 99), (100, 8, 10, 10)],
)
def test_queue_length(images, batch, given, want):
    assert resolve_queue_length(images, batch, given) == want


@pytest.mark.parametrize(("images", "batch", "given"), [(500, 64, 500), (500, 64, 4096), (100, 64, None), (100, 8, 0)])
def test_queue_that_cannot_work_is_refused(images, batch, given):
    with pytest.raises(InputError, match=r"queue|few"):
        resolve_queue_length(images, batch, given)
