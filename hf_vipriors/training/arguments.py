"""What can be set of all runs, as a dataclass on top of ``transformers.TrainingArguments``."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import torch
from transformers import SchedulerType, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.training_args import OptimizerNames

from ..errors import InputError, check_choice, one_line
from ..methods import METHODS, methods_of
from ..options import LEARNING_RATE, SEED, Bounds, check_options, option, parse_time_limit
from .sharding import check_sharding, is_sharded

logger = logging.getLogger(__name__)
# Options whose values transformers keeps in an enum; its own error would be a traceback.
ENUMS: dict[str, type[Enum]] = {
    "optim": OptimizerNames,
    "lr_scheduler_type": SchedulerType,
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
}
# Where to look, save or log: a step of 0 would never come.
STEPS = Bounds(0, open_low=True)
# Of transformers' own options; what has no line here may be any finite number.
INHERITED = {
    "num_train_epochs": Bounds(0),
    "per_device_train_batch_size": Bounds(0),
    "max_steps": Bounds(-1),
    "weight_decay": Bounds(0, 100),
    "warmup_steps": Bounds(0),
    "adam_beta1": Bounds(0, 0.999999),
    "adam_beta2": Bounds(0, 0.999999),
    "adam_epsilon": Bounds(0, 1, open_low=True),  # at 0 a gradient of 0 becomes NaN
    "gradient_accumulation_steps": Bounds(1),
    "torch_empty_cache_steps": Bounds(1),
    "eval_delay": Bounds(0),
    "seed": SEED,
    "data_seed": SEED,
    "dataloader_prefetch_factor": Bounds(1),
    "ddp_bucket_cap_mb": Bounds(1),
    "ddp_timeout": Bounds(1),
    "local_rank": Bounds(-1),
}

# Options of the evaluation of transformers, in place of which ours is called, and their defaults.
OF_ANOTHER_LOOP: dict[str, Any] = {
    "include_for_metrics": [],
    "prediction_loss_only": False,
    "label_names": None,
    "bf16_full_eval": False,
    "fp16_full_eval": False,
    "eval_do_concat_batches": True,
    "eval_accumulation_steps": None,
}
# Of a training beside another one: no checkpoints, trackers, bar or remarks, and nothing measured on its way.
WITHOUT_TRACES: dict[str, Any] = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "trackio_space_id": None,
    "disable_tqdm": True,
    "push_to_hub": False,
    "guards": False,
}


def _word(value: Enum | str) -> str:
    return value.value if isinstance(value, Enum) else value


@dataclass
class RunArguments(TrainingArguments):
    """What both phases share. Defaults that differ from ``TrainingArguments``, and why:

    - ``learning_rate`` None: ``base_learning_rate`` times the global batch / 256, so that a recipe holds for any
      number of processes.
    - ``lr_scheduler_type`` cosine, ``max_grad_norm`` 0 (the papers do not clip).
    - ``logging_steps`` 0.02, ``eval_steps`` 0.1, ``save_steps`` 0.1: shares of the run, so that short and long runs
      both have curves. ``save_total_limit`` 2.
    - ``dataloader_num_workers`` None: none for images in memory; for streamed ones as many as decode beside each other
      (see :mod:`hf_vipriors.training.resolve`). Their number changes no result.
    - ``accelerator_config`` non_blocking: on a GPU a batch is copied from pinned memory beside the step before.
    - ``remove_unused_columns`` False: the image is a column that the Trainer would remove.
    - ``logging_nan_inf_filter`` False: it reads the loss back from the device after every step, and hides a NaN. Ours
      ends the training at the next log.
    - ``ddp_broadcast_buffers`` False: queues are equal on every process by construction, and a broadcast in the middle
      of a step breaks backward.
    - ``log_level_replica`` error: what libraries warn of is said once, by the main process.
    """

    learning_rate: float | None = option(
        None,
        "Peak learning rate, taken as it is. Not given: base_learning_rate x global batch / 256.",
        bounds=LEARNING_RATE,
    )
    base_learning_rate: float | None = option(
        None, "Learning rate per 256 images; each method has its default.", bounds=LEARNING_RATE
    )
    sgd_momentum: float = option(0.9, "Momentum of --optim sgd.", low=0, high=1)
    nesterov: bool = option(False, "Nesterov momentum for --optim sgd.")
    decay_norm_and_bias: bool = option(
        False, "Weight decay on every parameter, norms and biases too, as the papers' programs have it."
    )
    lr_milestones: list[float] = option(
        [], "Divide the learning rate by 10 at these epochs instead of --lr_scheduler_type (30 60 90).", low=0
    )
    time_limit: str | None = option(
        None,
        "The whole run, evaluated and saved, ends within this time: 30m, 1h30m, 90s. As many epochs as fit by the "
        "speed of the first steps, at most those that it would have without a limit.",
    )
    overwrite_output_dir: bool = option(False, "Replace the run that --output_dir holds.")
    guards: bool = option(
        True, "Say in one line what goes wrong: collapse, a loss at chance, a leak, too few images, overfitting."
    )

    default_batch: ClassVar[int] = 64
    best_metric: ClassVar[str]  # what a checkpoint or a trial is chosen by where nothing is said

    lr_scheduler_type: str = option("cosine", "Schedule of the learning rate after warm-up (any of transformers').")
    max_grad_norm: float = option(0.0, "Clip gradients to this norm; 0: no clipping, as in the papers.", low=0)
    logging_steps: float = option(0.02, "Log every N steps, or every share of the run when below 1.", bounds=STEPS)
    eval_strategy: str = option("steps", "When to evaluate on validation: no, steps, epoch.")
    eval_steps: float | None = option(
        0.1, "Evaluate every N steps, or every share of the run when below 1.", bounds=STEPS
    )
    save_steps: float = option(
        0.1, "Save a checkpoint every N steps, or every share of the run when below 1.", bounds=STEPS
    )
    save_total_limit: int | None = option(2, "Keep the newest N checkpoints.", low=1)
    logging_nan_inf_filter: bool = option(False, "Log the mean of earlier losses in the place of a NaN, and go on.")
    per_device_eval_batch_size: int = option(128, "Images evaluated at once on each device.", low=1)
    dataloader_num_workers: int | None = option(
        None,
        "Processes that decode streamed images; not given: up to 8, by the cores. Images in memory need none.",
        low=0,
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: images are a column."})
    ddp_broadcast_buffers: bool | None = field(default=False, metadata={"help": "See the class."})
    log_level_replica: str = option("error", "What processes other than the main one log of transformers.")

    def __post_init__(self) -> None:
        best = self.load_best_model_at_end or _word(self.save_strategy) == "best"
        if best and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = self.best_metric, True
        check_options(self, INHERITED)
        if self.max_steps == 0:
            raise InputError("--max_steps 0 trains nothing: give at least 1, or -1 to count --num_train_epochs")
        if self.num_train_epochs == 0 and self.max_steps < 0:
            raise InputError("--num_train_epochs 0 trains nothing: give more than 0, or --max_steps")
        for name, kind in ENUMS.items():
            check_choice(_word(getattr(self, name)), [member.value for member in kind], name)
        copies_are_automatic = self.accelerator_config is None
        if self.bf16 and not torch.accelerator.is_available():
            self.use_cpu = True  # bf16 works there; transformers refuses it until it is told so
        workers = self.dataloader_num_workers
        self.dataloader_num_workers = workers or 0  # transformers compares it with numbers
        try:
            super().__post_init__()
        except ValueError as error:  # its own checks of combinations
            raise InputError(one_line(error, None)) from None
        self.dataloader_num_workers = workers
        if copies_are_automatic:
            self.accelerator_config.non_blocking = self.dataloader_pin_memory
        if self.n_gpu > 1:
            # Several GPUs in one process would become nn.DataParallel, whose replicas have no queue of their own.
            logger.warning("one process uses one GPU; for all of them: accelerate launch --multi_gpu")
            self._n_gpu = 1
        if self.activation_checkpointing or self.gradient_checkpointing:  # each sets the other
            raise InputError(
                "--activation_checkpointing, --gradient_checkpointing: timm backbones here do not support it; lower "
                "the batch"
            )
        if not self.accelerator_config.even_batches or self.accelerator_config.split_batches:
            raise InputError(
                "--accelerator_config: even_batches must stay true and split_batches false; in-batch negatives and "
                "queues need as many images on every process"
            )
        check_sharding(self)
        if self.label_smoothing_factor:
            raise InputError("--label_smoothing_factor does not reach the methods: use --label_smoothing (students)")
        if self.neftune_noise_alpha is not None:
            raise InputError(
                "--neftune_noise_alpha is noise on the embeddings of words: images have none, leave it out"
            )
        if self.batch_eval_metrics:
            raise InputError("--batch_eval_metrics: compute_metrics gets all predictions at once; leave it out")
        for name, default in OF_ANOTHER_LOOP.items():
            if vars(self)[name] != default:
                raise InputError(f"--{name} does nothing here: evaluate() and predict() have a loop of their own")
        if (drawn := _word(self.train_sampling_strategy)) in ("group_by_length", "batch_rebalance"):
            raise InputError(f"--train_sampling_strategy {drawn}: images have no lengths; leave it out")
        for tracker in self.report_to:
            if tracker not in get_available_reporting_integrations():
                raise InputError(f"--report_to {tracker!r}: no such tracker is installed (pip install it)")
        if self.trackio_space_id is not None and "trackio" not in self.report_to:
            raise InputError(
                "--trackio_space_id does nothing without --report_to trackio: add it, or leave the Space out"
            )
        if str(self.trackio_static_space_id).lower() == "false":  # the word, which would name a Space
            self.trackio_static_space_id = False
        if _word(self.optim) == "sgd" and self.nesterov and self.sgd_momentum == 0:
            raise InputError("--nesterov needs --sgd_momentum > 0 (or give --nesterov false)")
        if self.push_to_hub and self.hub_model_id is None:
            raise InputError("--push_to_hub needs --hub_model_id org/name: where is the result to go?")
        if self.push_to_hub and "checkpoint" in _word(self.hub_strategy):
            raise InputError("--hub_strategy: checkpoints hold pickles and stay here; only the result is pushed")
        if self.time_limit is not None:
            parse_time_limit(self.time_limit)
            if is_sharded(self):
                raise InputError("--time_limit tries some steps first, which FSDP would shard: leave one of them out")
        if self.lr_milestones != sorted(self.lr_milestones):
            raise InputError(f"--lr_milestones must rise, got {self.lr_milestones}")

    def check_method(self, job: str) -> None:
        """Hold the combination of options against the method; nothing is filled in.

        Args:
            job: whose methods these arguments are for.

        Raises:
            InputError: naming the option.
        """
        check_choice(self.method, methods_of(job), "method")
        if self.harmonic_level is not None and self.harmonic is None:
            raise InputError("--harmonic_level does nothing without --harmonic batch_norm or weights")
        method, complete = METHODS[self.method], copy.copy(self)
        for name, default in method.defaults(self).items():
            setattr(complete, name, default.value)
        method.check(complete)
        paired = job == "student" and vars(complete)["unlabelled_ratio"]
        if paired and _word(self.train_sampling_strategy) != "random":
            raise InputError(
                f"--train_sampling_strategy {_word(self.train_sampling_strategy)}: images without labels are drawn "
                "beside the labelled ones, both at random; leave it out"
            )

    @property
    def default_base_learning_rate(self) -> float:
        """Per 256 images, where neither rate was given: 0.1 for SGD [2008.00261], 1e-3 for the Adam family."""
        return 0.1 if _word(self.optim) == "sgd" else 1e-3

    @property
    def step_images(self) -> int:
        """Images that meet in one forward pass, over all processes: the negatives of in-batch methods."""
        return self.train_batch_size * self.world_size

    def steps_per_epoch(self, images: int) -> int:
        """Optimizer steps in one pass over ``images``, as the Trainer counts them."""
        batches = images / self.step_images
        batches = math.floor(batches) if self.dataloader_drop_last else math.ceil(batches)
        return max(1, math.ceil(batches / self.gradient_accumulation_steps))

    @property
    def global_batch(self) -> int:
        """Images per optimizer step, over all processes and accumulation steps."""
        return self.step_images * self.gradient_accumulation_steps
