"""What a model was trained on is kept beside it, by content, and goes nowhere else."""

import pytest
from datasets import concatenate_datasets

from hf_vipriors.cli.student import main as train_student
from hf_vipriors.data import load_splits
from hf_vipriors.training import trained_images
from hf_vipriors.training.finished_run import run_files
from hf_vipriors.training.run_files import TRAINED_FILE
from hf_vipriors.training.trained_images import Seen, seen_in_training


@pytest.fixture(scope="module")
def splits(photos):
    return load_splits("imagefolder", data_dir=str(photos)).splits


def test_a_student_knows_its_images_and_says_which_had_no_label(student_options, splits, tmp_path):
    options = [*student_options, "--method", "fixmatch", "--unlabelled_ratio", "1", "--max_steps", "1"]
    train_student([*options, "--save_strategy", "no", "--output_dir", str(tmp_path)])
    columns = ["image"]
    images = [splits[name].select_columns(columns) for name in ("train", "unlabelled", "test")]
    everything = concatenate_datasets(images)
    assert seen_in_training(tmp_path, everything, "all") == Seen(46, 10, 58)
    assert seen_in_training(tmp_path, splits["test"], "test") is None
    assert TRAINED_FILE not in run_files(tmp_path, "me/student").files
    assert (tmp_path / TRAINED_FILE).stat().st_size < 1000, "8 bytes an image"
    (tmp_path / TRAINED_FILE).write_bytes(b"spoilt")
    assert seen_in_training(tmp_path, everything, "all") is None


def test_a_teacher_has_seen_no_label(teacher_folder, splits):
    found = seen_in_training(teacher_folder, splits["train"], "train")
    assert found == Seen(36, 36, 36) and ", without labels: these" in found.words("teacher")


@pytest.mark.parametrize("most", [10, 20])
def test_of_many_images_nothing_is_kept(most, student_options, splits, tmp_path, monkeypatch):
    """Of 36 training images; 12 are scored."""
    monkeypatch.setattr(trained_images, "MOST_IMAGES", most)
    options = [*student_options, "--method", "supervised", "--max_steps", "1", "--save_strategy", "no"]
    train_student([*options, "--output_dir", str(tmp_path)])
    assert (tmp_path / TRAINED_FILE).exists() == (most == 20)
    assert seen_in_training(tmp_path, splits["train"], "train") is None
