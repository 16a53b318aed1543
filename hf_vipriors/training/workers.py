"""The data workers of a trainer: as many as shared memory has room for, and none is waited for without end."""

from __future__ import annotations

import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset
from transformers import Trainer

from ..data import PairedStore, streamed_store
from .arguments import RunArguments
from .stores import Store

logger = logging.getLogger(__name__)
SHARED_MEMORY = Path("/dev/shm")  # where workers hand over their batches; containers may have 64 MB, or less
_PREFETCHED = 2  # batches that torch lets each worker have ready


class WorkersTrainer(Trainer):
    """A ``Trainer`` whose data loaders end with an error where a worker that lives delivers nothing."""

    def _get_dataloader(self, dataset: Dataset, description: str, batch_size: int, **options: Any) -> DataLoader:
        self.args.dataloader_num_workers = fitting_workers(dataset, batch_size, self.args)
        if not self.args.dataloader_num_workers:  # torch refuses these without workers
            self.args.dataloader_prefetch_factor, self.args.dataloader_persistent_workers = None, False
        loader = super()._get_dataloader(dataset, description, batch_size, **options)
        if loader.num_workers:
            loader.base_dataloader.timeout = streamed_store.WORKER_TIMEOUT
        return loader


def fitting_workers(store: Store, batch_size: int, args: RunArguments) -> int:
    """How many of the workers that were asked for have room for their batches in shared memory; logged where fewer.

    A batch that does not fit is dropped by torch, and waited for. Without workers nothing needs shared memory.
    """
    workers = args.dataloader_num_workers
    if not workers or not SHARED_MEMORY.is_dir():
        return workers
    companions = store.companions if isinstance(store, PairedStore) else 0
    shape = (store.store if isinstance(store, PairedStore) else store).shape
    images = max(batch_size * (1 + companions), args.per_device_eval_batch_size)
    batch = images * math.prod(shape[1:]) * (args.dataloader_prefetch_factor or _PREFETCHED)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fitting = min(workers, shutil.disk_usage(SHARED_MEMORY).free // (batch * processes))
    if fitting < workers:
        logger.warning(
            "%s has room for the batches of %d data workers in place of %d (docker run --shm-size gives it more)",
            *(SHARED_MEMORY, fitting, workers),
        )
    return fitting
