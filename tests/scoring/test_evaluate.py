import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from earlier_runs import as_earlier
from PIL import Image as PILImage
from safetensors.torch import save_file

from hf_vipriors.cli import student as train_student
from hf_vipriors.comparison import Footprint, FrozenNetwork
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.classification import score
from hf_vipriors.reports.report_rows import RowSummary
from hf_vipriors.scoring import evaluate
from hf_vipriors.scoring.alternatives import conclusions
from hf_vipriors.scoring.run_protocol import labels_of, protocol_of
from hf_vipriors.scoring.scored_images import scored_images
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images
from hf_vipriors.training.run_files import TRAINED_FILE, read_run
from hf_vipriors.training.teacher_checks import label_smoothing_of
from hf_vipriors.training.trained_images import _digests
from hf_vipriors.views.corruptions import CORRUPTIONS


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


def test_a_run_of_an_earlier_version_is_scored_alike(students, photos, tmp_path):
    shutil.copytree(students / "short", tmp_path / "earlier")
    settings = read_run(students / "short").settings
    as_earlier(tmp_path / "earlier")
    made = read_run(tmp_path / "earlier")
    assert made.filled_among_given and not made.resolved and made.settings == settings
    smoothing = label_smoothing_of(str(tmp_path / "earlier"))
    assert smoothing == label_smoothing_of(str(students / "short")) == 0.1
    names = [str(tmp_path / "earlier"), str(students / "short")]
    found = scores(photos, tmp_path, "--model", *names, "--report", str(tmp_path / "report"))
    assert found[names[0]] == found[names[1]]
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.fixture(scope="module")
def carved(photos, tmp_path_factory):
    """A folder without any split but train, and a student that was trained on all but a third of it, by seed 3."""
    folder = tmp_path_factory.mktemp("carved")
    shutil.copytree(photos / "train", folder / "all")
    options = ["--data_dir", str(folder / "all"), "--subset_seed", "3", "--validation_share", "0.35"]
    options += ["--method", "supervised", "--backbone", "test_resnet", "--image_size", "32", "--max_steps", "1"]
    options += ["--per_device_train_batch_size", "6", "--save_strategy", "no", "--use_cpu", "--disable_tqdm", "true"]
    train_student.main([*options, "--output_dir", str(folder / "student")])
    return folder


def test_a_model_is_scored_on_the_images_that_its_training_set_aside(carved, tmp_path, capsys):
    model, output = str(carved / "student"), tmp_path / "scores.json"
    evaluate.main(["--model", model, "--data_dir", str(carved / "all"), "--device", "cpu", "--output", str(output)])
    shown, said = capsys.readouterr()
    assert f"in the training of {model}: --subset_seed 3 --validation_share 0.35" in " ".join(said.split())
    assert "was trained on" not in said and "Scores on validation" in shown
    found = json.loads(output.read_text())
    recorded = json.loads((carved / "student" / "metrics.json").read_text())["test"]
    assert found["scores"][model]["top-1"]["top1"] == recorded["top1"] and recorded["count"] == 12
    assert found["split"] == "validation" and "trained_on" not in found


def test_labels_are_those_of_the_training_where_none_are_given(carved, tmp_path):
    run = json.loads((carved / "student" / "run.json").read_text())
    run["data"] |= {"labels": "corrected.csv"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    found = protocol_of([str(tmp_path)], DataArguments(data_dir=str(carved / "all")))
    assert found["labels"] == "corrected.csv" and found["subset_seed"] == 3
    assert protocol_of([str(tmp_path)], DataArguments(data_dir=str(tmp_path))) == {}, "other images"
    both = protocol_of([str(carved / "student"), str(tmp_path)], DataArguments(data_dir=str(carved / "all")))
    assert "labels" not in both and both["subset_seed"] == 3, "the folders labelled the other's"


def test_who_chose_the_labels_of_a_training_does_not_choose_those_of_a_score(carved, tmp_path, caplog):
    """It sets no other images aside, and its folder may be gone."""
    run = json.loads((carved / "student" / "run.json").read_text())
    run["data"] |= {"images_per_class": 2, "choose_with": "gone"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    run["data"] |= {"choose_with": None}
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "run.json").write_text(json.dumps(run))
    both = [str(tmp_path), str(tmp_path / "drawn")]
    data = DataArguments(data_dir=str(carved / "all"))
    found = protocol_of(both, data)
    assert found == {"subset_seed": 3, "validation_share": 0.35, "images_per_class": 2}
    data = replace(data, **found)
    with caplog.at_level(logging.INFO):
        assert labels_of(both, data) is None and f"labels of {tmp_path} were chosen by a network" in caplog.text
    trained = load_images(replace(data, images_per_class=None)).splits["train"].select([0, 3, 4])
    save_file({"labelled": torch.tensor(sorted(_digests(trained, "train")))}, tmp_path / TRAINED_FILE)
    assert load_images(data, labels_of(both[:1], data)).splits["train"]["origin"] == trained["origin"]
    assert labels_of(both[1:], data) is None and load_images(data).splits["train"]["origin"] != trained["origin"]
    for other in ({"images_per_class": 3}, {"subset_seed": 4}, {"label_noise": 0.2}):
        assert labels_of(both[:1], replace(data, **other)) is None, "what is asked for counts"


@pytest.mark.parametrize("more", [0, 10])
def test_images_that_the_model_was_trained_on_are_said(more, carved, tmp_path, capsys):
    """Carved anew by another seed, or the same seed on a folder that has grown since."""
    model, output, folder = str(carved / "student"), tmp_path / "scores.json", tmp_path / "photos"
    shutil.copytree(carved / "all", folder)
    for number in range(more):
        for name, colour in (("red", "#f00"), ("green", "#0f0"), ("blue", "#00f")):
            PILImage.new("RGB", (20 + number, 20), colour).save(folder / name / f"{number}b.png")
    options = ["--subset_seed", "3", "--validation_share", "0.35"] if more else []
    options += ["--report", str(tmp_path / "report"), "--no_knn", "--no_linear"]
    evaluate.main([
        "--model", model, "--data_dir", str(folder), "--device", "cpu", *options, "--output", str(output),
    ])  # fmt: skip
    seen = json.loads(output.read_text())["trained_on"][model]
    assert 0 < seen["count"] < seen["images"] and seen["unlabelled"] == 0
    words = f"{seen['count']} of {seen['images']} scored images are among those that"
    said = " ".join(capsys.readouterr().err.split())
    assert f"validation: {words} {model} was trained on: these scores flatter" in said
    assert f"{words} student was trained on" in (tmp_path / "report" / "report.html").read_text()


def test_all_labelled_images_of_every_split(carved, photos, tmp_path, capsys):
    shutil.copytree(carved / "student", tmp_path / "again")
    models = [str(carved / "student"), str(tmp_path / "again")]
    options = ["--split", "all", "--ten_crop", "--report", str(tmp_path / "page")]
    found = scores(photos, tmp_path, "--model", *models, *options)
    shown, said = (" ".join(text.split()) for text in capsys.readouterr())
    assert set(found) == {*models, "ensemble of 2"} and all(set(each) == {"ten-crop top-1"} for each in found.values())
    assert {each["ten-crop top-1"]["count"] for each in found.values()} == {36 + 12 + 12}, "not those without labels"
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert written["split"] == "all labelled images" and written["trained_on"][models[0]]["count"] == 24
    assert "Scores on all labelled images" in shown and "all labelled images: 24 of 60 scored images" in said
    assert "no kNN and no linear probe" in said and "no validation split" not in said and "INDEPENDENT" not in said
    page = (tmp_path / "page" / "report.html").read_text()
    assert "on all labelled images" in page and "60 labelled images, 3 classes" in page


@pytest.fixture
def new_photos(photos, tmp_path):
    """A folder that has test/CLASS/ alone."""
    shutil.copytree(photos / "test", tmp_path / "photos" / "test")
    return tmp_path / "photos"


def test_all_images_of_a_folder_with_test_images_alone(carved, photos, new_photos, tmp_path, capsys):
    model = str(carved / "student")
    found = written(new_photos, tmp_path, "--model", model, "--split", "all", "--corruptions")
    assert found["corrupted"][model]["count"] == 12 and "on corrupted labelled images" in " ".join(
        capsys.readouterr().out.split()
    )
    assert found["scores"] == written(photos, tmp_path / "old", "--model", model)["scores"]


def test_all_images_of_a_folder_that_lacks_a_class(carved, photos, new_photos, tmp_path):
    model = str(carved / "student")
    whole = written(new_photos, tmp_path, "--model", model, "--split", "all")["scores"][model]["top-1"]
    shutil.rmtree(new_photos / "test" / "green")  # neither the first nor the last of blue, green, red
    fewer = written(new_photos, tmp_path / "fewer", "--model", model, "--split", "all")["scores"][model]["top-1"]
    assert fewer["count"] == 8 and fewer["per_class"] == whole["per_class"] | {"green": None}
    teacher = DataArguments(data_dir=str(new_photos))
    with pytest.raises(InputError, match=r"no labelled train split \(found: test 8\): name one split train$"):
        scored_images(teacher, "test", {})


def test_the_choice_of_images_of_the_run_does_not_count_for_all_images(carved, tmp_path, capsys):
    found = written(carved / "all", tmp_path, "--model", str(carved / "student"), "--split", "all")
    assert found["scores"][str(carved / "student")]["top-1"]["count"] == 36
    assert "as in the training of" not in capsys.readouterr().err


def test_what_cannot_go_with_all_images(carved, teacher_folder, new_photos, tmp_path, capsys):
    def refused(model, *options):
        with pytest.raises(SystemExit) as stop:
            written(new_photos, tmp_path, "--model", str(model), *options)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert stop.value.code == 2
        return line

    student = carved / "student"
    assert "score all 12 labelled images by --split all" in refused(student)
    assert "--compare cannot go with --split all" in refused(student, "--split", "all", "--compare", "timm:x")
    assert "has no classifier, and --split all leaves no image" in refused(teacher_folder, "--split", "all")
    chosen = ("--split", "all", "--images_per_class", "2", "--label_noise", "0.5")
    assert "--images_per_class, --label_noise cannot go with --split all" in refused(student, *chosen)


def test_a_new_folder_without_a_test_split_is_told_of_all_images(carved, photos, tmp_path, capsys):
    hint = "--split all scores all its 12 labelled images"
    written(photos / "test", tmp_path / "a", "--model", str(carved / "student"))
    assert hint in " ".join(capsys.readouterr().err.split())
    for name, folder in (("b", carved / "all"), ("c", photos)):  # that of the training; one with a test split
        written(folder, tmp_path / name, "--model", str(carved / "student"))
        assert "--split all" not in capsys.readouterr().err


def test_ten_crop_on_validation(students, photos, tmp_path):
    options = ["--ten_crop", "--split", "validation", "--no_knn", "--no_linear"]
    found = scores(photos, tmp_path, "--model", str(students / "long"), *options)
    (kinds,) = found.values()
    assert set(kinds) == {"ten-crop top-1"} and kinds["ten-crop top-1"]["count"] == 12


def test_a_teacher_is_scored_by_its_features(teacher_folder, photos, tmp_path):
    found = scores(photos, tmp_path, "--model", str(teacher_folder))
    assert set(found[str(teacher_folder)]) == {"kNN", "linear"}


def written(photos, tmp_path, *options):
    output = tmp_path / "scores.json"
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos), "--device", "cpu", "--no_knn", "--no_linear"]
    evaluate.main([*data, *options, "--output", str(output)])
    return json.loads(output.read_text())


def test_corrupted_images_by_corruption_and_severity(students, photos, tmp_path, capsys):
    model = str(students / "long")
    found = written(photos, tmp_path, "--model", model, "--corruptions")
    shaken = found["corrupted"][model]
    assert shaken["clean"] == found["scores"][model]["top-1"]["top1"] and shaken["count"] == 12
    assert list(shaken["per_corruption"]) == list(CORRUPTIONS)
    values = [value for values in shaken["per_corruption"].values() for value in values]
    assert len(values) == 55 and shaken["top1"] == pytest.approx(sum(values) / 55)
    shown = " ".join(capsys.readouterr().out.split())
    assert "on corrupted test images" in shown and "gaussian noise" in shown and f"{100 * shaken['top1']:.1f}" in shown


def test_a_report_shows_corrupted_images(students, photos, tmp_path):
    model = str(students / "long")
    written(photos, tmp_path, "--model", model, "--corruptions", "--report", str(tmp_path / "page"))
    assert "Corrupted images" in (tmp_path / "page" / "report.html").read_text()


def test_a_second_data_set_of_the_same_classes_in_another_order(students, photos, tmp_path):
    names = ["red", "green", "blue"]  # folders are counted in alphabetical order
    images = [(str(path), label) for label, name in enumerate(names) for path in (photos / "test" / name).iterdir()]
    images += images[:1]
    columns = {"image": [path for path, _ in images], "label": [label for _, label in images]}
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "camera"))
    model = str(students / "long")
    found = written(photos, tmp_path, "--model", model, "--ood_dataset_name", str(tmp_path / "camera"))
    found = found["scores"][model]
    assert set(found) == {"top-1", "top-1 on camera"}
    elsewhere = found["top-1 on camera"]
    assert elsewhere["count"] == 13, "all its images, for it has no test split"
    assert list(elsewhere["per_class"]) == names and elsewhere["top1"] > 0.8
    for name in ("green", "blue"):
        assert elsewhere["per_class"][name] == found["top-1"]["per_class"][name]


def test_a_second_data_set_is_its_test_split(students, photos, tmp_path):
    options = ["--ood_dataset_name", "imagefolder", "--ood_data_dir", str(photos)]
    found = written(photos, tmp_path, "--model", str(students / "long"), *options)["scores"][str(students / "long")]
    assert found["top-1"] == found[f"top-1 on {photos.name}"]


def test_what_a_second_data_set_cannot_be(students, teacher_folder, photos, tmp_path, capsys):
    def refused(model, *options):
        with pytest.raises(SystemExit) as stop:
            written(photos, tmp_path, "--model", str(model), *options)
        assert stop.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    assert "have different classes" in refused(students / "long", "--ood_dataset_name", "fashion-vipriors")
    assert "second data set (--ood_dataset_name" in refused(students / "long", "--ood_data_dir", str(tmp_path / "no"))
    assert "a teacher has no classifier" in refused(teacher_folder, "--corruptions")
    assert "a teacher has no classifier" in refused(teacher_folder, "--compare", "fashion-vipriors-teacher")


def test_the_same_network_frozen_scores_as_the_linear_probe(students, photos, tmp_path, capsys):
    model, page = str(students / "long"), tmp_path / "page"
    output = tmp_path / "scores.json"
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos), "--device", "cpu", "--no_knn"]
    names = [model, "fashion-vipriors-teacher"]
    evaluate.main([*data, "--model", model, "--compare", *names, "--output", str(output), "--report", str(page)])
    found = json.loads(output.read_text())
    assert list(found["scores"]) == [model] and list(found["compared"]) == names
    assert found["compared"][model]["score"] == found["scores"][model]["linear"]
    teacher, top1 = found["compared"]["fashion-vipriors-teacher"], found["scores"][model]["top-1"]["top1"]
    assert teacher["image_size"] == 48 and teacher["licence"] == "apache-2.0" and 700_000 < teacher["params"] < 710_000
    assert teacher["difference"] == pytest.approx(teacher["score"]["top1"] - top1)
    low, high = teacher["difference_interval"]
    assert teacher["outcome"] == ("better" if low > 0 else "worse" if high < 0 else "unclear")
    assert 0 < teacher["p_value"] <= 1
    shown = " ".join(capsys.readouterr().out.split())
    written = " ".join((page / "report.html").read_text(encoding="utf-8").split())
    for text in (shown, written):
        assert "fashion-vipriors-teacher, frozen" in text and "licence apache-2.0" in text
        assert "times the parameters of long" in text and "95 % interval (" in text


def test_what_follows_from_a_comparison():
    def network(name, params, low, high, right=2):
        result = score(np.eye(2)[[0, 1][:right] + [0] * (2 - right)], np.arange(2), ["cat", "dog"])
        difference = {"difference": (low + high) / 2, "difference_interval": (low, high)}
        summary = RowSummary(f"{name}, frozen", False, 1, result.top1, None, None, None, **difference)
        numbers = np.arange(2)
        return FrozenNetwork(name, "mit", 32, Footprint(params, 1.0), 1.0, False, result, numbers, numbers), summary

    size = Footprint(100, 1.0)
    others = [network("a", 50, -0.03, -0.01), network("b", 50, -0.01, 0.02), network("c", 200, -0.01, 0.01)]
    worse, small, large = conclusions(others, "student", size)
    assert worse == "student was worth its training: a, frozen is significantly worse."
    assert small == "b, frozen and student do not differ significantly; the smaller is b, frozen."
    assert large == "c, frozen and student do not differ significantly; the smaller is student."
    winners = [network("good", 50, 0.01, 0.03, right=1), network("big", 300, 0.2, 0.4), network("best", 200, 0.2, 0.4)]
    (line,) = conclusions(winners, "student", size)
    assert (
        line.startswith("Use that: best, frozen, if its licence (mit)") and "2 times the parameters of student" in line
    )


@pytest.mark.parametrize(
    ("compared", "words"),
    [
        ("timm:resnet18.a1_in1k", "cannot be reached"),
        ("timm:resnet81.a1_in1k", "no network 'resnet81'"),
        ("somebody/nothing", "cannot be reached"),
        ("./nothing", "no such folder"),
    ],
)
def test_a_network_that_is_not_there_is_one_line_before_any_work(
    compared, words, students, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    options = ["--model", str(students / "long"), "--compare", compared, "--report", str(tmp_path / "page")]
    with pytest.raises(SystemExit) as stop:  # the images are not there either, and would be looked for later
        evaluate.main(["--data_dir", str(tmp_path / "no"), *options])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert stop.value.code == 2 and "(--compare)" in line and words in line
    assert not (tmp_path / "page").exists()


def test_a_device_that_is_not_there_is_one_line(students, photos, capsys):
    for device in ("nowhere", "cuda:99"):
        with pytest.raises(SystemExit) as stop:
            evaluate.main(["--data_dir", str(photos), "--model", str(students / "long"), "--device", device])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert stop.value.code == 2 and f"--device {device} cannot be used" in line and "try cpu" in line


def test_what_fails_while_it_is_shown_or_drawn_loses_no_figures(classifier_folder, photos, tmp_path, monkeypatch):
    def fails(*args, **options):
        raise ZeroDivisionError

    images = ["--dataset_name", "imagefolder", "--data_dir", str(photos)]
    options = [*images, "--model", str(classifier_folder), "--no_knn", "--no_linear"]
    for name, place in (("shown", evaluate), ("drawn", evaluate.evaluation_report)):
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(place, "show" if name == "shown" else "html", fails)
            given = ["--output", str(tmp_path / f"{name}.json"), "--report", str(tmp_path / name)]
            evaluate.main([*options, *given])
        assert "scores" in json.loads((tmp_path / f"{name}.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn.json", "shown.json"], "a report is whole or not"
