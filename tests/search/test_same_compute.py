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


def scaled(given, **network):
    return same_compute(given, replace(given, **network), ["cat", "dog"], None)


def test_operations_times_epochs_stay(given):
    args = given(lr_milestones=[60, 90], distil_from_epoch=10)
    found = scaled(args, backbone_args=NARROW)
    full, narrow = (forward_operations("resnet18", image_size=48, backbone_args=each) for each in ({}, NARROW))
    assert full > 5 * narrow
    assert found.num_train_epochs * narrow == pytest.approx(100 * full)
    assert found.lr_milestones == pytest.approx([60 * full / narrow, 90 * full / narrow])
    assert found.distil_from_epoch == pytest.approx(10 * full / narrow)
    assert (args.num_train_epochs, args.lr_milestones) == (100, [60, 90])


def test_steps_are_scaled_where_they_count(given):
    found = scaled(given(max_steps=1000), backbone="resnet34")
    assert 400 < found.max_steps < 520, "twice the blocks in most stages"
    assert scaled(given(max_steps=1), backbone="resnet34").max_steps == 1


def test_the_same_network_and_other_image_sizes_leave_the_length(given):
    args = given()
    for changes in ({"learning_rate": 0.1}, {"image_size": 96}, {"backbone": "resnet18", "backbone_args": {}}):
        assert scaled(args, **changes).num_train_epochs == 100, changes
