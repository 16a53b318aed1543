"""From stores to batches: samplers, and data workers, of which none is waited for without end."""

from __future__ import annotations

import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer

from ..data import PairedSampler, PairedStore, collate, streamed_store
from ..data.image_store import Batch
from .arguments import RunArguments
from .stores import Store

logger = logging.getLogger(__name__)
SHARED_MEMORY = Path("/dev/shm")  # where workers hand over their batches; containers may have 64 MB, or less
_PREFETCHED = 2  # batches that torch lets each worker have ready


class LoadingTrainer(Trainer):
    """A ``Trainer`` that loads whole batches of a store, paired with unlabelled images where these are asked for.

    Its loaders end with an error where a worker that lives delivers nothing.
    """

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        store = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(store, PairedStore) and store.companions:
            return PairedSampler(store, self.args.seed if self.args.data_seed is None else self.args.data_seed)
        return super()._get_train_sampler(train_dataset)

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


def collate_batch(batch: Batch) -> dict[str, Any]:
    """The batch, and how many images have a label, where these come first: counted while the labels lie in memory."""
    known = batch["labels"] >= 0
    labelled = int(known.sum())
    return {**collate(batch), "labelled": labelled if known[:labelled].all() else None}
