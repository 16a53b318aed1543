from dataclasses import fields

from hf_vipriors.training import DataArguments, PretrainArguments, StudentArguments, TeacherArguments
from hf_vipriors.training.run_identity import _NO_INFLUENCE, _PREFIXES, influences

KINDS = (DataArguments, PretrainArguments, StudentArguments, TeacherArguments)
OPTIONS = {field.name for kind in KINDS for field in fields(kind)}


def test_every_name_and_prefix_is_of_an_option():
    assert not _NO_INFLUENCE - OPTIONS
    assert all(any(name.startswith(prefix) for name in OPTIONS) for prefix in _PREFIXES)


def test_what_decides_a_result_is_never_left_out():
    deciding = {
        "seed", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "bf16", "fp16",
        "optim", "weight_decay", "gradient_accumulation_steps", "method", "temperature", "margin", "mixup", "cutmix",
        "ema_decay", "crop_scale", "image_size", "unlabelled_ratio", "label_smoothing_factor", "warmup_steps",
        "max_grad_norm", "full_determinism", "teacher", "trials", "dataloader_drop_last",
    }  # fmt: skip
    assert all(influences(name) for name in deciding)
