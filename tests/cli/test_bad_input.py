"""A user's mistake: one line that says what, where and how to mend it, exit code 2, nothing written."""

import json
import shutil
from dataclasses import replace

import pytest

from hf_vipriors.advice import advise
from hf_vipriors.cli import convert
from hf_vipriors.cli import pretrain as pretrain_student
from hf_vipriors.cli import student as train_student
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.inference import embed, label_next, predict
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.scoring import evaluate
from hf_vipriors.training import DataArguments
from hf_vipriors.training.teacher_checks import check_teacher_is_trained

VIT = ["--backbone", "vit_tiny_patch16_224", "--backbone_args", '{"depth": 1, "embed_dim": 32, "num_heads": 2}']


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
        (["--activation_checkpointing"], ["activation_checkpointing, "]),
        (["--gradient_checkpointing"], ["gradient_checkpointing: timm"]),
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
    for path in sorted((tmp_path / "photos" / "train" / "red").iterdir()):
        path.write_bytes(b"no image")
    line = refused(train_teacher.main, [*options, "--on_bad_image", "skip"])
    assert "class 'red' has no train image that can be read (--on_bad_image skip): mend one, or drop the class" in line


def test_a_class_of_which_no_image_can_be_read_is_not_trained(refused, student_options, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "fox").mkdir()
    (tmp_path / "photos" / "train" / "fox" / "0.png").write_bytes(b"no image")
    options = ["--method", "supervised", "--data_dir", str(tmp_path / "photos"), "--on_bad_image", "skip"]
    assert "class 'fox' has no train image that can be read" in refused(
        train_student.main, [*student_options, *options]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], ["--teacher"]),
        (["--teacher", "no/such/teacher"], ["no/such/teacher"]),
        (["--method", "supervised", "--mixup", "-1"], ["mixup"]),
        (["--method", "supervised", "--random_shift", "-1"], ["random_shift"]),
        (
            ["--method", "supervised", "--random_shift", "4", "--crop_scale", "0.3", "1"],
            ["crop_scale", "random_shift"],
        ),
        (["--method", "supervised", "--auto_augment", "cifar"], ["auto_augment", "cifar10"]),
        (["--method", "supervised", "--student_init", "teacher"], ["student_init"]),
        (["--method", "supervised", "--student_init", "teachr"], ["student_init", "teachr"]),
        (["--method", "supervised", "--backbone_args", '{"in_chans": 1}'], ["in_chans"]),
        (["--method", "supervised", "--sgd_momentum", "0"], ["nesterov"]),
        (["--method", "supervised", "--lr_milestones", "3", "1"], ["lr_milestones"]),
        (["--method", "supervised", "--harmonic", "dct"], ["harmonic", "batch_norm", "weights"]),
        (["--method", "supervised", "--harmonic_level", "2"], ["--harmonic_level", "--harmonic batch_norm"]),
        (
            ["--method", "supervised", "--harmonic", "weights", "--harmonic_level", "5"],
            ["harmonic_level 5", "at most 4"],
        ),
        (
            ["--method", "supervised", "--harmonic", "weights", "--harmonic_level", "0"],
            ["harmonic_level", "at least 1"],
        ),
    ],
)
def test_student_refuses(refused, student_options, change, words):
    line = refused(train_student.main, [*student_options, *change])
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--method", "seeds"], ["seeds", "seed"]),
        (["--method", "moco"], ["moco", "dogo"]),
        (["--method", "dogo"], ["--teacher"]),
        (["--method", "seed", "--peer_backbone", "resnet18"], ["peer_backbone", "dogo"]),
        (["--teacher", "no/such/teacher"], ["no/such/teacher"]),
        (["--teacher_revision", "v2"], ["v2", "this machine"]),
        (["--projector_dim", "9"], ["projector_dim", "9", "8"]),
        (["--teacher_temperature", "0"], ["teacher_temperature"]),
        (["--temperature", "0"], ["--temperature"]),
        (["--patches", "-1"], ["patches"]),
        (["--patch_weight", "1"], ["--patch_weight", "--patches 6"]),
        (["--patch_scale", "0.5", "0.1"], ["patch_scale"]),
        (["--patch_size", "4"], ["patch_size"]),
        (["--patches", "1", "--patch_size", "32"], ["patch_size", "32 pixels"]),
        (["--patches", "1", *VIT], ["patches", "vit_tiny", "32 pixels"]),
        (["--queue_length", "46"], ["queue_length", "46"]),
        (["--per_device_train_batch_size", "1"], ["one image"]),
        (["--backbone_args", '{"in_chans": 1}'], ["in_chans", "three"]),
        (["--image_size", "4"], ["image_size"]),
    ],
)
def test_seed_refuses(refused, common, teacher_folder, change, words):
    options = [*common, "--per_device_train_batch_size", "8", "--teacher", str(teacher_folder)]
    line = refused(pretrain_student.main, [*options, *change])
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--method", "seed"], ["seed", "--teacher"]),
        (["--patches", "2"], ["patches", "seed"]),
        (["--contrast", "byol"], ["contrast", "byol", "simclr"]),
        (["--mutual_reduction", "sum"], ["mutual_reduction", "batchmean"]),
        (["--mutual_temperature", "0"], ["mutual_temperature"]),
        (["--mutual_weight", "-1"], ["mutual_weight"]),
        (["--peer_mutual_weight", "-1"], ["peer_mutual_weight"]),
        (["--peer_learning_rate", "0"], ["peer_learning_rate"]),
        (["--peer_backbone", "resnet81"], ["resnet81", "resnet18"]),
        (["--peer_backbone_args", "{stem"], ["peer_backbone_args", "JSON"]),
        (["--peer_backbone_args", '{"no_such_argument": 1}'], ["no_such_argument"]),
        (["--peer_backbone_args", '{"in_chans": 1}'], ["in_chans", "three"]),
        (["--contrast", "moco", "--queue_length", "46"], ["queue_length", "46"]),
        (["--resume_from_checkpoint", "true"], ["resume"]),
    ],
)
def test_dogo_refuses(refused, teacher_options, change, words):
    line = refused(pretrain_student.main, [*teacher_options, "--method", "dogo", *change])
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *((["--method", name], [name, "--teacher", "classifier"]) for name in ("kd", "sskd")),
        *((["--method", name], [name, "--teacher"]) for name in ("fitnet", "crd", "overhaul")),
        (["--method", "fitnet", "--kd_weight", "1"], ["fitnet", "--teacher", "classifier"]),
        (["--method", "kdd"], ["kdd", "kd"]),
        (["--method", "supervised", "--kd_weight", "0.5"], ["kd_weight", "--method kd"]),
        (["--method", "crd", "--mixup", "0.2", "--teacher", "x"], ["--mixup", "crd"]),
        (["--method", "fitnet", "--hint_stage", "5", "--teacher", "x"], ["hint_stage", "4"]),
        (["--method", "supervised", "--classification_weight", "0.5"], ["classification_weight", "supervised"]),
        (["--method", "supervised", "--label_smoothing", "1"], ["label_smoothing"]),
    ],
)
def test_student_without_a_teacher(refused, student_options, change, words):
    line = refused(train_student.main, [*student_options, *change])
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("recipe", "teacher"),
    [
        ("image_folder_student", "hf-vipriors teacher --config image_folder_teacher --data_dir 'my {}'"),
        (
            "sskd_fashion",
            "hf-vipriors student --config sskd_fashion_supervised --dataset_name imagefolder --data_dir 'my {}'",
        ),
        (
            "vipriors_resnet50_student",
            "hf-vipriors teacher --config vipriors_resnet50 --dataset_name imagefolder --data_dir 'my {}'",
        ),
    ],
)
def test_a_recipe_before_its_teacher_is_trained_says_how(recipe, teacher, refused, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").symlink_to(photos)
    images = ["--dataset_name", "imagefolder", "--data_dir", "my photos", "--use_cpu", "--bf16", "false"]
    choice = ["--labels", "labels.csv", "--subset_seed", "7"]  # it is to learn from the same images
    line = refused(train_student.main, ["--config", recipe, *images, *choice], output=False)
    name = {"image_folder_student": "photos_teacher", "sskd_fashion": "sskd_fashion_teacher"}.get(recipe)
    assert f"no such folder outputs/{name or 'vipriors_teacher'} (--teacher): train it first, by `" in line
    assert f"`{teacher.format('photos')} {' '.join(choice)}`, or give" in line
    assert list(tmp_path.iterdir()) == [tmp_path / "my photos"]


@pytest.mark.parametrize(
    ("number", "more"), [(50, ""), (100, ""), (250, " --images_per_class 250"), (None, " --images_per_class null")]
)
def test_the_teacher_of_a_table_leaves_the_most_images_out(number, more):
    data = DataArguments(dataset_name="uoft-cs/cifar10", images_per_class=number, unlabelled="rest")
    with pytest.raises(InputError) as raised:
        check_teacher_is_trained("outputs/cifar10_teacher", data)
    assert f"by `hf-vipriors teacher --config cifar10_teacher{more}`, or" in raised.value.on_command_line
    with pytest.raises(InputError) as raised:
        check_teacher_is_trained("outputs/cifar10_teacher", replace(data, images_per_class=50, unlabelled="none"))
    assert "--images_per_class 50 --unlabelled none`" in raised.value.on_command_line, "the strict protocol"


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        *(("sskd", name, "0.1") for name in ("label_smoothing", "mixup", "cutmix")),
        ("sskd", "class_weights", "balanced"),
        *(("sskd", name, "0") for name in ("similarity_temperature", "head_epochs", "head_learning_rate")),
        *(("sskd", name, "-1") for name in ("transfer_weight", "similarity_weight", "classification_weight")),
        *(("sskd", name, "1.5") for name in ("keep_transfer", "keep_similarity")),
        ("kd", "kd_weight", "-1"),
        ("kd", "kd_temperature", "0"),
        ("fitnet", "hint_weight", "-1"),
        ("overhaul", "feature_weight", "-1"),
        ("crd", "contrast_weight", "-1"),
        ("crd", "contrast_temperature", "0"),
        ("crd", "memory_momentum", "1.5"),
        ("crd", "contrast_dim", "0"),
        ("crd", "negatives", "0"),
        ("kd", "teacher_revision", "v2"),
        ("sskd", "per_device_train_batch_size", "1"),
    ],
)
def test_methods_refuse(refused, student_options, classifier_folder, method, option, value):
    options = [*student_options, "--method", method, "--teacher", str(classifier_folder), f"--{option}", value]
    line = refused(train_student.main, options)
    assert option in line or value in line, line


@pytest.mark.parametrize(
    "method", [["--method", "kd"], ["--method", "sskd"], ["--method", "crd", "--kd_weight", "0.5"]], ids=lambda m: m[1]
)
def test_teacher_that_does_not_give_the_answers(refused, student_options, teacher_folder, tmp_path, method):
    def teach(name, class_names):
        config = VipriorsConfig.for_backbone("test_resnet", image_size=32, class_names=class_names)
        return str(export_native(VipriorsForImageClassification(config), tmp_path / name))

    asked = "--kd_weight 0.5" if "--kd_weight" in method else f"--method {method[1]}"
    line = refused(train_student.main, [*student_options, *method, "--teacher", str(teacher_folder)])
    assert asked in line and "has no classifier" in line and "fine-tune" in line, line
    line = refused(train_student.main, [*student_options, *method, "--teacher", teach("two", ["red", "green"])])
    assert asked in line and "2 classes" in line and "has 3" in line, line
    line = refused(
        train_student.main, [*student_options, *method, "--teacher", teach("turned", ["red", "green", "blue"])]
    )
    assert "another order" in line and "red, green, blue" in line, line
    line = refused(
        train_student.main, [*student_options, *method, "--teacher", teach("other", ["cat", "dog", "ship"])]
    )
    assert asked in line and "cat, dog, ship" in line and "blue, green, red" in line, line


@pytest.mark.parametrize("main", [train_student.main, pretrain_student.main])
def test_teacher_of_gray_images(refused, common, tmp_path, main):
    config = VipriorsConfig.for_backbone(
        "test_resnet", image_size=32, backbone_args={"in_chans": 1}, image_mean=[0.5], image_std=[0.5]
    )
    VipriorsModel(config).save_pretrained(tmp_path / "gray")
    line = refused(main, [*common, "--per_device_train_batch_size", "8", "--teacher", str(tmp_path / "gray")])
    assert "three" in line and "test_resnet" in line, line


def test_head_of_a_refused_run_is_not_fitted(student_options, classifier_folder, contents, tmp_path, capsys):
    """A folder that holds another run stops SSKD before it spends an hour beside the teacher."""
    before = contents(classifier_folder)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "run.json").write_text("{}")
    options = [*student_options, "--method", "sskd", "--teacher", str(classifier_folder)]
    with pytest.raises(SystemExit) as stop:
        train_student.main([*options, "--output_dir", str(tmp_path / "taken")])
    assert stop.value.code == 2 and "--overwrite_output_dir" in capsys.readouterr().err
    assert contents(classifier_folder) == before


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
        train_student.main,
        [*student_options, "--method", "kd", "--data_dir", str(tmp_path / "two"), "--teacher", str(first)],
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
    from hf_vipriors.training import TeacherArguments
    from hf_vipriors.training.run_folder import resume_point

    args = TeacherArguments(output_dir=str(copy), resume_from_checkpoint="true", use_cpu=True)
    assert resume_point(args) == str(old)
    args.resume_from_checkpoint = str(new)
    with pytest.raises(InputError, match="not whole"):
        resume_point(args)


def test_skipped_images_count_as_missing(refused, teacher_options, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("red", "green", "blue"):
        for path in sorted((tmp_path / "photos" / "train" / name).iterdir())[:8]:
            path.write_bytes(b"no image")
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


@pytest.mark.parametrize("option", ["--method", "--data_dir"])
def test_a_value_of_kilobytes_does_not_fill_the_terminal(option, refused, student_options):
    line = refused(train_student.main, [*student_options, option, "QUJD" * 5000])
    assert len(line) < 1200


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (predict, "--output"), (predict, "--copy_into"), (label_next, "--output"), (embed, "--output"),
        (evaluate, "--output"), (evaluate, "--report"), (advise, "--output"), (convert, "--output_dir"),
        (train_teacher, "--output_dir"),
    ],
)  # fmt: skip
def test_an_output_below_a_file_is_refused_before_any_work(command, option, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("mine")
    given = ["--model", "nowhere"] if command in (predict, label_next, embed, evaluate) else []
    images = ["--checkpoint", "nowhere.pth"] if command is convert else ["--data_dir", "nowhere"]
    path = "table.csv/x.parquet" if command is embed else "table.csv/x.csv"
    line = refused(command.main, [*given, *images, option, path], output=False)
    assert f"error: {option} {path} cannot be written: {tmp_path}/table.csv is no folder; choose another pl" in line
