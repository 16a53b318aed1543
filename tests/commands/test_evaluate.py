import json

import pytest

from hf_vipriors.commands import evaluate, train_student


@pytest.fixture(scope="module")
def students(photos, teacher_folder, tmp_path_factory):
    """Two students that know something, of different quality."""
    root = tmp_path_factory.mktemp("students")
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos), "--use_cpu", "--disable_tqdm", "true"]
    for name, epochs in (("long", "12"), ("short", "1")):
        options = ["--method", "supervised", "--teacher", str(teacher_folder), "--num_train_epochs", epochs]
        options += ["--per_device_train_batch_size", "6", "--learning_rate", "0.05", "--save_strategy", "no"]
        train_student.main([*data, *options, "--output_dir", str(root / name)])
    return root


def scores(photos, tmp_path, *options):
    output = tmp_path / "new" / "scores.json"
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos), "--device", "cpu"]
    evaluate.main([*data, *options, "--output", str(output)])
    return json.loads(output.read_text())["scores"]


def test_scores_students_and_their_ensemble(students, photos, tmp_path, capsys):
    models = [str(students / "long"), str(students / "short")]
    found = scores(photos, tmp_path, "--model", *models)
    assert set(found) == {*models, "ensemble of 2"}
    for model in models:
        assert set(found[model]) == {"top-1", "kNN", "linear"}
        recorded = json.loads((students / model / "metrics.json").read_text())["test"]
        assert found[model]["top-1"]["top1"] == recorded["top1"], "scored again as when it was trained"
        low, high = found[model]["top-1"]["interval"]
        assert low <= found[model]["top-1"]["top1"] <= high
    shown = capsys.readouterr().out
    assert "Scores on test" in shown and "ensemble" in shown and "green" in shown


def test_ten_crop_on_validation(students, photos, tmp_path):
    options = ["--ten_crop", "--split", "validation", "--no_knn", "--no_linear"]
    found = scores(photos, tmp_path, "--model", str(students / "long"), *options)
    (kinds,) = found.values()
    assert set(kinds) == {"ten-crop top-1"} and kinds["ten-crop top-1"]["count"] == 12


def test_a_teacher_is_scored_by_its_features(teacher_folder, photos, tmp_path):
    found = scores(photos, tmp_path, "--model", str(teacher_folder))
    assert set(found[str(teacher_folder)]) == {"kNN", "linear"}
