import pytest

from hf_vipriors.commands.cards import protocol_words
from hf_vipriors.training import DataArguments


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
