"""Frozen features and logistic regression: each network sees images as it wants them, and pays for what it uses."""

import numpy as np
import pytest
import torch
import transformers as t
from PIL import Image

from hf_vipriors.comparison import Footprint, FrozenNetwork, feature_parameters, measure_frozen, split_features
from hf_vipriors.evaluation.classification import score
from hf_vipriors.hub.licence import NOT_STATED
from hf_vipriors.hub.teachers import load_teacher
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images

MEAN = [0.7, 0.5, 0.3]


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A DINOv2 of random weights with statistics and a size of its own."""
    folder = tmp_path_factory.mktemp("networks") / "dino"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    t.Dinov2ForImageClassification(t.Dinov2Config(image_size=24, num_labels=7, **sizes)).save_pretrained(folder)
    size = {"height": 24, "width": 24}
    t.BitImageProcessor(
        size={"shortest_edge": 32}, crop_size=size, image_mean=MEAN, image_std=[0.2] * 3, do_convert_rgb=True
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(photos):
    return DataArguments(dataset_name="imagefolder", data_dir=str(photos))


@torch.no_grad()
def test_images_come_as_the_network_wants_them(dino, data, photos):
    """Features as transformers alone gives them: the folder's own processor, its own network."""
    splits = load_images(data)
    found = split_features(load_teacher(str(dino)), splits, data, ["test", "test"], batch_size=5, device="cpu")
    assert list(found) == ["test"]
    processor = t.AutoImageProcessor.from_pretrained(dino)
    paths = [photos / "test" / name / f"{n}.png" for name in splits.class_names for n in range(4)]
    images = processor([Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
    assert images.shape == (12, 3, 24, 24)
    network = t.Dinov2ForImageClassification.from_pretrained(dino).eval()
    tokens = network.base_model(images).last_hidden_state
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)
    # Resized to uint8 by other code: a value may differ by one of 255.
    torch.testing.assert_close(found["test"].values, expected, atol=0.05, rtol=0)
    assert (expected - expected.mean(0)).abs().mean() > 0.05, "images of one class only would show nothing"


def test_parameters_that_features_do_not_need_are_not_counted(dino, tiny_config):
    network = load_teacher(str(dino))
    whole = sum(p.numel() for p in network.parameters())
    # Two tokens wide and seven classes; the mask token belongs to the pretraining.
    assert feature_parameters(network) == whole - (2 * 16 + 1) * 7 - 16
    student = VipriorsForImageClassification(tiny_config(classes=4)).eval()
    assert feature_parameters(student) == sum(p.numel() for p in student.parameters()) - 17 * 4


def test_what_is_measured_of_a_network(dino, data):
    splits = load_images(data)
    found = measure_frozen(str(dino), load_teacher(str(dino)), splits, data, "test", batch_size=8, device="cpu")
    assert (found.image_size, found.licence, found.chosen_on_target) == (24, NOT_STATED, False)
    assert (found.predicted == found.labels).mean() == found.result.top1 and len(found.labels) == 12
    network = load_teacher(str(dino))
    assert found.footprint.params == feature_parameters(network) + (2 * 16 + 1) * 3, "and its own regression"
    assert found.footprint.megabytes == pytest.approx(4e-6 * found.footprint.params)
    assert found.footprint.milliseconds > 0
    validated = measure_frozen(str(dino), network, splits, data, "validation", batch_size=8, device="cpu")
    assert validated.chosen_on_target and "flatters" in validated.row().note and "flatters" not in found.row().note


def test_its_row_says_what_it_is_and_costs():
    predicted, labels = np.array([0, 1, 0, 0]), np.array([0, 1, 0, 1])
    result = score(np.eye(2)[predicted], labels, ["cat", "dog"])
    network = FrozenNetwork("timm:big", "mit", 518, Footprint(22_000_000, 90.0), 0.1, False, result, predicted, labels)
    row = network.row(network.footprint.beside(Footprint(1_000_000, 60.0), "student"))
    assert (row.name, row.top1, row.test_images, row.params) == ("timm:big, frozen", [0.75], 4, 22_000_000)
    assert row.correct[0].tolist() == [True, True, True, False]
    for words in ("518 px", "licence mit", "22.0 M parameters (88.0 MB)", "22 times the parameters of student"):
        assert words in row.note, words
    assert row.note.endswith("1.5 times its time for an image")
