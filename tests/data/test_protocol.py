"""Which rows the protocol chooses; its images do not exist, so reading one would fail."""

from collections import Counter

import numpy as np
import pytest
from missing_images import dataset

from hf_vipriors.data import ImageSplits, TrainProtocol, apply_protocol
from hf_vipriors.errors import InputError


def splits(names=("a", "b", "c"), **labels):
    return ImageSplits({split: dataset(those, split) for split, those in labels.items()}, list(names), ["loaded"])


def rows(data):
    return [record["path"] for record in data["image"]]


def per_class(data):
    return dict(sorted(Counter(data["label"]).items()))


def all_three(each=10):
    return splits(train=[0, 1, 2] * each, validation=[0, 1, 2] * 4, test=[2, 1, 0] * 5)


def test_without_a_choice_all_is_kept():
    chosen = apply_protocol(all_three())
    assert {split: len(data) for split, data in chosen.splits.items()} == {"train": 30, "validation": 12, "test": 15}
    assert chosen.class_names == ["a", "b", "c"]
    assert chosen.notes == ["loaded", "protocol: train 30, validation 12, test 15 images"]


def test_n_images_of_each_class_with_their_labels():
    whole = splits(train=[0] * 9 + [1] * 30 + [2] * 5, validation=[0, 1, 2], test=[0, 1, 2])
    train = apply_protocol(whole, images_per_class=5).splits["train"]
    assert per_class(train) == {0: 5, 1: 5, 2: 5}
    original = dict(zip(rows(whole.splits["train"]), whole.splits["train"]["label"], strict=True))
    assert all(original[path] == label for path, label in zip(rows(train), train["label"], strict=True))


def test_the_same_seed_chooses_the_same_and_another_seed_does_not():
    first, again, other = (
        rows(apply_protocol(all_three(), images_per_class=4, subset_seed=seed).splits["train"]) for seed in (3, 3, 4)
    )
    assert first == again and first != other


def test_fewer_images_are_a_subset_of_more_also_when_validation_is_carved():
    whole = splits(train=[0, 1, 2] * 20)
    few, more = (apply_protocol(whole, images_per_class=number).splits for number in (3, 10))
    for split in ("train", "validation"):
        assert set(rows(few[split])) < set(rows(more[split]))


def test_the_choice_is_spread_over_the_rows():
    chosen = rows(apply_protocol(all_three(100), images_per_class=10).splits["train"])
    assert max(int(path.removeprefix("train")) for path in chosen) > 150


def test_who_chooses_sees_what_is_not_set_aside_and_asks_for_as_many_labels():
    whole = splits(train=[0, 1, 2] * 20)
    seen = []

    def first(images, count):
        seen.extend(rows(images))
        return np.flatnonzero(np.array(images["label"]) != 1)[:count]

    chosen = apply_protocol(whole, images_per_class=4, unlabelled="rest", choose=first)
    drawn = apply_protocol(whole, images_per_class=4)
    assert rows(chosen.splits["validation"]) == rows(drawn.splits["validation"])
    assert not set(seen) & set(rows(chosen.splits["validation"])) and len(seen) == 60 - 12
    assert len(chosen.splits["train"]) == len(drawn.splits["train"]) == 12
    assert set(per_class(chosen.splits["train"])) == {0, 2}
    assert set(rows(chosen.splits["unlabelled"])) == set(seen) - set(rows(chosen.splits["train"]))
    assert any(note.startswith("12 of 48 train images get a label: 0 to ") for note in chosen.notes)


def test_a_class_with_too_few_images_is_named_with_its_count():
    few = splits(train=[0] * 9 + [1] * 3 + [2] * 5, validation=[0, 1, 2], test=[0, 1, 2])
    with pytest.raises(InputError, match="images_per_class 5 is more than .* class 'b' has 3; choose"):
        apply_protocol(few, images_per_class=5)
    with pytest.raises(InputError, match="'b' has 3, 'c' has 5"):
        apply_protocol(few, images_per_class=6)


def test_one_class_only_is_refused():
    with pytest.raises(InputError, match="only one class, 'cat'"):
        apply_protocol(splits(["cat"], train=[0] * 9))


# --- validation and test ------------------------------------------------------------------------------------------


def carved(train_labels, **options):
    chosen = apply_protocol(splits(train=train_labels, test=[0, 1, 2]), **options)
    train, validation = chosen.splits["train"], chosen.splits["validation"]
    assert not set(rows(train)) & set(rows(validation))
    assert any("no validation split: carved from train" in note for note in chosen.notes)
    return per_class(train), per_class(validation)


def test_missing_validation_is_carved_by_share():
    train, validation = carved([0] * 10 + [1] * 20 + [2] * 2, validation_share=0.2)
    assert validation == {0: 2, 1: 4, 2: 1} and train == {0: 8, 1: 16, 2: 1}


def test_missing_validation_has_n_per_class_when_enough_remain():
    assert carved([0, 1, 2] * 10, images_per_class=5) == ({0: 5, 1: 5, 2: 5}, {0: 5, 1: 5, 2: 5})
    assert carved([0, 1, 2] * 2, images_per_class=1) == ({0: 1, 1: 1, 2: 1}, {0: 1, 1: 1, 2: 1})


def test_else_its_share_comes_from_the_rows_not_chosen():
    assert carved([0, 1, 2] * 12, images_per_class=10) == ({0: 10, 1: 10, 2: 10}, {0: 2, 1: 2, 2: 2})


def test_else_its_share_comes_out_of_the_chosen_ones():
    assert carved([0, 1, 2] * 11, images_per_class=10) == ({0: 8, 1: 8, 2: 8}, {0: 2, 1: 2, 2: 2})


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_both_parts_of_a_carved_class_have_an_image(share):
    train, validation = carved([0, 1, 2] * 3, validation_share=share)
    assert min(train.values()) >= 1 and min(validation.values()) >= 1


@pytest.mark.parametrize(("each", "number"), [(12, 5), (11, 10), (12, None), (7, 2)])
def test_other_choices_of_the_images_may_share_the_carved_ones(each, number):
    """12 images are enough for 5 and 5; of 11 some of the 10 chosen become validation."""

    def chosen(seed, held_out=None):
        whole, options = splits(train=[0, 1, 2] * each), {"images_per_class": number, "unlabelled": "rest"}
        found = apply_protocol(whole, subset_seed=seed, validation_seed=held_out, **options).splits
        return {name: set(rows(data)) for name, data in found.items()}

    first, other = chosen(3), chosen(4, 3)
    assert chosen(3, 3) == first and first["validation"] == other["validation"]
    assert {name: len(found) for name, found in first.items()} == {name: len(found) for name, found in other.items()}
    assert not other["validation"] & (other["train"] | other.get("unlabelled", set()))
    assert (first["train"] != other["train"]) == (number is not None)


def test_too_few_images_to_carve_are_named():
    with pytest.raises(InputError, match="too few train images to carve one from: class 'c' has 1"):
        apply_protocol(splits(train=[0, 0, 1, 1, 2]))


def test_an_existing_validation_split_is_left_alone():
    whole = all_three()
    chosen = apply_protocol(whole, images_per_class=2)
    assert rows(chosen.splits["validation"]) == rows(whole.splits["validation"])
    assert not any("carved" in note for note in chosen.notes)


def test_missing_test_is_validation_and_said_loudly():
    chosen = apply_protocol(splits(train=[0, 1, 2] * 10))
    assert rows(chosen.splits["test"]) == rows(chosen.splits["validation"])
    assert any(note.startswith("NO INDEPENDENT TEST SPLIT") for note in chosen.notes)
    assert not any("INDEPENDENT" in note for note in apply_protocol(all_three()).notes)


# --- the unlabelled pool ------------------------------------------------------------------------------------------


def pool(choice, **labels):
    chosen = apply_protocol(splits(**labels), images_per_class=2, unlabelled=choice).splits
    if "unlabelled" not in chosen:
        return None
    assert "label" not in chosen["unlabelled"].column_names
    labelled = {path for split in ("train", "validation", "test") for path in rows(chosen[split])}
    found = rows(chosen["unlabelled"])
    assert not labelled & set(found) and len(set(found)) == len(found)
    return Counter(path.rstrip("0123456789") for path in found)


def test_unlabelled_pool_choices():
    own = {"train": [0, 1, 2] * 10, "validation": [0, 1, 2], "unlabelled": 7}
    assert pool("split", **own) == {"unlabelled": 7}
    assert pool("rest", **own) == {"unlabelled": 7, "train": 24}
    assert pool("none", **own) is None


def test_rest_leaves_out_what_was_carved():
    assert pool("rest", train=[0, 1, 2] * 10) == {"train": 18}
    assert pool("split", train=[0, 1, 2] * 10) is None


@pytest.mark.parametrize("test", [None, [0, 1, 2] * 2])
def test_a_share_of_zero_learns_from_all_labels(test):
    whole = splits(train=[0, 1, 1, 2], **({"test": test} if test else {}))
    with pytest.raises(InputError, match="class 'a' has 1, 'c' has 1; .*validation_share 0"):
        apply_protocol(whole)
    found = apply_protocol(whole, validation_share=0)
    assert list(found.splits) == (["train", "test"] if test else ["train"]) and len(found.splits["train"]) == 4
    assert not found.test_is_validation and ("UNKNOWN" in found.notes[-2]) == (test is None)
    few = apply_protocol(splits(train=[0, 1, 2] * 4), validation_share=0, images_per_class=4)
    assert per_class(few.splits["train"]) == {0: 4, 1: 4, 2: 4}, "none is kept back"


def test_a_share_of_zero_leaves_a_validation_split_as_it_is():
    whole = all_three()
    assert rows(apply_protocol(whole, validation_share=0).splits["validation"]) == rows(whole.splits["validation"])


def test_labels_are_optional_only_for_label_free_training():
    chosen = apply_protocol(splits([], unlabelled=5))
    assert list(chosen.splits) == ["unlabelled"] and "no labels at all" in chosen.notes[-1]
    for options in ({"images_per_class": 2}, {"unlabelled": "none"}):
        with pytest.raises(InputError, match="no labelled train split"):
            apply_protocol(splits([], unlabelled=5), **options)
    with pytest.raises(InputError, match=r"no labelled train split \(found: test 6\)"):
        apply_protocol(splits(test=[0, 1, 2] * 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlabelled": "rst"}, "did you mean 'rest'"),
        ({"images_per_class": 0}, "at least 1"),
        ({"validation_share": -0.1}, "from 0 to below 1"),
        ({"validation_share": 1.0}, "from 0 to below 1"),
        ({"subset_seed": -1}, "choose 0 or more"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        apply_protocol(all_three(), **options)


# --- a harder train split -----------------------------------------------------------------------------------------


def harder(whole, images_per_class=None, unlabelled="split", subset_seed=0, **limits):
    return apply_protocol(
        whole,
        images_per_class=images_per_class,
        unlabelled=unlabelled,
        subset_seed=subset_seed,
        limits=TrainProtocol(**limits),
    )


def test_a_long_tail_then_a_share_of_it():
    chosen = harder(all_three(100), images_per_class=80, imbalance=16, train_fraction=0.5)
    assert per_class(chosen.splits["train"]) == {0: 40, 1: 10, 2: 2}  # 80, 20 and 5 (its half rounds to even)
    assert {split: len(chosen.splits[split]) for split in ("validation", "test")} == {"validation": 12, "test": 15}
    assert "imbalance 16: from 80 train images of 'a' down to 5 of 'c'" in chosen.notes
    assert "train fraction 0.5: 52 of 105 train images, each class alike" in chosen.notes


def test_a_smaller_share_is_a_subset_and_leaves_one_image_of_each_class():
    parts = [set(rows(harder(all_three(), train_fraction=share).splits["train"])) for share in (0.01, 0.3, 0.7, 1)]
    assert [len(part) for part in parts] == [3, 9, 21, 30]
    assert parts[0] < parts[1] < parts[2] < parts[3]


def test_images_left_out_join_the_rest_and_only_there():
    for choice, pool in (("rest", 30 - 9), ("split", 0)):
        chosen = harder(all_three(), train_fraction=0.3, unlabelled=choice).splits
        assert len(chosen.get("unlabelled", [])) == pool
    pooled = rows(harder(all_three(), imbalance=5, unlabelled="rest").splits["unlabelled"])
    assert not set(pooled) & set(rows(harder(all_three(), imbalance=5).splits["train"]))


def test_the_carved_validation_is_the_same_whatever_is_left_of_train():
    whole = splits(train=[0, 1, 2] * 20)
    plain = apply_protocol(whole).splits
    hard = harder(whole, imbalance=4, train_fraction=0.5, label_noise=0.5).splits
    assert rows(hard["validation"]) == rows(plain["validation"])
    assert hard["validation"]["label"] == plain["validation"]["label"]
    assert set(rows(hard["train"])) < set(rows(plain["train"]))


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_noise_changes_labels_of_train_and_nothing_else(kind):
    whole = all_three(20)
    plain = apply_protocol(whole, images_per_class=10).splits
    noisy = harder(whole, images_per_class=10, label_noise=0.3, noise_kind=kind)
    assert rows(noisy.splits["train"]) == rows(plain["train"])
    pairs = list(zip(plain["train"]["label"], noisy.splits["train"]["label"], strict=True))
    assert Counter(true for true, label in pairs if true != label) == {0: 3, 1: 3, 2: 3}
    for split in ("validation", "test"):
        assert noisy.splits[split]["label"] == plain[split]["label"]
    assert noisy.splits["train"].features == plain["train"].features
    assert any(f"label noise 0.3, {kind}: 9 of 30 train labels made wrong" in note for note in noisy.notes)
    assert whole.splits["train"]["label"] == [0, 1, 2] * 20, "the data set as loaded is left alone"


def test_noise_by_seed_and_less_of_it_in_a_subset_of_the_images():
    def wrong(rate, seed=0):
        noisy = harder(all_three(20), subset_seed=seed, label_noise=rate).splits["train"]
        true = dict(zip(rows(all_three(20).splits["train"]), [0, 1, 2] * 20, strict=True))
        return {path for path, label in zip(rows(noisy), noisy["label"], strict=True) if true[path] != label}

    assert wrong(0.1) < wrong(0.5) and wrong(0.5) == wrong(0.5) != wrong(0.5, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"imbalance": 0.5}, "imbalance is 0.5"),
        ({"imbalance": 100}, "imbalance 100 leaves the smallest class without an image"),
        ({"train_fraction": 0}, "train_fraction is 0"),
        ({"train_fraction": 1.1}, "train_fraction is 1.1"),
        ({"label_noise": 1}, "label_noise is 1"),
        ({"noise_kind": "symetric"}, "did you mean 'symmetric'"),
    ],
)
def test_impossible_hardships_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        harder(all_three(), **options)


def test_without_labels_there_is_nothing_to_make_harder():
    with pytest.raises(InputError, match="label_noise .* need class labels"):
        harder(splits([], unlabelled=5), label_noise=0.1)
