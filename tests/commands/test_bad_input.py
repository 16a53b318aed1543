"""A user's mistake: one line that says what, where and how to mend it, exit code 2, nothing written."""

import json
import shutil

import pytest

from hf_vipriors.commands import evaluate, train_student, train_teacher
from hf_vipriors.errors import InputError


@pytest.fixture
def refused(capsys, tmp_path):
    """Run a command that must refuse; gives back its one line."""

    def run(main, options, *, output=True):
        folder = tmp_path / "never_written"
        with pytest.raises(SystemExit) as stop:
            main([*options, *(["--output_dir", str(folder)] if output else [])])
        assert stop.value.code == 2
        assert not folder.exists(), "nothing may be left half-written"
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        return lines[0]

    return run


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--data_dir", "no/such/folder"], ["no/such/folder"]),
        (["--images_per_class", "40"], ["images_per_class", "12"]),
        (["--backbone", "resnet81"], ["resnet81", "resnet18"]),
        (["--backbone_args", "{stem"], ["backbone_args", "JSON"]),
        (["--backbone_args", '{"no_such_argument": 1}'], ["no_such_argument"]),
        (["--queue_length", "46"], ["queue_length", "46"]),
        (["--queue_length", "4096"], ["4096", "data set"]),
        (["--per_device_train_batch_size", "64"], ["batch of 64", "46 images"]),
        (["--method", "mocoo"], ["mocoo", "moco"]),
        (["--temperature", "0"], ["temperature"]),
        (["--margin", "abc"], ["margin", "abc"]),
        (["--crop_scale", "0.5"], ["crop_scale"]),
        (["--learning_rat", "0.1"], ["learning_rat", "learning_rate"]),
        (["--config", "missing.yaml"], ["missing.yaml"]),
        (["--label_column", "lable"], ["lable"]),
        (["--resume_from_checkpoint", "true"], ["resume"]),
        (["--label_smoothing_factor", "0.1"], ["label_smoothing"]),
        (["--backbone_args", '{"in_chans": 1}'], ["in_chans", "three"]),
        (["--knn_neighbours", "0"], ["knn_neighbours"]),
        (["--batchnorm_splits", "0"], ["batchnorm_splits"]),
        (["--activation_checkpointing"], ["activation_checkpointing"]),
        (["--report_to", "tracker_of_mine"], ["tracker_of_mine"]),
    ],
)
def test_teacher_refuses(refused, teacher_options, change, words):
    line = refused(train_teacher.main, [*teacher_options, *change])
    assert all(word in line for word in words), line


def test_one_class_only(refused, teacher_options, photos, tmp_path):
    shutil.copytree(photos / "train" / "red", tmp_path / "one" / "train" / "red")
    line = refused(train_teacher.main, [*teacher_options, "--data_dir", str(tmp_path / "one")])
    assert "class" in line and "red" in line


def test_unreadable_image_is_named_or_skipped(refused, teacher_options, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    broken = tmp_path / "photos" / "train" / "red" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    options = [*teacher_options, "--data_dir", str(tmp_path / "photos")]
    assert "red/0.png" in refused(train_teacher.main, options)
    folder = tmp_path / "skipping"
    train_teacher.main([*options, "--on_bad_image", "skip", "--max_steps", "2", "--output_dir", str(folder)])
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], ["--teacher"]),
        (["--teacher", "no/such/teacher"], ["no/such/teacher"]),
        (["--method", "supervised", "--mixup", "-1"], ["mixup"]),
        (["--method", "supervised", "--auto_augment", "cifar"], ["auto_augment", "cifar10"]),
        (["--method", "supervised", "--student_init", "teacher"], ["student_init"]),
        (["--method", "supervised", "--student_init", "teachr"], ["student_init", "teachr"]),
        (["--method", "supervised", "--backbone_args", '{"in_chans": 1}'], ["in_chans"]),
        (["--method", "supervised", "--sgd_momentum", "0"], ["nesterov"]),
        (["--method", "supervised", "--lr_milestones", "3", "1"], ["lr_milestones"]),
    ],
)
def test_student_refuses(refused, student_options, change, words):
    line = refused(train_student.main, [*student_options, *change])
    assert all(word in line for word in words), line


def test_student_needs_labels(refused, student_options, photos, tmp_path):
    shutil.copytree(photos / "unlabelled", tmp_path / "pool" / "unlabelled")
    options = [*student_options, "--data_dir", str(tmp_path / "pool"), "--method", "supervised"]
    assert "label" in refused(train_student.main, options)


def test_teacher_of_another_network_cannot_start_the_student(refused, student_options, teacher_folder):
    options = [*student_options, "--teacher", str(teacher_folder), "--student_init", "teacher"]
    line = refused(train_student.main, [*options, "--backbone", "resnet34", "--backbone_args", "{}"])
    assert "does not fit" in line


def test_teacher_whose_class_count_does_not_fit(refused, student_options, photos, tmp_path):
    first = tmp_path / "three"
    train_student.main([*student_options, "--method", "supervised", "--max_steps", "1", "--output_dir", str(first)])
    for split in ("train", "validation", "test"):
        for name in ("red", "green"):
            shutil.copytree(photos / split / name, tmp_path / "two" / split / name)
    line = refused(
        train_student.main, [*student_options, "--data_dir", str(tmp_path / "two"), "--teacher", str(first)]
    )
    assert "3 classes" in line and "has 2" in line


def test_damaged_teacher(refused, student_options, teacher_folder, tmp_path):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher_folder, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(copy) in refused(train_student.main, [*student_options, "--teacher", str(copy)])


def test_folder_that_holds_another_run_is_kept(teacher_options, teacher_folder, capsys, tmp_path):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher_folder, copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        train_teacher.main([*teacher_options, "--output_dir", str(copy)])
    assert stop.value.code == 2 and "--overwrite_output_dir" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    (copy / "notes.txt").write_text("mine")
    options = [*teacher_options, "--seed", "7", "--max_steps", "2", "--overwrite_output_dir"]
    train_teacher.main([*options, "--output_dir", str(copy)])
    assert (copy / "notes.txt").read_text() == "mine"
    assert json.loads((copy / "run.json").read_text())["arguments"]["seed"] == 7


@pytest.mark.parametrize("wish", ["false", "ELSEWHERE"])
def test_resumption_is_no_way_round_the_guard(teacher_options, teacher_folder, tmp_path, capsys, wish):
    copy, elsewhere = tmp_path / "teacher", tmp_path / "elsewhere"
    shutil.copytree(teacher_folder, copy)
    shutil.copytree(teacher_folder, elsewhere)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    wish = str(next(elsewhere.glob("checkpoint-*"))) if wish == "ELSEWHERE" else wish
    with pytest.raises(SystemExit) as stop:
        train_teacher.main([*teacher_options, "--output_dir", str(copy), "--resume_from_checkpoint", wish])
    assert stop.value.code == 2 and "--overwrite_output_dir" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_checkpoint_of_another_run_is_refused_before_anything_is_written(
    teacher_options, teacher_folder, tmp_path, capsys
):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher_folder, copy)
    before = (copy / "run.json").read_bytes()
    options = [*teacher_options, "--projector_dim", "9", "--resume_from_checkpoint", "true"]
    with pytest.raises(SystemExit) as stop:
        train_teacher.main([*options, "--output_dir", str(copy)])
    assert stop.value.code == 2 and "another run" in capsys.readouterr().err
    assert (copy / "run.json").read_bytes() == before


def test_torn_checkpoint_is_passed_over(teacher_options, teacher_folder, tmp_path, caplog):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher_folder, copy)
    old, new = sorted(copy.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (new / "trainer_state.json").unlink()
    from hf_vipriors.commands.wiring import resume_point
    from hf_vipriors.training import TeacherArguments

    args = TeacherArguments(output_dir=str(copy), resume_from_checkpoint="true", use_cpu=True)
    assert resume_point(args) == str(old)
    args.resume_from_checkpoint = str(new)
    with pytest.raises(InputError, match="not whole"):
        resume_point(args)


def test_skipped_images_count_as_missing(refused, teacher_options, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("red", "green", "blue"):
        for path in sorted((tmp_path / "photos" / "train" / name).iterdir())[:8]:
            path.write_bytes(b"no picture")
    options = [*teacher_options, "--data_dir", str(tmp_path / "photos"), "--unlabelled", "none"]
    options += ["--on_bad_image", "skip", "--per_device_train_batch_size", "24"]
    assert "12 images" in refused(train_teacher.main, options)


def test_folder_of_somebody_elses_files_is_never_overwritten(teacher_options, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    options = [*teacher_options, "--output_dir", str(tmp_path / "thesis"), "--overwrite_output_dir"]
    with pytest.raises(SystemExit) as stop:
        train_teacher.main(options)
    assert stop.value.code == 2 and "another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


def test_evaluate_refuses(refused, photos, teacher_folder, tmp_path):
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos)]
    assert "--model" in refused(evaluate.main, data, output=False)
    assert "nowhere" in refused(evaluate.main, [*data, "--model", str(tmp_path / "nowhere")], output=False)
    nothing = ["--model", str(teacher_folder), "--no_knn", "--no_linear"]
    assert "nothing to measure" in refused(evaluate.main, [*data, *nothing], output=False)


def test_evaluate_on_other_classes(refused, student_options, tmp_path):
    folder = tmp_path / "student"
    train_student.main([*student_options, "--method", "supervised", "--max_steps", "1", "--output_dir", str(folder)])
    assert "other classes" in refused(evaluate.main, ["--model", str(folder)], output=False)


def test_recipe_with_an_unknown_key_or_value(refused, teacher_options, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("temprature: 0.1\n")
    line = refused(train_teacher.main, [*teacher_options, "--config", str(recipe)])
    assert "temprature" in line and "temperature" in line
    recipe.write_text("optim: sgdd\n")
    line = refused(train_teacher.main, [*teacher_options, "--config", str(recipe)])
    assert "sgdd" in line and "'sgd'" in line
    recipe.write_text("- just\n- a list\n")
    assert "recipe.yaml" in refused(train_teacher.main, [*teacher_options, "--config", str(recipe)])
