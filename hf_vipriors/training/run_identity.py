"""Which options do not change what a run measures, and which may change on the way: for all who compare settings."""

from __future__ import annotations

from typing import Any

from ..methods import METHODS, method_options

# Where a run and decoded images are written, what is shown and sent, how often it looks, how images reach the network.
_NO_INFLUENCE = {
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "run_name", "project", "report_to", "disable_tqdm",
    "guards", "do_train", "do_eval", "do_predict", "push_to_hub", "local_rank", "debug", "skip_memory_metrics",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "ddp_timeout", "eval_strategy", "eval_steps", "store", "time_limit",
}  # fmt: skip
_PREFIXES = ("hub_", "logging_", "log_", "save_", "trackio_")
# How long a run is, what follows its last step, what it is measured by, which machine computes it, in which precision.
_MAY_CHANGE = {
    "num_train_epochs", "max_steps", "propagate_labels",
    "per_device_eval_batch_size", "knn_neighbours", "corruptions", "load_best_model_at_end", "metric_for_best_model",
    "greater_is_better", "prediction_loss_only", "include_for_metrics", "batch_eval_metrics",
    "use_cpu", "bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "full_determinism", "accelerator_config",
    "deepspeed", "parallelism_config", "ignore_data_skip", "restore_callback_states_from_checkpoint",
    "enable_jit_checkpoint", "dataloader_in_order", "dataloader_multiprocessing_context", "auto_find_batch_size",
}  # fmt: skip
# Options that say how long a run is, and others that are counted in its epochs.
LENGTH = ("num_train_epochs", "max_steps")
IN_EPOCHS = ("lr_milestones", "distil_from_epoch", "head_epochs")
_MAY_CHANGE_PREFIXES = ("eval_", "fsdp", "ddp_", "torch_")


def scaled_epochs(args: Any, share: float) -> dict[str, Any]:
    """Options counted in epochs that a run reads, with their values in one that is ``share`` times as long.

    Example:
        >>> from hf_vipriors.training import StudentArguments
        >>> args = StudentArguments(method="supervised", lr_milestones=[60, 90], use_cpu=True)
        >>> scaled_epochs(args, 0.5)
        {'lr_milestones': [30.0, 45.0]}
    """
    read = {*method_options(METHODS[args.method]), "lr_milestones"}
    values = {name: vars(args)[name] for name in IN_EPOCHS if name in read and vars(args).get(name)}
    return {
        name: [each * share for each in value] if isinstance(value, list) else value * share
        for name, value in values.items()
    }


def influences(option: str) -> bool:
    """Whether an option of ours or of ``transformers.TrainingArguments`` may change the figures of a run.

    Example:
        >>> influences("learning_rate"), influences("logging_steps"), influences("dataloader_num_workers")
        (True, False, False)
    """
    return option not in _NO_INFLUENCE and not option.startswith(_PREFIXES)


def may_change(option: str) -> bool:
    """Whether a run that is resumed may have another value of an option that influences its figures.

    Example:
        >>> may_change("num_train_epochs"), may_change("bf16"), may_change("learning_rate"), may_change("mixup")
        (True, True, False, False)
    """
    return option in _MAY_CHANGE or option.startswith(_MAY_CHANGE_PREFIXES)
