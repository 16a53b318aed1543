import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.methods import METHODS, Progress, Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import StudentArguments
from hf_vipriors.views.classification import AUTO_AUGMENT_POLICIES


@pytest.fixture
def student(tiny_config):
    torch.manual_seed(0)
    return VipriorsForImageClassification(tiny_config())


def batch(count=6):
    torch.manual_seed(1)
    return {
        "views": [torch.randn(count, 3, 32, 32)],
        "labels": torch.arange(count) % 4,
        "index": torch.arange(count),
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_smoothed_cross_entropy(student, smoothing):
    method = Supervised(student, label_smoothing=smoothing).eval()
    inputs = batch()
    output = method(**inputs)
    want = F.cross_entropy(student(inputs["views"][0]).logits, inputs["labels"], label_smoothing=smoothing)
    torch.testing.assert_close(output.loss, want)
    assert output.logits.shape == (6, 4)


def test_every_parameter_moves_and_the_average_only_after_the_step(student, assert_trained, snapshot, steps):
    method = Supervised(student, ema_decay=0.5)
    before = snapshot(method)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    steps(method, batch(), optimizer)
    assert_trained(before, method, stays=("ema",))
    for step in (1, 2, 3):
        method.end_step(Progress(step=step, epoch=0, share=0))
    name = "backbone.fc.weight"
    ema, start, now = method.ema.module.get_parameter(name), before[f"student.{name}"], student.get_parameter(name)
    assert method.deployable() is method.ema.module
    assert torch.equal(ema, now), "with no further step the average has arrived"
    assert not torch.equal(ema, start)


def test_average_lags_behind_the_weights(student):
    method = Supervised(student, ema_decay=0.9)
    for step in range(1, 30):
        method.end_step(Progress(step=step, epoch=0, share=0))
    weight = student.get_parameter("backbone.fc.weight")
    old = weight.detach().clone()
    weight.data.add_(1.0)
    method.end_step(Progress(step=100_000, epoch=0, share=0))
    got = method.ema.module.get_parameter("backbone.fc.weight")
    torch.testing.assert_close(got, old + 0.1, rtol=1e-3, atol=1e-4)


def test_mixup_mixes_images_and_targets_alike(student):
    np.random.seed(0)
    method = Supervised(student, mixup=1.0, label_smoothing=0.0)
    labels = torch.tensor([0, 1, 2, 3])
    images = torch.stack([torch.full((3, 32, 32), float(label)) for label in labels])
    mixed, targets = method.mixed(images.clone(), labels)
    share = targets[torch.arange(4), labels]
    assert 0 < share[0] < 1 and torch.allclose(targets.sum(dim=1), torch.ones(4))
    # Images were paired with the flipped batch: pixel = share * own + (1 - share) * partner's value.
    torch.testing.assert_close(mixed[:, 0, 0, 0], share * labels + (1 - share) * labels.flip(0), rtol=1e-4, atol=1e-5)


def test_of_an_odd_batch_all_but_the_last_are_mixed(student):
    np.random.seed(0)
    method = Supervised(student, mixup=1.0)
    images = torch.randn(3, 3, 32, 32)
    mixed, targets = method.mixed(images.clone(), torch.tensor([0, 1, 2]))
    assert torch.equal(mixed[2], images[2]) and not torch.equal(mixed[0], images[0])
    assert targets[2].argmax() == 2 and (targets[0] > 0.05).sum() == 2


def test_class_weights_change_what_counts(student):
    inputs = batch()
    inputs["labels"] = torch.tensor([0, 0, 0, 0, 1, 1])
    weighted = Supervised(student, label_smoothing=0.0, class_weights=torch.tensor([0.0, 3.0, 1.0, 1.0])).eval()
    rare = F.cross_entropy(student(inputs["views"][0]).logits[4:], inputs["labels"][4:])
    torch.testing.assert_close(weighted(**inputs).loss, rare * 3 * 2 / 6)


def test_an_image_without_label_is_refused(student):
    inputs = batch()
    inputs["labels"][2] = -1
    with pytest.raises(ValueError, match="without a label"):
        Supervised(student)(**inputs)


@pytest.mark.parametrize(
    ("options", "cited"),
    [({}, [])]
    + [({"auto_augment": name}, ["1805.09501"]) for name in AUTO_AUGMENT_POLICIES if name != "randaugment"]
    + [
        ({"auto_augment": "randaugment", "mixup": 0.3}, ["1909.13719", "1710.09412"]),
        ({"cutmix": 1.0}, ["1905.04899"]),
    ],
)
@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
def test_the_papers_of_its_augmentation_are_cited_once(method, options, cited):
    kind = METHODS[method]
    strong = {"strong_augmentation": "randaugment", "propagate_labels": False} if method == "fixmatch" else {}
    args = StudentArguments("unused", method=method, use_cpu=True, **options | strong)
    found = [paper.url.rsplit("/", 1)[1] for paper in kind.papers_used(args)]
    own = [paper.url.rsplit("/", 1)[1] for paper in kind.papers] + (["1909.13719"] if strong else [])
    assert sorted(found) == sorted({*own, *cited})
