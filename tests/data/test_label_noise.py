"""How many labels become wrong, which ones, and that neither is left to chance."""

import numpy as np
import pytest

from hf_vipriors.data.label_noise import noisy_labels

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [40, 25, 10, 3]))


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_exact_counts_in_every_class(kind, rate):
    noisy = noisy_labels(LABELS, 4, rate=rate, kind=kind)
    for label, count in enumerate([40, 25, 10, 3]):
        assert (noisy[LABELS == label] != label).sum() == round(rate * count)
    assert noisy.dtype == LABELS.dtype and set(noisy) <= {0, 1, 2, 3}


def test_symmetric_reaches_every_other_class_alike():
    noisy = noisy_labels(np.zeros(3000, dtype=np.int64), 4, rate=1.0)
    counts = np.bincount(noisy, minlength=4)
    assert counts[0] == 0 and all(abs(count - 1000) < 100 for count in counts[1:])


def test_asymmetric_goes_to_the_next_class_and_round():
    noisy = noisy_labels(LABELS, 4, rate=0.5, kind="asymmetric")
    wrong = noisy != LABELS
    assert wrong.any() and np.array_equal(noisy[wrong], (LABELS[wrong] + 1) % 4)


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_a_smaller_rate_spoils_a_subset_in_the_same_way(kind):
    few, many = (noisy_labels(LABELS, 4, rate=rate, kind=kind, seed=3) for rate in (0.2, 0.6))
    wrong = few != LABELS
    assert 0 < wrong.sum() < (many != LABELS).sum()
    assert np.array_equal(few[wrong], many[wrong])


def test_the_seed_decides_and_nothing_else():
    first, again, other = (noisy_labels(LABELS, 4, rate=0.4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first != LABELS, other != LABELS)
    np.random.seed(0)
    assert np.array_equal(first, noisy_labels(LABELS, 4, rate=0.4, seed=1))


def test_the_labels_given_are_not_changed():
    before = LABELS.copy()
    noisy_labels(LABELS, 4, rate=0.9)
    assert np.array_equal(before, LABELS)


@pytest.mark.parametrize("options", [{"kind": "symmetrical"}, {"rate": 1.1}, {"rate": -0.1}, {"classes": 1}])
def test_impossible_noise_is_refused(options):
    with pytest.raises(ValueError, match="no label noise"):
        noisy_labels(LABELS, **{"classes": 4, "rate": 0.5, **options})
