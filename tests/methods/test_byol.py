"""BYOL against a loop written from the paper, and as a method among the others."""

import copy

import pytest
import torch

from hf_vipriors.methods import METHODS, Byol, Progress
from hf_vipriors.models import VipriorsModel


@pytest.fixture
def byol(tiny_config):
    torch.manual_seed(0)
    return Byol(VipriorsModel(tiny_config(projector_dim=8, projector_batch_norm=True)), predictor_hidden_dim=16)


def batch(count=6):
    torch.manual_seed(1)
    return {
        "views": [torch.randn(count, 3, 32, 32) for _ in range(2)],
        "labels": torch.full((count,), -1),
        "index": torch.arange(count),
    }


def test_loss_is_the_papers_sum_over_pairs(byol):
    byol.eval()
    inputs = batch()
    output = byol(**inputs)
    total, count = 0.0, len(inputs["index"])
    for one, other in (inputs["views"], inputs["views"][::-1]):
        for i in range(count):
            q = byol.predictor(byol.model(one[i : i + 1]).projection)[0]
            z = byol.target(other[i : i + 1]).projection[0]
            total += ((q / q.norm() - z / z.norm()) ** 2).sum()
    torch.testing.assert_close(output.loss, total / (2 * count), rtol=1e-5, atol=1e-5)
    assert output.parts["positive_cosine"].item() == pytest.approx(1 - output.loss.item() / 2, abs=1e-6)


def test_every_parameter_moves_but_the_targets(byol, assert_trained, snapshot, steps):
    before = snapshot(byol)
    optimizer = torch.optim.SGD([p for p in byol.parameters() if p.requires_grad], lr=0.1)
    steps(byol, batch(), optimizer)
    assert_trained(before, byol, stays=("target.",))
    assert all(p.grad is None for p in byol.target.parameters())


def test_the_target_follows_and_stands_still_at_the_end(byol):
    start = copy.deepcopy(byol.target.state_dict())
    with torch.no_grad():
        for p in byol.model.parameters():
            p.add_(1.0)
    byol.end_step(Progress(step=1, epoch=0.0, share=0.0))
    moved = [(name, p) for name, p in byol.target.named_parameters()]
    assert all(torch.allclose(p, start[name] + 0.004, atol=1e-6) for name, p in moved)
    assert [byol.momentum_at(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.996, 0.998, 1.0])


def test_learns_one_batch_by_heart(byol):
    inputs = batch()
    optimizer = torch.optim.AdamW([p for p in byol.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(15):
        loss = byol(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_goes_on_from_a_checkpoint(byol, tiny_config, assert_resumes):
    other = Byol(VipriorsModel(tiny_config(projector_dim=8, projector_batch_norm=True)), predictor_hidden_dim=16)
    assert_resumes(byol, other, batch())


def test_a_model_without_a_projector_is_refused(tiny_config):
    with pytest.raises(ValueError, match="projector"):
        Byol(VipriorsModel(tiny_config()))


def test_a_whole_run(teacher_options, tmp_path):
    """By the command, with nothing but its name: card, figures and a model that loads."""
    from hf_vipriors.cli.teacher import main

    folder = tmp_path / "byol"
    main([*teacher_options, "--method", "byol", "--output_dir", str(folder), "--target_momentum", "0.9"])
    assert VipriorsModel.from_pretrained(folder).config.projector_batch_norm is True
    card = (folder / "README.md").read_text()
    assert "| target_momentum | 0.9 |" in card and "arxiv.org/abs/2006.07733" in card and "queue_length" not in card
    assert METHODS["byol"] is Byol
