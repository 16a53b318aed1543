"""Small views beside the full ones, in every method of phase 1: which pairs are compared, and a run of each."""

import json

import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import margin_info_nce, nt_xent
from hf_vipriors.methods import Byol, MoCo, SimCLR
from hf_vipriors.models import VipriorsModel


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(0)
    return VipriorsModel(tiny_config(projector_dim=8, projector_batch_norm=True))


def batch(small=2, count=5):
    torch.manual_seed(1)
    sizes = [32, 32, *[16] * small]
    views = [torch.randn(count, 3, size, size) for size in sizes]
    return {"views": views, "labels": torch.full((count,), -1), "index": torch.arange(count)}


def test_simclr_compares_all_pairs_with_a_full_view(model):
    method, inputs = SimCLR(model, temperature=0.3).eval(), batch()
    embedded = [model(view).projection for view in inputs["views"]]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    wanted = sum(nt_xent(embedded[a], embedded[b], temperature=0.3) for a, b in pairs) / len(pairs)
    torch.testing.assert_close(method(**inputs).loss, wanted)


def test_moco_asks_with_each_small_view_for_the_key_of_the_full_one(model):
    method, inputs = MoCo(model, queue_length=7, margin=0.1).eval(), batch()
    key = F.normalize(method.momentum_model(inputs["views"][1]).projection, dim=1)
    queries = [model(inputs["views"][number]).projection for number in (0, 2, 3)]
    wanted = sum(margin_info_nce(query, key, method.queue.keys, margin=0.1) for query in queries) / 3
    torch.testing.assert_close(method(**inputs).loss, wanted)


def test_symmetric_moco_asks_with_each_full_view_for_the_other_and_with_small_views_for_both(model):
    method, inputs = MoCo(model, queue_length=7, margin=0.1, symmetric=True).eval(), batch()
    first, second = (F.normalize(method.momentum_model(view).projection, dim=1) for view in inputs["views"][:2])
    queries = [model(view).projection for view in inputs["views"]]
    pairs = [(queries[0], second), (queries[1], first)]
    pairs += [(query, key) for query in queries[2:] for key in (first, second)]
    wanted = sum(margin_info_nce(query, key, method.queue.keys, margin=0.1) for query, key in pairs) / len(pairs)
    torch.testing.assert_close(method(**inputs).loss, wanted)


def test_symmetric_moco_keeps_the_keys_of_both_full_views(model):
    method = MoCo(model, queue_length=12, symmetric=True).train()
    method(**batch(small=0))
    assert sorted(method.queue.index.tolist()) == [-1, -1, *sorted([0, 1, 2, 3, 4] * 2)]


def test_moco_fills_its_queue_with_keys_of_full_views_alone(model):
    method = MoCo(model, queue_length=8).train()
    method(**batch())
    assert sorted(method.queue.index.tolist()) == [-1, -1, -1, 0, 1, 2, 3, 4]


def test_byol_predicts_both_full_views_from_each_small_one(model):
    method, inputs = Byol(model).eval(), batch()
    guessed = [method.predictor(model(view).projection) for view in inputs["views"]]
    first, second = (method.target(view).projection for view in inputs["views"][:2])
    pairs = [(guessed[0], second), (guessed[1], first)]
    pairs += [(each, target) for each in guessed[2:] for target in (first, second)]
    wanted = sum(2 - 2 * F.cosine_similarity(p, target, dim=1).mean() for p, target in pairs) / len(pairs)
    torch.testing.assert_close(method(**inputs).loss, wanted)


@pytest.mark.parametrize(
    "kind", [SimCLR, Byol, lambda model: MoCo(model, queue_length=7)], ids=["simclr", "byol", "moco"]
)
def test_small_views_teach(kind, model):
    """Their gradient reaches the backbone: another small view, another gradient."""
    method, found = kind(model).eval(), []
    for seed in (0, 1):
        inputs = batch()
        inputs["views"][2] = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        method.zero_grad()
        method(**inputs).loss.backward()
        found.append(next(model.parameters()).grad.clone())
    assert not torch.allclose(*found)


@pytest.mark.parametrize("method", ["simclr", "byol", "moco"])
def test_by_the_command(teacher_options, tmp_path, method):
    from hf_vipriors.cli.teacher import main

    folder = tmp_path / method
    options = ["--method", method, "--patches", "2", "--patch_size", "16", "--max_steps", "2"]
    main([*teacher_options, *options, "--output_dir", str(folder)])
    assert 0 <= json.loads((folder / "metrics.json").read_text())["knn"]["top1"] <= 1
    card = (folder / "README.md").read_text()
    assert "| patches | 2 |" in card and "| patch_size | 16 |" in card


def test_what_small_views_cannot_be(teacher_options, tmp_path, capsys):
    from hf_vipriors.cli.teacher import main

    for options, words in (
        (["--patches", "2", "--patch_size", "32"], "not smaller than a full view (32 pixels)"),
        (["--patches", "2", "--patch_scale", "0.5", "0.2"], "--patch_scale takes the smallest and largest area"),
        (["--patches", "-1"], "--patches is -1"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*teacher_options, *options, "--output_dir", str(tmp_path / "x")])
        assert stop.value.code == 2 and words in capsys.readouterr().err and not (tmp_path / "x").exists()
