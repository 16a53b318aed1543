"""Images, networks and teachers as people hand them to a trainer: taken as they are meant, or refused in one line."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Image
from huggingface_hub import ModelCard
from PIL import Image as Picture
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from hf_vipriors import StudentArguments, StudentTrainer, TeacherArguments, TeacherTrainer, VipriorsConfig
from hf_vipriors.data import ImageStore, labels_for
from hf_vipriors.errors import InputError
from hf_vipriors.hub.teachers import load_teacher
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import DataArguments
from hf_vipriors.training.signals import Interrupted

SMALL = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
QUICK = {"backbone_args": SMALL, "image_size": 32, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
QUICK |= {"max_steps": 1, "save_strategy": "no", "per_device_train_batch_size": 6}
COLOURS = {"cat": (220, 40, 40), "dog": (40, 200, 40), "emu": (40, 40, 220)}


def photos(names=tuple(COLOURS), count=4, seed=0, order=None, column="label"):
    """``count`` images of each class, noise around its colour; ``order``: as declared, else as text."""
    random, images, labels = np.random.default_rng(seed), [], []
    for name in names:
        for _ in range(count):
            noise = random.normal(0, 30, (32, 32, 3)) + COLOURS[name]
            images.append(Picture.fromarray(noise.clip(0, 255).astype(np.uint8)))
            labels.append(name)
    found = Dataset.from_dict({"image": images, column: labels})
    return found if order is None else found.cast_column(column, ClassLabel(names=list(order)))


def student(tmp_path, train=None, method="supervised", given=None, **options):
    args = StudentArguments(str(tmp_path / "student"), method=method, **QUICK | (given or {}))
    return StudentTrainer(options.pop("model", "resnet18"), args, train_dataset=train or photos(), **options)


def teacher(tmp_path, train, given=None, **options):
    args = TeacherArguments(str(tmp_path / "teacher"), method="simclr", projector_dim=8, **QUICK | (given or {}))
    return TeacherTrainer("resnet18", args, train_dataset=train, **options)


def network(names=tuple(COLOURS), **options):
    config = VipriorsConfig.for_backbone("resnet18", image_size=32, backbone_args=SMALL, class_names=names, **options)
    return VipriorsForImageClassification(config)


# Classes


def test_a_classifier_keeps_the_order_of_its_classes(tmp_path):
    model, images = network(), photos(order=["emu", "dog", "cat"])
    trainer = student(tmp_path, images, model=model, eval_dataset=images)
    assert trainer.class_names == ["cat", "dog", "emu"]
    assert trainer.train_dataset.labels.tolist() == trainer.eval_dataset.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    fewer = photos(["cat", "emu"])
    wider = student(tmp_path, fewer, model=network(["cat", "dog", "emu"]), eval_dataset=fewer)
    assert wider.class_names == ["cat", "dog", "emu"] and set(wider.train_dataset.labels.tolist()) == {0, 2}
    assert {"eval_top1", "eval_loss"} <= wider.evaluate().keys()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat", "dog"], "the images have 'emu', which the model does not know"),
        ([f"LABEL_{i}" for i in range(5)], "the model has 5 outputs, the images 3 classes"),
    ],
)
def test_a_classifier_of_other_classes_is_refused(tmp_path, names, words):
    with pytest.raises(InputError, match=words):
        student(tmp_path, model=network(names))


def test_a_student_needs_two_classes(tmp_path):
    with pytest.raises(InputError, match="only one class .*-1 count as hidden"):
        student(tmp_path, photos().remove_columns("label").add_column("label", [-1] * 6 + [1] * 6))


def test_later_images_are_read_from_the_columns_that_were_trained_on(tmp_path):
    train = photos(column="category")
    later = train.add_column("label", ["dog", "emu", "cat"] * 4)
    trainer = student(tmp_path, train, eval_dataset=later)
    assert torch.equal(trainer.store_of(later).labels, trainer.eval_dataset.labels)


def test_columns_that_were_chosen_are_those_of_images_that_have_them(tmp_path):
    train = photos(column="species").rename_column("image", "img").add_column("label", list(range(12)))
    data = DataArguments(image_column="img", label_column="species")
    bare = photos(seed=1).remove_columns("label")
    trainer = student(tmp_path, train, "fixmatch", data=data, eval_dataset=train, unlabelled_dataset=bare)
    assert trainer.class_names == sorted(COLOURS) and len(trainer.train_dataset.store) == 24
    assert trainer.predict(bare).label_ids is None
    assert trainer.predict(train).label_ids.tolist() == trainer.eval_dataset.labels.tolist()


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (
            photos(column="species"),
            r"needs labels .*: name its column by label_column .*species \(string\)",
        ),
        (
            photos().remove_columns("label").add_column("label", [[1, 0, 0]] * 12),
            "needs labels .*: column 'label' .* has up to 3 labels an image, and one is needed: .*one-hot",
        ),
        (
            photos().remove_columns("label").add_column("label", [-1] * 12),
            r"needs labels .*: all labels in its column 'label' are hidden \(-1 or missing\)",
        ),
    ],
    ids=["another name", "one-hot", "hidden"],
)
def test_a_student_without_labels_says_why_none_were_found(tmp_path, train, words):
    with pytest.raises(InputError, match=words):
        student(tmp_path, train)


# What is measured on is not trained on


def test_images_to_validate_on_without_labels_are_no_training_images(tmp_path):
    train, bare = photos(), photos(seed=1).remove_columns("label")
    trainer = teacher(tmp_path, train, eval_dataset=bare)
    assert len(trainer.train_dataset) == 12 and len(trainer.eval_dataset) == 12
    assert "eval_effective_rank" in trainer.evaluate() and "eval_knn_top1" not in trainer.evaluate()
    assert trainer.validation_results() == {}
    with pytest.raises(
        InputError, match=r"eval_dataset has no label \(columns: image .*called as those of train_dataset"
    ):
        student(tmp_path, train, eval_dataset=bare)


@pytest.mark.parametrize("text", [True, False], ids=["text", "numbers"])
def test_images_to_validate_on_whose_label_is_missing_are_no_training_images(tmp_path, text):
    train, pool = photos(), photos(seed=2).remove_columns("label")
    known = [name if text else list(COLOURS).index(name) for name in train["label"]]
    train = train.remove_columns("label").add_column("label", known)
    hidden = [None if text else -1] * 9
    validation = photos(seed=1).remove_columns("label").add_column("label", hidden + known[9:])
    learner = student(tmp_path, train, "fixmatch", eval_dataset=validation, unlabelled_dataset=pool)
    assert len(learner.train_dataset.store) == 24 and len(learner.eval_dataset) == 3
    assert len(teacher(tmp_path, train, eval_dataset=validation).train_dataset) == 12
    with pytest.raises(InputError, match="give unlabelled_dataset"):
        student(tmp_path, train, "fixmatch", eval_dataset=validation)


def test_a_teacher_without_labels_is_measured_on_what_was_given(tmp_path):
    train, validation = photos(count=8).remove_columns("label"), photos(seed=1)
    trainer = teacher(tmp_path, train, eval_dataset=validation)
    assert len(trainer.eval_dataset) == 12 and trainer.eval_dataset.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert "eval_effective_rank" in trainer.evaluate() and len(trainer.predict(validation).predictions) == 12
    with pytest.raises(InputError, match="kNN needs labelled images"):
        teacher(tmp_path, train, {"load_best_model_at_end": True, "save_strategy": "steps"}, eval_dataset=validation)


def test_copies_are_said_in_python_too(tmp_path):
    images = photos()
    trainer = student(tmp_path, images, eval_dataset=images)
    trainer.train()
    assert "copies_train_validation" in {each["kind"] for each in trainer.guards.found()}


# What would not be read is refused


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("train_dataset is a list, not a datasets.Dataset", {"train": [1]}),
        ("train_dataset is a DatasetDict of several splits: .*'train'", {"train": DatasetDict(train=photos())}),
        ("train_dataset is an IterableDataset", {"train": photos().to_iterable_dataset()}),
        ("eval_dataset has no rows", {"eval_dataset": photos().select([])}),
        ("train_dataset has a transform", {"train": photos().with_transform(lambda rows: rows)}),
        ("would not read unlabelled_dataset", {"unlabelled_dataset": photos()}),
        ("images_per_class, label_noise", {"data": DataArguments(images_per_class=2, label_noise=0.5)}),
        (
            "load_best_model_at_end needs eval_dataset",
            {"given": {"load_best_model_at_end": True, "save_strategy": "steps"}},
        ),
        (
            "'f1' for metric_for_best_model: choose from 'loss', 'top1', 'top5'",
            {"given": {"metric_for_best_model": "eval_f1"}, "eval_dataset": photos()},
        ),
        ("class_names are of image stores", {"class_names": list(COLOURS)}),
        (
            "train_dataset has label 2, and there are 2 classes",
            {
                "train": ImageStore(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3)),
                "class_names": ["cat", "dog"],
            },
        ),
        ("settings_of are of the command", {"given": {"settings_of": "elsewhere"}}),
        ("'fixmatch' learns from images without labels too: give unlabelled_dataset", {"method": "fixmatch"}),
        ("'supervised' learns from images without labels too", {"given": {"propagate_labels": True}}),
        ("model '.' is a folder: give load_teacher", {"model": "."}),
        ("two teachers", {"method": "kd", "teacher": network(), "given": {"teacher": "other"}}),
        (
            "the teacher knows 'dog' at another place",
            {"train": photos(["dog", "emu"]), "method": "kd", "teacher": network(["cat", "dog"])},
        ),
        ("image_mean differ from what timm has", {"model": network(image_mean=[0.5] * 3).config}),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_nothing_would_read_is_refused(tmp_path, words, options):
    options = {"train": photos(), **options}
    with pytest.raises(InputError, match=words):
        student(tmp_path, options.pop("train"), **options)


def test_plain_arguments_are_named_with_those_to_use(tmp_path):
    with pytest.raises(InputError, match="TrainingArguments: use TeacherArguments or PretrainArguments"):
        TeacherTrainer("resnet18", TrainingArguments(str(tmp_path), use_cpu=True), train_dataset=photos())


def test_push_to_hub_as_an_option_says_what_pushes(tmp_path, caplog):
    student(tmp_path, given={"push_to_hub": True, "hub_model_id": "me/mine"})
    (said,) = [each for each in caplog.records if "push_to_hub" in each.message]
    assert said.levelname == "WARNING" and "call trainer.push_to_hub()" in said.message


def test_a_model_says_what_the_arguments_are(tmp_path):
    trainer = student(
        tmp_path, model=network(), given={"image_size": 64, "backbone_args": None, "backbone": "resnet50"}
    )
    assert (trainer.args.backbone, trainer.args.image_size, trainer.args.backbone_args) == ("resnet18", 32, SMALL)


def test_half_precision_weights_are_trained_in_full(tmp_path):
    trainer = student(tmp_path, model=network().half())
    trainer.train()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_a_teacher_that_was_handed_over_stays_as_it_was(tmp_path):
    model = network().train()
    student(tmp_path, method="kd", teacher=model).train()
    assert model.training and all(p.requires_grad for p in model.parameters())
    student(tmp_path, model=model).train()


def test_an_optimizer_of_other_parameters_is_refused(tmp_path):
    other = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(InputError, match=r"optimizers: \d+ parameters of the method are in no group"):
        student(tmp_path, optimizers=(other, None)).train()


# What is set later


def test_what_was_made_with_the_trainer_is_not_set_later(tmp_path):
    trainer = student(tmp_path, eval_dataset=photos(seed=1))
    assert not trainer.setup.resolved.set_since(trainer.args)
    trainer.args.knn_neighbours, trainer.args.learning_rate, trainer.args.max_steps = 5, 0.01, 2
    trainer.train()
    trainer.create_model_card()
    assert trainer.state.global_step == 2
    trainer.args.mixup, trainer.args.per_device_train_batch_size = 0.5, 4
    trainer.args.crop_scale[0] = 0.2
    for call in (trainer.train, trainer.create_model_card):
        with pytest.raises(
            InputError, match="crop_scale, mixup, per_device_train_batch_size set after .*: give them to"
        ):
            call()


def test_a_search_begins_with_what_was_set_before_it(tmp_path):
    trainer = student(tmp_path, eval_dataset=photos(seed=1), given={"eval_strategy": "no"})
    trainer.setup.title = "mine"
    trainer.args.weight_decay, trainer.args.mixup = 0.25, 0.5
    seen = []

    def objective(found):
        seen.append(trainer.setup.args)
        return 1.0

    options = {"compute_objective": objective, "n_trials": 1, "direction": "maximize", "backend": "optuna"}
    trainer.hyperparameter_search(hp_space=lambda trial: {"cutmix": 0.5}, **options)
    trainer.train()
    trial, made = *seen, trainer.setup.args
    assert (trial.weight_decay, trial.mixup, trial.cutmix) == (0.25, 0.5, 0.5)
    assert (made.weight_decay, made.mixup, made.cutmix) == (0.25, 0.5, 0) and trainer.model.mixer is not None
    assert trainer.setup.title == "mine"
    trainer.eval_dataset = photos(count=2, seed=2)
    trainer.train()
    assert len(trainer.eval_dataset) == 6, "set after the search"


def test_no_search_where_a_model_to_start_from_was_handed_over(tmp_path):
    trainer = student(tmp_path, eval_dataset=photos(seed=1), teacher=network())
    with pytest.raises(InputError, match="a teacher to start from by its folder or name"):
        trainer.hyperparameter_search(hp_space=lambda trial: {}, n_trials=1, backend="optuna")


def test_a_search_keeps_the_best_of_its_trials_and_not_the_worst(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Trainer, "hyperparameter_search", lambda self, *given, **options: asked.append(given))
    metrics = {"eval_loss": 2.0, "eval_top1": 0.5, "eval_top5": 0.75}
    for given, expected in (
        ({}, (0.5, "maximize")),
        ({"metric_for_best_model": "eval_top5"}, (0.75, "maximize")),
        ({"metric_for_best_model": "loss"}, (2.0, "minimize")),
    ):
        trainer = student(tmp_path, eval_dataset=photos(seed=1), given=given)
        trainer.hyperparameter_search(n_trials=3)
        _, objective, trials, direction, *_ = asked.pop()
        assert (objective(metrics), direction) == expected and trials == 3
        worst = {"maximize": "minimize", "minimize": "maximize"}[direction]
        with pytest.raises(InputError, match=f"direction '{worst}' needs compute_objective"):
            trainer.hyperparameter_search(direction=worst)
        with pytest.raises(InputError, match="no evaluation measures"):
            objective({})
    with pytest.raises(InputError, match="the objective needs a direction"):
        trainer.hyperparameter_search(compute_objective=lambda found: found["eval_top1"])
    assert not asked


def test_a_search_trains_on_image_stores_too(tmp_path):
    store = ImageStore(torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8), torch.arange(12) % 2)
    trainer = student(tmp_path, store, eval_dataset=store)
    options = {"n_trials": 1, "backend": "optuna", "compute_objective": lambda found: found["eval_top1"]}
    options["direction"] = "maximize"
    assert trainer.hyperparameter_search(hp_space=lambda trial: {"mixup": 0.5}, **options).objective >= 0


def test_images_to_validate_on_may_be_set_later(tmp_path):
    trainer = student(tmp_path, given={"eval_strategy": "epoch"})
    assert trainer.args.eval_strategy == "no"
    trainer.eval_dataset = photos(count=2, seed=1)
    trainer.train()
    trainer.create_model_card()
    assert len(trainer.eval_dataset) == 6 and "eval_top1" in trainer.state.log_history[-2]
    assert "validation: 6" in (tmp_path / "student" / "README.md").read_text()
    trainer.eval_dataset = None
    assert trainer.args.eval_strategy == "no" and trainer.validation_results() == {}
    trainer.args.eval_strategy = IntervalStrategy.STEPS
    trainer.eval_dataset = photos(count=2, seed=1)
    assert trainer.args.eval_strategy == "steps", "what a person has set"
    trainer.eval_dataset = None
    assert trainer.args.eval_strategy == "no"
    for images, words in (
        (photos().remove_columns("label"), "eval_dataset has no label"),
        (DatasetDict(test=photos()), "eval_dataset is a DatasetDict of several splits"),
        (ImageStore(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(2)), "of the kind that train_dataset is"),
    ):
        with pytest.raises(InputError, match=words):
            trainer.eval_dataset = images
    with pytest.raises(InputError, match="train_dataset stays: .* make a new trainer"):
        trainer.train_dataset = photos()


# What comes back


def test_figures_of_numpy_are_numbers_and_keep_their_prefix(tmp_path):
    given = {"max_steps": 2, "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    given |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_mine"}
    found = {"eval_mine": np.float32(0.5), "count": torch.tensor(3)}
    trainer = student(tmp_path, eval_dataset=photos(seed=1), given=given, compute_metrics=lambda given: found)
    trainer.train()
    figures = trainer.evaluate()
    assert figures["eval_mine"] == 0.5 and figures["eval_count"] == 3
    for gives, words in (
        ({"odd": np.zeros(2)}, "'odd' is a ndarray"),
        (None, "gave a NoneType"),
        (0.5, "gave a float"),
    ):
        with pytest.raises(InputError, match=f"compute_metrics.*{words}"):
            student(tmp_path, eval_dataset=photos(), compute_metrics=lambda given, gives=gives: gives).evaluate()


def test_a_card_has_the_figures_of_the_weights_that_it_lies_beside(tmp_path, caplog):
    trainer = student(tmp_path, eval_dataset=photos(["cat"]))
    for says, top1 in (("dog", 0.0), ("cat", 1.0)):
        bias = trainer.model.deployable().backbone.get_classifier().bias
        bias.data = torch.tensor([1e3 * (name == says) for name in trainer.class_names])
        trainer.create_model_card()
        (figure, *_) = ModelCard.load(tmp_path / "student" / "README.md").data.eval_results
        assert figure.metric_value == top1
    card = tmp_path / "student" / "README.md"
    card.write_text("mine")
    trainer.create_model_card()
    assert card.read_text() == "mine" and "README.md stays as it is: it was edited by hand" in caplog.text
    trainer.results = {"test": "of the weights before"}
    trainer.train()
    assert trainer.results is None


def test_the_loss_of_a_resumed_training_is_that_of_the_whole(tmp_path):
    given = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = student(tmp_path, given=given).train()
    again = student(tmp_path, given=given).train(resume_from_checkpoint=str(tmp_path / "student" / "checkpoint-2"))
    finished = student(tmp_path, given=given).train(resume_from_checkpoint=True)
    assert whole.training_loss == pytest.approx(again.training_loss, rel=1e-6)
    assert whole.training_loss == pytest.approx(finished.training_loss, rel=1e-6)
    with pytest.raises(InputError, match="is no checkpoint of a training: give one of .*checkpoint-4"):
        student(tmp_path, given=given).train(resume_from_checkpoint=str(tmp_path / "student"))


def test_predictions_stand_beside_their_rows(tmp_path):
    images = photos().cast_column("image", Image(decode=False))
    broken = images.map(
        lambda row, at: {"image": {"bytes": b"x", "path": None}} if at == 3 else row, with_indices=True
    )
    trainer = student(tmp_path, data=DataArguments(on_bad_image="skip"))
    with pytest.raises(InputError, match="1 of 12 images cannot be read"):
        trainer.predict(broken)
    assert trainer.evaluate(broken)["eval_top1"] >= 0, "figures are of those that can be read"


def test_ctrl_c_is_a_keyboard_interrupt_with_an_exit_code():
    with pytest.raises(KeyboardInterrupt):
        raise Interrupted(2, "stopped", goes_on=False)
    assert Interrupted(2, "stopped", goes_on=False).code == 130


def test_a_finished_student_is_loaded_and_trained_on(tmp_path):
    first = student(tmp_path, photos(order=["emu", "dog", "cat"]))
    first.save_model()
    again = student(tmp_path, model=load_teacher(str(tmp_path / "student")), eval_dataset=photos(seed=1))
    assert again.class_names == ["emu", "dog", "cat"]
    assert torch.equal(again.eval_dataset.labels, torch.from_numpy(labels(photos(seed=1), again.class_names)))


def labels(images, names):
    return np.array(labels_for(images, names, "later")["label"][:])
