"""What a machine refuses, in one line; what is a defect keeps its traceback."""

import errno

import pytest
import torch

from hf_vipriors.cli.machine_errors import explain_error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (MemoryError(), "per_device_train_batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory."), "accelerator's memory is full"),
    ],
)
def test_what_a_machine_refuses_in_words(error, words):
    assert words in explain_error(error) and "\n" not in explain_error(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no"), KeyError("DataLoader worker")])
def test_what_is_a_defect_keeps_its_traceback(error):
    assert explain_error(error) is None
