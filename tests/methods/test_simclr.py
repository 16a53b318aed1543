import pytest
import torch

from hf_vipriors.losses import nt_xent
from hf_vipriors.methods import SimCLR
from hf_vipriors.models import VipriorsModel


@pytest.fixture
def simclr(tiny_config):
    torch.manual_seed(0)
    return SimCLR(VipriorsModel(tiny_config(projector_dim=8, projector_batch_norm=True)), temperature=0.3)


def batch(count=6):
    torch.manual_seed(1)
    return {
        "views": [torch.randn(count, 3, 32, 32) for _ in range(2)],
        "labels": torch.full((count,), -1),
        "index": torch.arange(count),
    }


def test_every_parameter_moves(simclr, assert_trained, snapshot, steps):
    before = snapshot(simclr)
    optimizer = torch.optim.SGD(simclr.parameters(), lr=0.1)
    steps(simclr, batch(), optimizer)
    assert_trained(before, simclr)


def test_loss_is_the_formula(simclr):
    simclr.eval()
    inputs = batch()
    first, second = (simclr.model(view).projection for view in inputs["views"])
    output = simclr(**inputs)
    torch.testing.assert_close(output.loss, nt_xent(first, second, temperature=0.3))
    assert output.parts["contrastive"].requires_grad is False


def test_loss_falls_when_one_batch_is_learnt_by_heart(simclr):
    inputs, optimizer = batch(), torch.optim.AdamW(simclr.parameters(), lr=5e-3)
    losses = []
    for _ in range(15):
        loss = simclr(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert losses[0] < 2 * simclr.chance_level(6)
