"""What is written can be read, counts the same, and a damaged file says so."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_vipriors.evaluation.predictions import PREDICTIONS_FILE, read_predictions, write_predictions

ROWS = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
LABELS = torch.arange(50) % 5


def test_written_and_read(tmp_path):
    write_predictions(tmp_path, ROWS, LABELS)
    found = read_predictions(tmp_path)
    assert found.values.dtype == torch.float32 and torch.allclose(found.values, ROWS, atol=3e-4)
    assert torch.equal(found.labels, LABELS)
    stored = load_file(tmp_path / PREDICTIONS_FILE)
    assert stored["probabilities"].dtype == torch.float16 and stored["labels"].dtype == torch.int64
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS_FILE], "nothing half-written is left"


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-8])
def test_the_best_class_stays_the_best(tmp_path, size):
    # The second class leads by less than float16 can tell.
    rows = torch.tensor([[0.45, 0.45, 0.1], [0.1, 0.45, 0.45], [0.3, 0.3, 0.4]], dtype=torch.float32)
    rows[0, 1] += size
    rows[1, 2] += size
    best = rows.argmax(dim=1)
    write_predictions(tmp_path, rows, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(read_predictions(tmp_path).values.argmax(dim=1), best)


def test_a_folder_without_answers(tmp_path):
    assert read_predictions(tmp_path) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {"probabilities": ROWS.half()},
        {"probabilities": ROWS.half(), "labels": LABELS[:10]},
        {"probabilities": ROWS.half() * 3, "labels": LABELS},
        {"probabilities": ROWS.half(), "labels": LABELS + 1},
        {"probabilities": ROWS.half(), "labels": LABELS.float()},
    ],
    ids=["no labels", "few labels", "no probabilities", "range", "kind"],
)
def test_a_damaged_file_says_so(tmp_path, tensors):
    save_file(tensors, tmp_path / PREDICTIONS_FILE)
    with pytest.raises(ValueError, match="answers.safetensors is damaged"):
        read_predictions(tmp_path)


def test_a_cut_file_says_so(tmp_path):
    write_predictions(tmp_path, ROWS, LABELS)
    path = tmp_path / PREDICTIONS_FILE
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is damaged"):
        read_predictions(tmp_path)


@pytest.mark.parametrize(("rows", "labels"), [(ROWS * 2, LABELS), (ROWS, LABELS - 1), (ROWS[:3], LABELS)])
def test_nothing_wrong_is_written(tmp_path, rows, labels):
    with pytest.raises(ValueError):
        write_predictions(tmp_path, rows, labels)
    assert not list(tmp_path.iterdir())
