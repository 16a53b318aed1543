import pytest

from hf_vipriors.training import DataArguments, StudentArguments
from hf_vipriors.training.cards import protocol_words, settings_read
from hf_vipriors.training.resolve import complete


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, []),
        ({"label_noise": 0.4}, ["40% of the labels wrong, symmetric"]),
        ({"imbalance": 10.0, "train_fraction": 0.5}, ["imbalance 10", "50% of them"]),
    ],
)
def test_a_card_says_what_was_done_to_the_labels(settings, words):
    assert protocol_words(DataArguments(**settings)) == words


def test_a_card_says_what_ended_the_training(tmp_path):
    options = {"method": "supervised", "use_cpu": True, "output_dir": str(tmp_path), "report_to": "none"}
    by_epochs, by_steps = (settings_read(StudentArguments(**options, max_steps=steps)) for steps in (-1, 50))
    assert "num_train_epochs" in by_epochs and "max_steps" not in by_epochs
    assert "max_steps" in by_steps and "num_train_epochs" not in by_steps


@pytest.mark.parametrize("method", ["supervised", "overhaul", "fixmatch"])
def test_a_card_says_crop_or_shift(method, tmp_path):
    options = {"method": method, "use_cpu": True, "output_dir": str(tmp_path), "report_to": "none"}
    cropped, shifted = (settings_read(complete(StudentArguments(**options, random_shift=n)).args) for n in (0, 4))
    assert "crop_scale" in cropped and "random_shift" not in cropped
    assert "random_shift" in shifted and "crop_scale" not in shifted
