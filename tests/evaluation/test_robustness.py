"""Corrupted stores hand out the same images however they are read; the figures are counted right."""

import pytest
import torch

from hf_vipriors.data import ImageStore, ResizeCrop, build_store, load_splits
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation import robustness as module
from hf_vipriors.evaluation.features import Outputs, probabilities
from hf_vipriors.evaluation.robustness import CorruptedStore, robustness
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.views.corruptions import CORRUPTIONS


@pytest.fixture(scope="module")
def store():
    images = torch.randint(256, (70, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageStore(images, torch.arange(70) % 4)


def read(store, batch):
    return torch.cat([store.__getitems__(part.tolist())["pixel_values"] for part in torch.arange(70).split(batch)])


@pytest.mark.parametrize("name", ["gaussian_noise", "motion_blur", "elastic"])
def test_the_same_whatever_the_batch_and_order(store, name):
    shaken = CorruptedStore(store, name, 3)
    whole = read(shaken, 70)
    assert not torch.equal(whole, store.images)
    for batch in (1, 7, 32, 64):
        assert torch.equal(read(shaken, batch), whole)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1)).tolist()
    batch = shaken.__getitems__(order)
    assert torch.equal(batch["pixel_values"], whole[order])
    assert torch.equal(batch["labels"], store.labels[order]) and batch["index"].tolist() == order
    assert torch.equal(shaken[69]["pixel_values"], whole[69]) and shaken[69]["labels"] == store.labels[69]


def test_seed_severity_and_block_all_count(store):
    same = torch.full_like(store.images, 100)
    flat = ImageStore(same, store.labels)
    first = read(CorruptedStore(flat, "gaussian_noise", 2), 70)
    assert not torch.equal(first[:32], first[32:64]), "two blocks have noise of their own"
    assert not torch.equal(first, read(CorruptedStore(flat, "gaussian_noise", 2, seed=1), 70))
    assert not torch.equal(first - 100, read(CorruptedStore(flat, "gaussian_noise", 3), 70) - 100)


def test_a_streamed_store_gives_the_same():
    dataset = load_splits("fashion-vipriors").splits["test"].select(range(40))
    kept, streamed = (build_store(dataset, ResizeCrop(28, 28), memory_share=share) for share in (0.5, 0))
    assert type(kept) is not type(streamed)
    first, second = (CorruptedStore(each, "fog", 2).__getitems__([3, 39, 12]) for each in (kept, streamed))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_figures_are_counted_right(store, monkeypatch):
    """A made-up model: right about all clean images, about half of those under noise, about none under blur."""
    shares = {"gaussian_noise": 0.5, "gaussian_blur": 0.0}

    def predictions(model, images, **options):
        share = shares[images.name] if isinstance(images, CorruptedStore) else 1.0
        right = torch.arange(70) < share * 70
        rows = torch.nn.functional.one_hot(torch.where(right, store.labels, (store.labels + 1) % 4), 4)
        return Outputs(rows.float()[:, [3, 2, 1, 0]], store.labels)

    monkeypatch.setattr(module, "probabilities", predictions)
    found = robustness(None, store, order=[3, 2, 1, 0], corruptions=list(shares))
    assert found == {
        "clean": 1.0,
        "top1": 0.25,
        "per_corruption": {"gaussian_noise": [0.5] * 5, "gaussian_blur": [0.0] * 5},
        "count": 70,
    }


@pytest.mark.parametrize(("ten_crop", "names"), [(False, tuple(CORRUPTIONS)), (True, ("contrast",))])
def test_a_real_model_through_all_corruptions(store, tiny_config, ten_crop, names):
    torch.manual_seed(0)
    model = VipriorsForImageClassification(tiny_config(image_size=12 if ten_crop else 16))
    found = robustness(model, store, corruptions=names, ten_crop=ten_crop)
    predictions = probabilities(model, store, ten_crop=ten_crop)
    assert found["clean"] == (predictions.values.argmax(dim=1) == predictions.labels).double().mean().item()
    assert list(found["per_corruption"]) == list(names)
    assert all(len(values) == 5 for values in found["per_corruption"].values()) and found["count"] == 70


def test_an_unknown_corruption_is_refused(store, tiny_config):
    with pytest.raises(InputError, match="did you mean 'jpeg'"):
        robustness(VipriorsForImageClassification(tiny_config(image_size=16)), store, corruptions=["jpg"])
