"""A run goes on from a checkpoint as the run that it was, or is refused in one line; what may change is told."""

import json
import logging
import shutil

import pytest
import torch

from hf_vipriors.cli.student import main
from hf_vipriors.data import ImageStore
from hf_vipriors.errors import InputError
from hf_vipriors.methods import KnowledgeDistillation, Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import StudentArguments, StudentTrainer, resolve
from hf_vipriors.training.resumption import RECORD_FILE
from hf_vipriors.views import ClassificationViews

NAMES = ["ant", "bee", "cat", "dog"]
STEPS = 4  # of one epoch


def store(count=20, pixel=0, label=0):
    images = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 4
    images[3, 0, 4, 4] += pixel
    labels[0] += label
    return ImageStore(images, labels)


@pytest.fixture
def trainer(tiny_config, tmp_path):
    def make(*, images=None, names=NAMES, validation=8, teacher=None, **options):
        torch.manual_seed(0)
        plain = {"learning_rate": 0.1, "num_train_epochs": 1, "save_strategy": "epoch", "disable_tqdm": True}
        plain |= {"per_device_train_batch_size": 5, "use_cpu": True, "report_to": "none", "guards": False}
        network = VipriorsForImageClassification(tiny_config())
        if teacher is None:
            method, args = Supervised(network), StudentArguments(str(tmp_path), method="supervised", **plain | options)
        else:
            method = KnowledgeDistillation(network, teacher)
            args = StudentArguments(str(tmp_path), method="kd", **plain | {"teacher": "there"} | options)
        stores = {"train_dataset": images or store(), "eval_dataset": store(validation) if validation else None}
        views = ClassificationViews(32, mean=[0.5] * 3, std=[0.25] * 3)
        return StudentTrainer(method, args, views=views, class_names=names, **stores)

    return make


def log_of(caplog):
    return [record.getMessage() for record in caplog.records if "goes on from" in record.getMessage()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.2}, "learning_rate 0.1 -> 0.2"),
        ({"mixup": 0.3}, "mixup 0.0 -> 0.3"),
        ({"seed": 7}, "seed 42 -> 7"),
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type cosine -> linear"),
        ({"per_device_train_batch_size": 10}, "per_device_train_batch_size 5 -> 10"),
        ({"names": ["eel", "fox", "gnu", "hen"]}, "classes ant, bee, cat, dog -> eel, fox, gnu, hen"),
        ({"images": store(24)}, "20 training images -> 24"),
        ({"images": store(label=1)}, "training images have other labels"),
        ({"images": store(pixel=1)}, "training images are others"),
        ({"num_train_epochs": 0.5}, "num_train_epochs 1 -> 0.5, a run of 2 steps cannot go on from step 4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_decides_the_weights_stays(trainer, change, words):
    trainer().train()
    with pytest.raises(InputError, match="is of another run: ") as error:
        trainer(**change).train(resume_from_checkpoint=True)
    assert words in str(error.value) and "--overwrite_output_dir" in error.value.on_command_line
    assert "\n" not in str(error.value)


def test_the_same_learning_rate_may_be_given_or_follow(trainer):
    trainer(learning_rate=None).train()
    rate = 0.1 * 5 / 256
    trainer(learning_rate=rate).train(resume_from_checkpoint=True)
    with pytest.raises(InputError, match=r"another run: learning_rate 0\.00195\d* -> 0\.5; give"):
        trainer(learning_rate=0.5).train(resume_from_checkpoint=True)
    with pytest.raises(InputError, match=r"another run: base_learning_rate 0\.1 -> 0\.2; give"):
        trainer(learning_rate=None, base_learning_rate=0.2).train(resume_from_checkpoint=True)


def test_another_teacher_is_known_by_its_weights(trainer, tiny_config):
    teachers = [VipriorsForImageClassification(tiny_config()) for _ in range(2)]
    trainer(teacher=teachers[0]).train()
    trainer(teacher=teachers[0]).train(resume_from_checkpoint=True)
    with pytest.raises(InputError, match="the weights of teacher there are others"):
        trainer(teacher=teachers[1]).train(resume_from_checkpoint=True)


def test_an_ordinary_resumption_warns_of_nothing(trainer, caplog):
    trainer().train()
    again = trainer()
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        with caplog.at_level("INFO", "hf_vipriors"):
            again.train(resume_from_checkpoint=True)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not log_of(caplog) and not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_what_may_change_does_and_is_told_in_one_line(trainer, caplog):
    trainer().train()
    again = trainer(num_train_epochs=3, logging_steps=3, eval_strategy="no", dataloader_num_workers=1, validation=4)
    with caplog.at_level("INFO", "hf_vipriors"):
        again.train(resume_from_checkpoint=True)
    (line,) = log_of(caplog)
    assert line.startswith("goes on from ") and "--num_train_epochs 1 -> 3" in line
    assert "--logging_steps 0.02 -> 3" in line and "validation images 8 -> 4" in line
    steps = [entry["step"] for entry in again.state.log_history if "loss" in entry]
    assert steps == [1, 2, 3, 4, 6, 9, 12], "the logs of the new run are as it asks"


@pytest.mark.parametrize("options", [{}, {"lr_milestones": [2.0]}], ids=["cosine", "milestones"])
def test_a_longer_run_follows_the_schedule_of_its_length(trainer, options):
    rates = {}

    def follow(made, name):
        step, rates[name] = made.training_step, {}

        def counted(*args, **kwargs):
            rates[name][made.state.global_step] = [group["lr"] for group in made.optimizer.param_groups]
            return step(*args, **kwargs)

        made.training_step = counted
        return made

    follow(trainer(num_train_epochs=3, save_strategy="no", **options), "whole").train()
    trainer(**options).train()
    follow(trainer(num_train_epochs=3, **options), "longer").train(resume_from_checkpoint=True)
    assert sorted(rates["longer"]) == list(range(STEPS, 3 * STEPS))
    assert all(rates["whole"][step] == pytest.approx(rate) for step, rate in rates["longer"].items())


def test_another_number_of_processes_is_told_and_keeps_the_learning_rate(trainer, tmp_path, caplog):
    """Two processes wrote it, of 5 images each."""
    trainer(learning_rate=None).train()
    file = tmp_path / f"checkpoint-{STEPS}" / RECORD_FILE
    had = json.loads(file.read_text())
    rate = 2 * had["learning_rate"]
    file.write_text(json.dumps(had | {"world_size": 2, "global_batch": 10, "learning_rate": rate}))
    again = trainer(learning_rate=None, num_train_epochs=2)
    with caplog.at_level("INFO", "hf_vipriors"):
        again.train(resume_from_checkpoint=str(file.parent))
    assert "steps of 5 images in place of 10" in log_of(caplog)[0] and "_batch_size 10 would" in log_of(caplog)[0]
    assert again.args.learning_rate == rate
    third = trainer(learning_rate=None, num_train_epochs=3)
    third.train(resume_from_checkpoint=True)  # as many processes as wrote that one
    assert third.args.learning_rate == rate


@pytest.fixture
def as_of_two_processes(monkeypatch):
    """Nothing decides about a last batch of one image where there are two; one does for them here."""
    return lambda: monkeypatch.setattr(resolve, "_last_batch", lambda found, images: None)


@pytest.mark.parametrize("told_what_was_filled", [True, False])
def test_the_one_image_that_was_left_out_stays_out(told_what_was_filled, as_of_two_processes, trainer, tmp_path):
    """Of 21 images in batches of 5, from one process to two; and again by the same command."""
    options = {"images": store(21), "save_strategy": "steps", "save_steps": 3, "save_total_limit": 9}
    trainer(**options).train()
    file = tmp_path / "checkpoint-3" / RECORD_FILE
    record = json.loads(file.read_text())
    assert record["dataloader_drop_last"] and "dataloader_drop_last" in record["filled"]
    if not told_what_was_filled:  # as earlier versions
        del record["filled"]
        file.write_text(json.dumps(record))
    as_of_two_processes()
    for epochs, checkpoint in ((2, str(file.parent)), (3, True)):
        again = trainer(num_train_epochs=epochs, **options)
        assert not again.args.dataloader_drop_last
        again.train(resume_from_checkpoint=checkpoint)
        assert again.args.dataloader_drop_last and again.state.max_steps == epochs * STEPS


@pytest.mark.parametrize(("count", "had"), [(21, False), (22, True)])
def test_a_last_batch_that_cannot_stay_as_it_was_is_told(count, had, trainer, tmp_path, caplog):
    """Two processes fill a batch of one image up, and one cannot; of two images none would have been left out."""
    trainer(images=store(count), save_strategy="steps", save_steps=3, save_total_limit=9).train()
    file = tmp_path / "checkpoint-3" / RECORD_FILE
    record = {"world_size": 2, "dataloader_drop_last": had, "filled": ["dataloader_drop_last"] if had else []}
    file.write_text(json.dumps(json.loads(file.read_text()) | record))
    again = trainer(images=store(count))
    with caplog.at_level("INFO", "hf_vipriors"):
        again.train(resume_from_checkpoint=str(file.parent))
    change = "true -> false" if had else "false -> true"
    assert again.args.dataloader_drop_last != had and f"--dataloader_drop_last {change}" in log_of(caplog)[0]


def test_what_a_person_has_set_is_never_taken_from_the_checkpoint(trainer, tmp_path):
    trainer(learning_rate=None).train()
    changed = trainer(learning_rate=None)
    changed.args.learning_rate = 0.5
    with pytest.raises(InputError, match=r"another run: learning_rate 0\.00195\d* -> 0\.5; give"):
        changed.train(resume_from_checkpoint=True)
    file = tmp_path / f"checkpoint-{STEPS}" / RECORD_FILE
    record = json.loads(file.read_text()) | {"world_size": 2}
    del record["filled"]
    file.write_text(json.dumps(record))
    with pytest.raises(InputError, match="another run: dataloader_drop_last false -> true"):
        trainer(learning_rate=None, dataloader_drop_last=True).train(resume_from_checkpoint=str(file.parent))


@pytest.mark.parametrize("keeps", ["settings", "nothing"])
def test_a_checkpoint_of_an_earlier_version_goes_on(trainer, tmp_path, caplog, keeps):
    trainer().train()
    file = tmp_path / f"checkpoint-{STEPS}" / RECORD_FILE
    had = json.loads(file.read_text())
    for name in ("images", "class_names", "data", "teachers", "world_size"):
        del had[name]
    # They follow from the network, and were kept as they were given.
    had |= {name: None for name in ("backbone", "backbone_args", "image_size", "crop_pct")}
    file.write_text(json.dumps(had))
    if keeps == "nothing":
        file.unlink()
    else:
        with pytest.raises(InputError, match=r"mixup 0\.0 -> 0\.3"):
            trainer(mixup=0.3).train(resume_from_checkpoint=str(file.parent))
    with caplog.at_level("INFO", "hf_vipriors"):
        trainer().train(resume_from_checkpoint=str(file.parent))
    assert "images that could not be compared" in log_of(caplog)[0]


def test_a_command_on_other_classes_ends_before_it_writes(student_options, photos, contents, tmp_path, capsys):
    options = [*student_options, "--method", "supervised", "--output_dir", str(tmp_path / "run"), "--max_steps", "2"]
    main([*options, "--report_to", "none"])
    shutil.copytree(photos, tmp_path / "photos")
    for split in ("train", "validation", "test"):
        (tmp_path / "photos" / split / "red").rename(tmp_path / "photos" / split / "violet")
    before = contents(tmp_path / "run")
    for change in (["--data_dir", str(tmp_path / "photos")], ["--mixup", "0.3"]):
        with pytest.raises(SystemExit) as stop:
            main([*options, "--report_to", "none", "--resume_from_checkpoint", "true", *change])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert stop.value.code == 2 and f"{change[0]} " in line and "--overwrite_output_dir" in line
        assert contents(tmp_path / "run") == before
