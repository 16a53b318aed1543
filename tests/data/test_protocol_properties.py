"""The protocol for data sets of any sizes: what it chooses, spoils and leaves alone."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from missing_images import dataset

from hf_vipriors.data import ImageSplits, TrainProtocol, apply_protocol
from hf_vipriors.data.imbalance import long_tail_sizes
from hf_vipriors.data.label_noise import NOISE_KINDS, noisy_labels
from hf_vipriors.errors import InputError

SEEDS = st.integers(0, 5)
SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=5)


@st.composite
def wholes(draw):
    """Splits as they are loaded: classes of any sizes in any order, with or without validation, test and more."""
    sizes = draw(SIZES)
    labels = draw(st.permutations([label for label, size in enumerate(sizes) for _ in range(size)]))
    names = [f"class{label}" for label in range(len(sizes))]
    found = {"train": dataset(labels, "train")}
    for split in draw(st.sets(st.sampled_from(["validation", "test"]))):
        found[split] = dataset(list(range(len(sizes))), split)
    if draw(st.booleans()):
        found["unlabelled"] = dataset(draw(st.integers(1, 4)), "unlabelled")
    return ImageSplits(found, names, [])


def rows(data):
    return [record["path"] for record in data["image"]]


def content(splits):
    """Every split's images, with their labels where there are any."""
    return {
        name: list(zip(rows(data), data["label"] if "label" in data.column_names else rows(data), strict=True))
        for name, data in splits.splits.items()
    }


@given(
    whole=wholes(),
    number=st.none() | st.integers(1, 6),
    seed=SEEDS,
    pool=st.sampled_from(["split", "rest", "none"]),
    share=st.floats(0.05, 0.95),
)
def test_exact_numbers_disjoint_splits_true_labels_same_seed_same_choice(whole, number, seed, pool, share):
    options = {"images_per_class": number, "subset_seed": seed, "unlabelled": pool, "validation_share": share}
    try:
        chosen = apply_protocol(whole, **options)
    except InputError as error:
        available = Counter(whole.splits["train"]["label"]).values()
        assert "\n" not in str(error)
        assert min(available) < max(number or 1, 1 if "validation" in whole.splits else 2)
        return
    found = content(chosen)
    assert found == content(apply_protocol(whole, **options)), "same seed, same choice"
    # Labels are those of the data set, and nothing is invented.
    true = {pair for name, pairs in content(whole).items() if name != "unlabelled" for pair in pairs}
    assert all(pair in true for name, pairs in found.items() if name != "unlabelled" for pair in pairs)
    # No image twice, and none in two splits, but for the test split that does not exist.
    apart = [name for name in found if name != "test" or "test" in whole.splits]
    images = [image for name in apart for image, _ in found[name]]
    assert len(images) == len(set(images))
    assert all(image.startswith(("train", "unlabelled")) for image in rows(chosen.splits["train"]))
    classes = range(len(whole.class_names))
    per_class = Counter(chosen.splits["train"]["label"])
    carved = Counter(chosen.splits["validation"]["label"]) if "validation" not in whole.splits else Counter()
    assert all(per_class[label] and (carved[label] or "validation" in whole.splits) for label in classes)
    if number is not None:
        note = next((note for note in chosen.notes if "train keeps" in note), None)
        assert {per_class[label] for label in classes} == {number - max(carved.values()) if note else number}
    if pool == "none":
        assert "unlabelled" not in found
    elif pool == "rest":
        everything = {image for name in ("train", "unlabelled") for image, _ in content(whole).get(name, [])}
        assert everything == {image for image in images if not image.startswith(("validation", "test"))}


@given(
    whole=wholes(),
    seed=SEEDS,
    fraction=st.floats(0.01, 1),
    imbalance=st.floats(1, 8),
    noise=st.floats(0, 0.99),
    kind=st.sampled_from(NOISE_KINDS),
)
def test_limits_touch_the_train_split_alone(whole, seed, fraction, imbalance, noise, kind):
    limits = TrainProtocol(imbalance=imbalance, train_fraction=fraction, label_noise=noise, noise_kind=kind)
    try:
        plain = content(apply_protocol(whole, subset_seed=seed))
        found = content(apply_protocol(whole, subset_seed=seed, limits=limits))
    except InputError as error:
        assert "imbalance" in str(error) or "too few" in str(error)
        return
    assert all(found[name] == plain[name] for name in plain if name not in ("train", "unlabelled"))
    true = dict(plain["train"])
    assert {image for image, _ in found["train"]} <= set(true), "chosen among what would have been chosen"
    sizes, wrong = Counter(true[image] for image, _ in found["train"]), Counter()
    wrong.update(true[image] for image, label in found["train"] if label != true[image])
    assert all(wrong[label] == round(noise * size) for label, size in sizes.items())
    assert {label for _, label in found["train"]} <= set(range(len(whole.class_names)))


@given(
    labels=st.lists(st.integers(0, 3), max_size=60).map(np.array),
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    kind=st.sampled_from(NOISE_KINDS),
    seed=SEEDS,
)
def test_the_rate_of_wrong_labels_is_exact_and_a_larger_one_adds(labels, rates, kind, seed):
    labels = labels.astype(np.int64)
    little, much = (noisy_labels(labels, 4, rate=rate, kind=kind, seed=seed) for rate in sorted(rates))
    for noisy, rate in zip((little, much), sorted(rates), strict=True):
        assert noisy.shape == labels.shape and set(noisy.tolist()) <= {0, 1, 2, 3}
        for label in range(4):
            mine = labels == label
            assert (noisy[mine] != label).sum() == round(rate * mine.sum())
    assert (much[little != labels] == little[little != labels]).all()
    if kind == "asymmetric":
        assert set((much - labels).tolist()) <= {0, 1, -3}


@given(available=st.lists(st.integers(1, 500), min_size=2, max_size=12), imbalance=st.floats(1, 300))
def test_a_long_tail_falls_and_fits(available, imbalance):
    try:
        sizes = long_tail_sizes(available, imbalance)
    except InputError:
        assert min(available) < imbalance or min(available) == 1
        return
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] >= 1
    assert all(size <= count for size, count in zip(sizes, available, strict=True))
    assert abs(sizes[-1] * imbalance - sizes[0]) <= imbalance / 2 + 1, "but for rounding"


@given(available=st.lists(st.integers(50, 500), min_size=2, max_size=8), ratios=st.tuples(*2 * [st.floats(1, 50)]))
def test_a_larger_imbalance_leaves_fewer_images_of_the_last_class(available, ratios):
    mild, hard = (long_tail_sizes([min(available)] * len(available), ratio) for ratio in sorted(ratios))
    assert all(less <= more for less, more in zip(hard, mild, strict=True)) and mild[0] == hard[0] == min(available)
