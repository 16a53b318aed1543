"""The images of a finished run, when their classes come in another order than the network's."""

import json
import shutil

import pytest
import torch

from hf_vipriors.data import ImageSplits
from hf_vipriors.data.columns import label_array
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.classification import score
from hf_vipriors.training import finished_run
from hf_vipriors.training.finished_run import example_images, onnx_figures
from hf_vipriors.training.images_of_run import ImagesOfRun
from hf_vipriors.training.run_files import TRAINED_FILE


@pytest.mark.slow
def test_classes_in_another_order_are_the_same_classes(classifier_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(classifier_folder, tmp_path / "student")
    usual, turned = ImagesOfRun(folder), ImagesOfRun(folder)
    test, names = usual.splits.splits["test"], usual.splits.class_names
    labels = (len(names) - 1 - label_array(test)).tolist()
    turned.splits = ImageSplits({"test": test.remove_columns("label").add_column("label", labels)}, names[::-1])
    assert turned.class_order == [*range(len(names))][::-1]
    assert example_images(turned, len(names)) == example_images(usual, len(names))
    scored = []
    monkeypatch.setattr(
        finished_run, "score", lambda values, labels, names: scored.append(values) or score(values, labels, names)
    )
    onnx_figures(usual)
    onnx_figures(turned)
    assert len(scored) == 4
    for before, after in zip(scored[:2], scored[2:], strict=True):  # float32 and int8
        assert not torch.equal(before, before.flip(1)) and torch.equal(before, after.flip(1))


def test_the_network_that_chose_the_labels_may_be_gone(classifier_folder, tmp_path):
    folder = shutil.copytree(classifier_folder, tmp_path / "student")
    run = json.loads((folder / "run.json").read_text())
    run["data"] |= {"images_per_class": 1, "choose_with": "gone"}
    (folder / "run.json").write_text(json.dumps(run))
    found, before = (ImagesOfRun(each).splits.splits for each in (folder, classifier_folder))
    assert found["train"]["origin"] == before["train"]["origin"] and len(before["train"]) > 3, "and its labels stay"
    (folder / TRAINED_FILE).unlink()
    with pytest.raises(InputError, match="gone"):
        _ = ImagesOfRun(folder).splits
