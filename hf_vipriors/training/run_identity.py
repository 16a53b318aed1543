"""Which options do not change what a run measures: one list for all who compare settings."""

from __future__ import annotations

# Where a run and decoded images are written, what is shown and sent, how often it looks, how images reach the network.
_NO_INFLUENCE = {
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "run_name", "project", "report_to", "disable_tqdm",
    "guards", "do_train", "do_eval", "do_predict", "push_to_hub", "local_rank", "debug", "skip_memory_metrics",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "ddp_timeout", "eval_strategy", "eval_steps", "store",
}  # fmt: skip
_PREFIXES = ("hub_", "logging_", "log_", "save_", "trackio_")


def influences(option: str) -> bool:
    """Whether an option of ours or of ``transformers.TrainingArguments`` may change the figures of a run.

    Example:
        >>> influences("learning_rate"), influences("logging_steps"), influences("dataloader_num_workers")
        (True, False, False)
    """
    return option not in _NO_INFLUENCE and not option.startswith(_PREFIXES)
