"""The trainers as a stranger uses any ``transformers.Trainer``: on a ``Dataset``, every public method once."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from huggingface_hub import ModelCard
from transformers import AutoModel, EarlyStoppingCallback, TrainerCallback, pipeline

from hf_vipriors import (
    StudentArguments,
    StudentTrainer,
    TeacherArguments,
    TeacherTrainer,
    VipriorsConfig,
    VipriorsForImageClassification,
    VipriorsModel,
)
from hf_vipriors.data import ImageStore
from hf_vipriors.errors import InputError

SMALL = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
QUICK = {"max_steps": 4, "save_steps": 2, "eval_steps": 2, "logging_steps": 1, "use_cpu": True, "report_to": "none"}
QUICK |= {"disable_tqdm": True}


@pytest.fixture(scope="module")
def images(photos):
    return load_dataset("imagefolder", data_dir=str(photos), drop_labels=False)


@pytest.fixture(scope="module")
def labelled(images):
    """Without the folder of images that have no class."""
    return {split: images[split] for split in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def teacher(labelled, tmp_path_factory):
    args = TeacherArguments(
        str(tmp_path_factory.mktemp("contract") / "teacher"), backbone_args=SMALL, image_size=32, **QUICK
    )
    trainer = TeacherTrainer("resnet18", args, train_dataset=labelled["train"], eval_dataset=labelled["validation"])
    trainer.train()
    trainer.save_model()
    return trainer


@pytest.fixture(scope="module")
def student(teacher, labelled, tmp_path_factory):
    """FixMatch with a pool, early stopping, the best checkpoint at the end, and figures of its own."""
    args = StudentArguments(
        str(tmp_path_factory.mktemp("contract") / "student"), method="fixmatch", load_best_model_at_end=True, **QUICK
    )
    trainer = StudentTrainer(
        args=args,
        teacher=teacher.args.output_dir,
        train_dataset=labelled["train"],
        eval_dataset=labelled["validation"],
        unlabelled_dataset=labelled["train"].remove_columns("label"),
        compute_metrics=lambda found: {"classes": float(found.predictions.shape[1]), "images": len(found.label_ids)},
        callbacks=[EarlyStoppingCallback(5)],
    )
    trainer.train()
    return trainer


def test_a_teacher_loads_where_it_was_saved_and_from_its_checkpoints(teacher):
    kept = teacher.model.deployable().state_dict()
    for folder in ("", "/checkpoint-4"):
        loaded = VipriorsModel.from_pretrained(teacher.args.output_dir + folder).state_dict()
        assert all(torch.equal(kept[name], tensor) for name, tensor in loaded.items())
    assert type(AutoModel.from_pretrained(teacher.args.output_dir)).__name__ == "VipriorsModel"


def test_a_teacher_evaluates_by_knn_and_predicts_features(teacher, labelled):
    assert {"eval_knn_top1", "eval_feature_std", "eval_effective_rank"} <= teacher.evaluate().keys()
    found = teacher.predict(labelled["test"])
    assert found.predictions.shape == (12, 16) and found.label_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert 0 <= found.metrics["test_knn_top1"] <= 1


def test_what_was_given_stays_and_what_followed_says_from_where(teacher):
    setup = teacher.setup
    assert setup.given.learning_rate is None and setup.given.per_device_train_batch_size == 0
    assert setup.given.queue_length is None and setup.given.margin is None
    assert (teacher.args.per_device_train_batch_size, teacher.args.queue_length, teacher.args.margin) == (18, 18, 0.4)
    assert setup.resolved.sources["per_device_train_batch_size"] == "half of the 36 images"
    assert "36 images in batches of 18" in setup.resolved.sources["queue_length"]


def test_a_student_evaluates_as_the_figures_say(student, labelled):
    found = student.evaluate(labelled["test"])
    out = student.predict(labelled["test"])
    logits = torch.from_numpy(out.predictions)
    labels = torch.from_numpy(out.label_ids)
    assert logits.shape == (12, 3) and not torch.allclose(logits.exp().sum(1), torch.ones(12)), "logits"
    assert found["eval_top1"] == (logits.argmax(1) == labels).double().mean().item() == out.metrics["test_top1"]
    assert found["eval_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)
    assert found["eval_classes"] == 3 and found["eval_images"] == 12, "compute_metrics is honoured"
    several = student.evaluate({"one": labelled["test"], "other": labelled["validation"]})
    assert several["eval_one_top1"] == found["eval_top1"] and "eval_other_top1" in several


def test_predictions_are_those_of_the_pipeline(student, labelled, tmp_path):
    student.save_model(str(tmp_path / "saved"))
    classify = pipeline("image-classification", model=str(tmp_path / "saved"))
    logits = torch.from_numpy(student.predict(labelled["test"]).predictions)
    for row, image in zip(logits.softmax(1), labelled["test"]["image"], strict=True):
        found = {each["label"]: each["score"] for each in classify(image)}
        assert [found[name] for name in student.class_names] == pytest.approx(row.tolist(), abs=2e-3)


def test_images_without_labels_are_predicted_and_not_scored(student, labelled):
    bare = labelled["test"].remove_columns("label")
    found = student.predict(bare)
    assert found.label_ids is None and found.predictions.shape == (12, 3) and "test_top1" not in found.metrics
    with pytest.raises(InputError, match="no image has a label"):
        student.evaluate(bare)


def test_labels_go_by_name_and_other_classes_are_refused(student, labelled):
    names = labelled["test"].features["label"].names
    images, classes = list(labelled["test"]["image"]), [names[label] for label in labelled["test"]["label"]]
    words = Dataset.from_dict({"picture": images, "class": classes})
    assert student.evaluate(words)["eval_top1"] == student.evaluate(labelled["test"])["eval_top1"]
    with pytest.raises(InputError, match="'purple', which the model does not know"):
        student.evaluate(Dataset.from_dict({"picture": images, "class": ["purple"] * 12}))


def test_the_best_checkpoint_is_what_is_kept(student):
    state = student.state
    assert state.best_model_checkpoint is not None and state.best_metric is not None
    classify = pipeline("image-classification", model=state.best_model_checkpoint)
    kept, best = student.model.deployable().backbone.state_dict(), classify.model.timm_model.state_dict()
    others = {name for name, tensor in best.items() if not torch.equal(kept[name], tensor)}
    fitted = student.at_end["propagation"]["kept"]  # after the last step
    assert others == ({"fc.weight", "fc.bias"} if fitted else set())


def test_the_dataloaders(student, labelled):
    assert len(student.get_train_dataloader()) == 2
    for loader in (student.get_eval_dataloader(), student.get_test_dataloader(labelled["test"])):
        batch = next(iter(loader))
        assert batch["pixel_values"].dtype == torch.uint8 and batch["pixel_values"].shape == (12, 3, 32, 32)


def test_resuming_and_callbacks(student, labelled):
    class Count(TrainerCallback):
        steps = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.steps += 1

    count = Count()
    args = copy.copy(student.setup.given)
    args.max_steps = 6
    again = StudentTrainer(
        args=args, teacher=student.setup.given.teacher, train_dataset=labelled["train"],
        eval_dataset=labelled["validation"], unlabelled_dataset=labelled["train"].remove_columns("label"),
        callbacks=[count],
    )  # fmt: skip
    again.train(resume_from_checkpoint=True)
    assert count.steps == 2 and again.state.global_step == 6


def test_the_card_says_what_was_measured_on_which_images(student):
    student.create_model_card(license="mit", model_name="colours")
    card = ModelCard.load(f"{student.args.output_dir}/README.md")
    assert card.data.license == "mit" and card.data.eval_results[0].dataset_split == "validation"
    assert "# colours" in card.text and "Fashion" not in card.content and "fixmatch" in card.text
    with pytest.raises(InputError, match="tags: the card derives these from the run"):
        student.create_model_card(tags=["mine"])


def test_a_push_is_one_commit_with_our_card(student, logged_in):
    address = student.push_to_hub(commit_message="Mine")
    assert "commit" in address
    ((_, name),) = logged_in.repositories
    files = logged_in.repository(name).files()
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= set(files)
    assert not any("checkpoint" in name or name.endswith((".pt", ".bin")) for name in files)
    assert name.split("/")[1] == "student"
    card = Path(student.args.output_dir) / "README.md"
    card.write_text(f"{card.read_text()}\nMine too.\n")
    student.push_to_hub()
    assert logged_in.repository(name).files()["README.md"].endswith(b"Mine too.\n") and "Mine too." in card.read_text()
    with pytest.raises(InputError, match="blocking=False"):
        student.push_to_hub(blocking=False)


def test_a_search_makes_each_student_anew(labelled, tmp_path):
    args = StudentArguments(
        str(tmp_path), method="supervised", backbone="resnet18", backbone_args=SMALL, image_size=32, eval_steps=4,
        **{name: value for name, value in QUICK.items() if name != "eval_steps"},
    )  # fmt: skip
    trainer = StudentTrainer(args=args, train_dataset=labelled["train"], eval_dataset=labelled["validation"])
    found = trainer.hyperparameter_search(
        hp_space=lambda trial: {"mixup": trial.suggest_categorical("mixup", [0.0, 0.3])},
        compute_objective=lambda metrics: metrics["eval_top1"],
        n_trials=2,
        direction="maximize",
        backend="optuna",
    )
    assert found.objective == pytest.approx(found.objective) and set(found.hyperparameters) == {"mixup"}
    assert trainer.args.mixup == 0 and trainer.setup.given is args, "what a trial drew does not stay"
    with pytest.raises(InputError, match="the search has left no model"):
        trainer.evaluate()
    trainer.args.mixup = 0.3
    trainer.train()
    assert trainer.model.mixer is not None and trainer.state.global_step == 4
    with pytest.raises(InputError, match="unknown option 'mixupp'"):
        trainer.hyperparameter_search(hp_space=lambda trial: {"mixupp": 1}, n_trials=1, backend="optuna")


def test_a_model_a_config_a_store_and_sskd_by_hand(labelled, student, tmp_path):
    """What else ``model`` and the data sets may be; SSKD fits its head by itself."""
    config = VipriorsConfig.for_backbone(
        "resnet18", image_size=32, backbone_args=SMALL, class_names=["blue", "green", "red"]
    )
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (24, 3, 36, 36), dtype=np.uint8))
    store = ImageStore(pixels, torch.arange(24) % 3)
    options = {name: value for name, value in QUICK.items() if name not in ("eval_steps", "save_steps")}
    options |= {"save_strategy": "no", "per_device_train_batch_size": 6, "image_size": 32}
    ours = VipriorsForImageClassification(config)
    by_model = StudentTrainer(
        ours, StudentArguments(str(tmp_path / "a"), method="supervised", **options), train_dataset=store,
        class_names=["blue", "green", "red"],
    )  # fmt: skip
    by_model.train()
    assert by_model.model.deployable() is ours and by_model.args.eval_strategy == "no"
    with pytest.raises(InputError, match="a search makes the network anew"):
        by_model.hyperparameter_search(n_trials=1)
    classifier = student.model.deployable()
    args = StudentArguments(str(tmp_path / "b"), method="sskd", head_epochs=1, **options)
    sskd = StudentTrainer(config, args, teacher=classifier, train_dataset=labelled["train"])
    sskd.train()
    assert list(tmp_path.glob("b/sskd_head-*.safetensors"))


@pytest.mark.parametrize(
    "words, make",
    [
        ("train_dataset is missing", lambda d, t: StudentTrainer(args=StudentArguments(t, method="supervised"))),
        (
            "TeacherTrainer takes the arguments of a method among byol or dogo or moco or seed or simclr",
            lambda d, t: TeacherTrainer(args=StudentArguments(t, method="supervised"), train_dataset=d["train"]),
        ),
        (
            "method kd needs teacher",
            lambda d, t: StudentTrainer(args=StudentArguments(t, method="kd"), train_dataset=d["train"]),
        ),
        (
            "data_collator cannot be given",
            lambda d, t: StudentTrainer("resnet18", data_collator=len, train_dataset=d["train"]),
        ),
        (
            "has no classifier: fine-tune it first",
            lambda d, t: StudentTrainer(
                args=StudentArguments(t, method="kd"), teacher="fashion-vipriors-teacher", train_dataset=d["train"]
            ),
        ),
        (
            "no labelled train split",
            lambda d, t: StudentTrainer(
                args=StudentArguments(t, method="supervised"), train_dataset=d["train"].remove_columns("label")
            ),
        ),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_work_is_one_line_and_leaves_nothing(labelled, tmp_path, words, make):
    with pytest.raises(InputError, match=words) as error:
        make(labelled, str(tmp_path / "run"))
    assert "\n" not in error.value.on_command_line and not (tmp_path / "run").exists()


def test_the_arguments_lie_beside_a_checkpoint_in_words(student):
    newest = next(Path(student.args.output_dir).glob("checkpoint-*"))
    args = json.loads((newest / "training_args.json").read_text())
    assert args["method"] == "fixmatch" and args["ema_decay"] == 0.995
