import numpy as np
import pytest
import torch

from hf_vipriors.data.columns import label_array
from hf_vipriors.errors import InputError
from hf_vipriors.training import DataArguments, StudentArguments, TeacherArguments
from hf_vipriors.training.load_images import load_images


def test_bf16_on_a_machine_without_an_accelerator_runs_on_its_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert TeacherArguments(output_dir=str(tmp_path), bf16=True).use_cpu
    assert not TeacherArguments(output_dir=str(tmp_path)).use_cpu


@pytest.mark.parametrize("option", [{"even_batches": False}, {"split_batches": True}])
def test_processes_never_hold_different_numbers_of_images(tmp_path, option):
    with pytest.raises(InputError, match="as many images on every process"):
        TeacherArguments(output_dir=str(tmp_path), use_cpu=True, accelerator_config=option)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"include_for_metrics": ["loss"]}, "include_for_metrics does nothing here"),
        ({"prediction_loss_only": True}, "prediction_loss_only does nothing here"),
        ({"label_names": ["label"]}, "label_names does nothing here"),
        ({"bf16_full_eval": True}, "bf16_full_eval does nothing here"),
        ({"eval_do_concat_batches": False}, "eval_do_concat_batches does nothing here"),
        ({"eval_accumulation_steps": 4}, "eval_accumulation_steps does nothing here"),
        ({"train_sampling_strategy": "batch_rebalance"}, "images have no lengths"),
        ({"train_sampling_strategy": "sequential"}, "train_sampling_strategy sequential: .* both at random"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_of_transformers_that_would_do_nothing_are_refused(tmp_path, option, words):
    with pytest.raises(InputError, match=words):
        StudentArguments(str(tmp_path), method="fixmatch", use_cpu=True, **option)


def test_images_may_be_trained_on_in_their_order(tmp_path):
    args = StudentArguments(str(tmp_path), method="supervised", use_cpu=True, train_sampling_strategy="sequential")
    assert args.train_sampling_strategy == "sequential"


def test_a_folder_alone_is_a_folder_of_images():
    assert DataArguments(data_dir="photos").dataset_name == "imagefolder"
    assert DataArguments(data_dir="photos", dataset_name="parquet").dataset_name == "parquet"
    assert DataArguments().dataset_name == "fashion-vipriors"


def test_labels_reach_the_reader_of_the_folder(photos, tmp_path):
    with pytest.raises(InputError, match="labels labels.csv needs data_dir"):
        DataArguments(labels="labels.csv")
    (tmp_path / "labels.csv").write_text("file_name,name\nunlabelled/0.png,red\ntrain/blue/0.png,red\n")
    given = DataArguments(data_dir=str(photos), labels=str(tmp_path / "labels.csv"), label_column="name")
    splits = load_images(given).splits
    assert len(splits["train"]) == 37 and len(splits["validation"]) == 12 and len(splits["unlabelled"]) == 9
    assert np.bincount(label_array(splits["train"])).tolist() == [11, 12, 14]


def test_what_was_read_is_said_before_it_is_refused_as_too_little(photos, tmp_path, caplog):
    (tmp_path / "labels.csv").write_text("file_name,label\nunlabelled/0.png,red\n")
    with caplog.at_level("INFO"), pytest.raises(InputError, match="images_per_class 99 is more"):
        load_images(DataArguments(data_dir=str(photos), labels=str(tmp_path / "labels.csv"), images_per_class=99))
    assert "labels of 1 rows" in caplog.text and "from their class folders: train 36" in caplog.text


def test_the_best_checkpoints_are_those_of_the_metric_of_the_job():
    args = StudentArguments(method="supervised", save_strategy="best", eval_strategy="steps", use_cpu=True)
    assert (args.metric_for_best_model, args.greater_is_better) == ("top1", True)
