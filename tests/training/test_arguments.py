import pytest
import torch

from hf_vipriors.errors import InputError
from hf_vipriors.training import DataArguments, TeacherArguments
from hf_vipriors.training.load_images import load_images


def test_bf16_on_a_machine_without_an_accelerator_runs_on_its_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert TeacherArguments(output_dir=str(tmp_path), bf16=True).use_cpu
    assert not TeacherArguments(output_dir=str(tmp_path)).use_cpu


@pytest.mark.parametrize("option", [{"even_batches": False}, {"split_batches": True}])
def test_processes_never_hold_different_numbers_of_images(tmp_path, option):
    with pytest.raises(InputError, match="as many images on every process"):
        TeacherArguments(output_dir=str(tmp_path), use_cpu=True, accelerator_config=option)


def test_a_folder_alone_is_a_folder_of_images():
    assert DataArguments(data_dir="photos").dataset_name == "imagefolder"
    assert DataArguments(data_dir="photos", dataset_name="parquet").dataset_name == "parquet"
    assert DataArguments().dataset_name == "fashion-vipriors"


def test_labels_reach_the_reader_of_the_folder(photos, tmp_path):
    with pytest.raises(InputError, match="labels labels.csv needs data_dir"):
        DataArguments(labels="labels.csv")
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted((photos / "train").rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,name", *rows[:-2]]))
    given = DataArguments(data_dir=str(photos), labels=str(tmp_path / "labels.csv"), label_column="name")
    splits = load_images(given).splits
    assert len(splits["train"]) + len(splits["validation"]) == 34 and len(splits["unlabelled"]) == 12
