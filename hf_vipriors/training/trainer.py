"""``transformers.Trainer`` with views, named loss parts and honest checkpoints, for every method."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import broadcast
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..data import PairedSampler, PairedStore, collate
from ..data.image_store import Batch
from ..errors import InputError
from ..methods import Method
from .arguments import RunArguments
from .callbacks import ProgressBar, StepHooks
from .checkpoints import read_method_state, write_method_state
from .freed_memory import freed_memory_kept
from .guards import Guards
from .optimizer import begin_momentum, follow_layout, optimizer_class, split_by_rate
from .resumable import ResumableTrainer
from .sharding import ShardedTrainer, whole

logger = logging.getLogger(__name__)
ARGUMENTS = "training_args.json"


class MethodTrainer(ResumableTrainer, ShardedTrainer):
    """Trains a :class:`hf_vipriors.methods.Method` on an image store.

    What it adds to ``Trainer``: views are made on the device, from a generator seeded by (seed, step, process), so
    that a view depends on nothing that ran before; named loss parts are averaged over the logging window and over
    processes; moving averages move once per optimizer step; checkpoints hold the method's whole state as safetensors
    and nothing pickled but the optimizer's tensors.

    Args:
        method: the module to train; its ``deployable()`` is evaluated.
        args: a :class:`RunArguments`.
        train_store: uint8 images with labels and index.
        views: module that turns a uint8 batch and a generator into a list of normalised views.
        evaluation_store: validation images, cropped as evaluation wants them.
        class_names: names of the classes, in order.
    """

    loss_is_scaled_for_ga = False  # the losses are means over the micro-batch

    def __init__(
        self,
        method: Method,
        args: RunArguments,
        *,
        train_store: Dataset,
        views: nn.Module,
        evaluation_store: Dataset | None,
        class_names: list[str],
    ):
        self.class_names = class_names
        if args.learning_rate is None:
            logger.info(args.settle_learning_rate(args.default_base_learning_rate))
        self._micro_step = 0
        self._window = (time.perf_counter(), 0)
        super().__init__(
            # As the views are: convolutions then reorder no kernel in each pass.
            model=method.to(memory_format=torch.channels_last),
            args=args,
            data_collator=counted,
            train_dataset=train_store,
            eval_dataset=evaluation_store,
            callbacks=[StepHooks(self._begin_training, self._begin_step)],
        )
        self.views = views.to(args.device)
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        chance = method.chance_level(args.step_images)
        if not args.disable_tqdm:
            self.add_callback(ProgressBar(chance))
        self.guards = Guards(
            args,
            classes=max(1, len(class_names)),
            validation_images=0 if evaluation_store is None else len(evaluation_store),
            chance=chance,
        )
        if args.guards:
            self.add_callback(self.guards)

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any):
        with freed_memory_kept(self.args.device):
            return super().train(resume_from_checkpoint, **options)

    # One step

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        generator = torch.Generator().manual_seed(self._view_seed())
        self._micro_step += 1
        images = inputs.pop("pixel_values")
        return {"views": self.views(images, generator), **inputs}

    def _begin_training(self) -> None:
        if self.args.guards:
            with torch.random.fork_rng(devices=[]):  # what is looked at changes nothing that is drawn
                self.look_at_data()
        self._window = (time.perf_counter(), self.state.global_step)

    def look_at_data(self) -> None:
        """What the guards want to know before the first step."""
        validation = None if self.eval_dataset is None else self.eval_dataset.labels
        self.guards.count_images(None, validation, self.class_names)

    def _begin_step(self) -> None:
        self._micro_step = 0

    def _view_seed(self) -> int:
        """One number for (seed, step, micro-step, process): SplitMix64's constants keep neighbours apart."""
        mixed = self.args.seed
        for part in (self.state.global_step, self._micro_step, self.args.process_index):
            mixed = (mixed * 0x9E3779B97F4A7C15 + part + 0xBF58476D1CE4E5B9) % 2**64
            mixed ^= mixed >> 31
        return mixed % 2**63

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name, part in outputs.parts.items():
            self._parts[name].append(part.detach())
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _get_grad_norm(self, model, grad_norm=None):
        """None where this step is not logged: without clipping nobody else wants it, and it takes its time."""
        unseen = self.args.logging_strategy == "steps" and (self.state.global_step + 1) % self.state.logging_steps
        return None if grad_norm is None and unseen else super()._get_grad_norm(model, grad_norm)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        store = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(store, PairedStore):
            return PairedSampler(store, self.args.seed if self.args.data_seed is None else self.args.data_seed)
        return super()._get_train_sampler(train_dataset)

    # Optimizer and schedule

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: RunArguments, model: nn.Module | None = None) -> tuple[Any, Any]:
        return optimizer_class(args, model)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices and kernels; every parameter with ``decay_norm_and_bias``, as in the papers' programs."""
        return [n for n, p in model.named_parameters() if p.ndim > 1 or self.args.decay_norm_and_bias]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer; what has a learning rate of its own in the method becomes a group of its own."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        split_by_rate(optimizer, self.model)
        optimizer.register_load_state_dict_post_hook(follow_layout)
        if isinstance(optimizer, torch.optim.SGD):
            optimizer.register_step_pre_hook(begin_momentum)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.args.lr_milestones and self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            steps_per_epoch = self.args.steps_per_epoch(len(self.train_dataset))
            milestones = [epoch * steps_per_epoch for epoch in self.args.lr_milestones]

            def factor(step: int) -> float:
                return min(1.0, (step + 1) / (warmup + 1)) * 0.1 ** sum(step >= m for m in milestones)

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not math.isfinite(logs.get("loss", 0.0)) and not self.args.fp16:  # under fp16 the scaler skips such steps
            self.diverged(logs["loss"])
        if "loss" in logs and self._parts:
            logs.update(self._window_parts())
            now, (then, step) = time.perf_counter(), self._window
            logs["images_per_second"] = (self.state.global_step - step) * self.args.global_batch / (now - then)
            self._window = (now, self.state.global_step)
        super().log(logs, start_time)

    def diverged(self, loss: float) -> None:
        """What becomes of a training whose loss is no number: its weights are none either, and stay so.

        Raises:
            InputError: always.
        """
        wrong = sorted(name for name, values in self._parts.items() if not torch.stack(values).isfinite().all())
        raise InputError(
            f"the loss is {loss} at step {self.state.global_step} (not finite: {', '.join(wrong) or 'none here'}): "
            f"the training has diverged; lower --learning_rate ({self.args.learning_rate:g}), or look for NaN in the "
            f"teacher; {self.way_back()}"
        )

    def _window_parts(self) -> dict[str, float]:
        """Mean of each part since the last log, over all processes. Every process must call it."""
        names = sorted(self._parts)
        means = torch.stack([torch.stack(self._parts[name]).float().mean() for name in names])
        self._parts.clear()
        return dict(zip(names, self.accelerator.reduce(means, reduction="mean").tolist(), strict=True))

    # Checkpoints

    def init_hf_repo(self, token: str | None = None) -> None:
        """Nothing yet: a command pushes the finished result, whole and with its card, in one commit."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: optimizer states are pickles, and half a training is no model."""

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The method's whole state and the arguments in words; nothing pickled."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_method_state(self.model, state_dict or self.model.state_dict(), folder)
        told = {**self.args.to_dict(), "global_batch": self.args.global_batch}
        (folder / ARGUMENTS).write_text(json.dumps(told, indent=2, default=str) + "\n")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self.is_fsdp_enabled:  # else it was read before it was sharded
            read_method_state(model or self.model, resume_from_checkpoint)

    def begin(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self._compare_batch(Path(checkpoint))
            if self.is_fsdp_enabled:
                read_method_state(self.model, checkpoint)
        self.start_alike()

    def _compare_batch(self, checkpoint: Path) -> None:
        """Say it when a checkpoint counts in steps of another size, as on another number of processes."""
        file = checkpoint / ARGUMENTS
        theirs = json.loads(file.read_text()).get("global_batch") if file.is_file() else None
        if theirs not in (None, self.args.global_batch):
            forwards = self.args.world_size * self.args.gradient_accumulation_steps
            logger.warning(
                "%s took steps of %d images, this run takes %d: its step count and learning rate go on all the same; "
                "--per_device_train_batch_size %g would keep the steps as they were",
                *(checkpoint, theirs, self.args.global_batch, theirs / forwards),
            )

    # Evaluation

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        start = time.perf_counter()
        if self.args.world_size > 1:
            # Each process has batch-norm statistics of its own; what is measured, and saved, are the main process's.
            for model in self.model.evaluated().values():
                for buffer in model.buffers():
                    broadcast(buffer, src=0)
        metrics = self.measure(eval_dataset or self.eval_dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        metrics[f"{metric_key_prefix}_runtime"] = time.perf_counter() - start
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        # The pause is no training time: images per second would sag after each evaluation.
        self._window = (self._window[0] + time.perf_counter() - start, self._window[1])
        return metrics

    def evaluated(self) -> dict[str, PreTrainedModel]:
        """The method's ``evaluated()``, whole where they are sharded. Every process must call it."""
        models = self.model.evaluated()
        return {prefix: whole(model) for prefix, model in models.items()} if self.is_fsdp_enabled else models

    def measure(self, store: Dataset) -> dict[str, float]:
        """The figures of one evaluation, by name."""
        raise TypeError(f"{type(self).__name__} must define measure()")

    def _pass_options(self) -> dict[str, Any]:
        return {
            "batch_size": self.args.per_device_eval_batch_size,
            "device": self.args.device,
            "accelerator": self.accelerator if self.args.world_size > 1 else None,
            "workers": self.args.dataloader_num_workers,
        }


def counted(batch: Batch) -> dict[str, Any]:
    """The batch, and how many images have a label, where these come first: counted while the labels lie in memory."""
    known = batch["labels"] >= 0
    labelled = int(known.sum())
    return {**collate(batch), "labelled": labelled if known[:labelled].all() else None}
