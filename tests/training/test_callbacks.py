import logging
from types import SimpleNamespace

import pytest
import torch

from hf_vipriors.training import callbacks
from hf_vipriors.training.callbacks import SharedCores


@pytest.fixture
def told(monkeypatch, caplog):
    """What is said of a training whose threads wait ``waiting`` of each second, logged every ten."""

    def watch(waiting, *, threads=2, device="cpu", logs=3):
        clock = {"now": 0.0}
        monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock["now"])
        monkeypatch.setattr(callbacks, "seconds_waiting_for_cores", lambda: waiting * clock["now"])
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        args = SimpleNamespace(should_log=True, device=torch.device(device))
        callback = SharedCores()
        with caplog.at_level(logging.WARNING):
            callback.on_train_begin(args, None, None)
            for step in range(1, logs + 1):
                clock["now"] = 10.0 * step
                callback.on_log(args, SimpleNamespace(global_step=step), None)
        return [record.getMessage() for record in caplog.records]

    return watch


def test_a_training_that_waits_for_cores_says_so_once_and_how_to_mend_it(told):
    (said,) = told(0.7)
    assert said.startswith("at step 1: ") and "2 threads" in said and "OMP_NUM_THREADS=1" in said


@pytest.mark.parametrize(
    "case", [{"waiting": 0.03}, {"waiting": 0.7, "threads": 1}, {"waiting": 0.7, "device": "meta"}]
)
def test_alone_with_one_thread_or_on_an_accelerator_nothing_is_said(told, case):
    assert told(**case) == []
