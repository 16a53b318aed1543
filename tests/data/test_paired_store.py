import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from hf_vipriors.data import ImageStore, PairedSampler, PairedStore, collate


def store(labelled=6, unlabelled=10):
    labels = torch.cat([torch.arange(labelled) % 3, torch.full((unlabelled,), -1)])
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return ImageStore(images, labels)


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


def test_a_batch_holds_the_labelled_images_first_then_all_companions():
    paired = PairedStore(store(), companions=2)
    batch = paired.__getitems__([(1, 7, 8), (4, 9, 15)])
    assert batch["index"].tolist() == [1, 4, 7, 9, 8, 15]
    assert batch["labels"].tolist() == [1, 1, -1, -1, -1, -1]
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == batch["index"].tolist()


def test_without_companions_items_are_numbers_of_labelled_images():
    mixed = ImageStore(store().images[:4], torch.tensor([-1, 2, -1, 0]))
    batch = PairedStore(mixed, companions=0).__getitems__([1, 0])
    assert batch["index"].tolist() == [3, 1] and batch["labels"].tolist() == [0, 2]


def test_labels_and_length_are_those_of_the_labelled_images():
    paired = PairedStore(store(), companions=3)
    assert len(paired) == 6 and paired.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_every_label_once_an_epoch_and_every_companion_once_a_deck():
    sampler = PairedSampler(PairedStore(store(), companions=2), seed=3)
    epochs = [epoch(sampler, number) for number in range(5)]
    assert all(sorted(pair[0] for pair in pairs) == list(range(6)) for pairs in epochs)
    assert [pair[0] for pair in epochs[0]] != [pair[0] for pair in epochs[1]]
    companions = [one for pairs in epochs for pair in pairs for one in pair[1:]]  # 60: six decks of ten
    decks = [companions[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(deck) == list(range(6, 16)) for deck in decks)
    assert len({tuple(deck) for deck in decks}) == 6


def test_the_order_depends_on_seed_and_epoch_alone():
    paired = PairedStore(store(), companions=2)
    first, again, other = (PairedSampler(paired, seed) for seed in (3, 3, 4))
    epoch(first, 0)
    torch.rand(5)
    assert epoch(first, 1) == epoch(again, 1) != epoch(other, 1)


def test_through_a_loader_each_batch_keeps_its_share():
    paired = PairedStore(store(), companions=2)
    batches = list(DataLoader(paired, batch_size=4, sampler=PairedSampler(paired, 0), collate_fn=collate))
    assert [len(batch["labels"]) for batch in batches] == [12, 6]
    assert [(batch["labels"] >= 0).sum().item() for batch in batches] == [4, 2]


@pytest.mark.parametrize("labelled", [8, 7])
def test_processes_share_an_epoch_and_follow_its_number(labelled):
    """7: the last batch is short, and accelerate fills it with pairs from the beginning."""
    paired = PairedStore(store(labelled, unlabelled=32), companions=2)
    epochs = []
    for number in (0, 1):
        shares = []
        for rank in (0, 1):
            loader = DataLoader(paired, batch_size=2, sampler=PairedSampler(paired, 0), collate_fn=collate)
            options = {"num_processes": 2, "process_index": rank, "put_on_device": False}
            loader = prepare_data_loader(loader, **options)
            loader.set_epoch(number)
            shares.append([batch["index"].tolist() for batch in loader])
        assert [len(share) for share in shares] == [2, 2]
        first, second = ([one for batch in share for one in batch] for share in shares)
        seen = first + second
        assert {one for one in seen if one < labelled} == set(range(labelled))
        companions = [one for one in seen if one >= labelled]
        assert len(companions) == 16 and len(set(companions)) == 2 * labelled
        epochs.append(seen)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("labelled", "unlabelled", "companions"), [(6, 10, -1), (0, 10, 1), (6, 0, 1)])
def test_what_cannot_be_paired_is_refused(labelled, unlabelled, companions):
    with pytest.raises(ValueError):
        PairedStore(store(labelled, unlabelled), companions)
