"""What a trial of another network costs."""

from dataclasses import replace

import pytest

from hf_vipriors.backbones import forward_operations
from hf_vipriors.search.same_compute import same_compute
from hf_vipriors.training import StudentArguments

NARROW = {"channels": [16, 32, 64, 128]}


@pytest.fixture
def given(tmp_path):
    def make(**options):
        options = {"method": "overhaul", "backbone": "resnet18", "image_size": 48, "use_cpu": True} | options
        return StudentArguments(output_dir=str(tmp_path), report_to="none", **options)

    return make


def length(given, **network):
    return same_compute(given, replace(given, **network), ["cat", "dog"], None)


def test_operations_times_epochs_stay(given):
    args = given(lr_milestones=[60, 90], distil_from_epoch=10)
    found = length(args, backbone_args=NARROW)
    full, narrow = (forward_operations("resnet18", image_size=48, backbone_args=each) for each in ({}, NARROW))
    assert full > 5 * narrow
    share = full / narrow
    assert found == {
        "num_train_epochs": pytest.approx(100 * share),
        "distil_from_epoch": pytest.approx(10 * share),
        "lr_milestones": pytest.approx([60 * share, 90 * share]),
    }


def test_steps_are_scaled_where_they_count(given):
    found = length(given(max_steps=1000, warmup_steps=100), backbone="resnet34")
    assert 400 < found["max_steps"] < 520, "twice the blocks in most stages"
    assert found["warmup_steps"] == pytest.approx(found["max_steps"] / 10, abs=0.1)
    shortest = length(given(max_steps=1, warmup_steps=1), backbone="resnet34")
    assert (shortest["max_steps"], shortest["warmup_steps"]) == (1, 1.0)
    assert "warmup_steps" not in length(given(warmup_steps=0.5), backbone="resnet34"), "a share of any length"


def test_the_same_network_and_other_image_sizes_leave_the_length(given):
    args = given()
    for changes in ({"learning_rate": 0.1}, {"image_size": 96}, {"backbone": "resnet18", "backbone_args": {}}):
        assert length(args, **changes) == {}, changes
