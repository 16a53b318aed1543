import math

import pytest
import torch
import transformers.trainer
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from hf_vipriors.data import ImageStore, PairedSampler, PairedStore
from hf_vipriors.errors import InputError
from hf_vipriors.methods import SimCLR, Supervised
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel
from hf_vipriors.training import StudentArguments, StudentTrainer, TeacherArguments, TeacherTrainer
from hf_vipriors.training.callbacks import ProgressBar
from hf_vipriors.training.resolve import complete, resolve
from hf_vipriors.views import ClassificationViews, ContrastiveViews

STATS = {"mean": [0.5] * 3, "std": [0.25] * 3}
NAMES = ["class0", "class1", "class2", "class3"]


def store(count=20, side=32):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=generator)
    return ImageStore(images, torch.arange(count) % 4)


@pytest.fixture
def student_trainer(tiny_config, tmp_path):
    def make(callbacks=None, **options):
        torch.manual_seed(0)
        args = StudentArguments(
            method="supervised",
            output_dir=str(tmp_path / "run"),
            use_cpu=True,
            **({"per_device_train_batch_size": 5, "save_strategy": "no", "disable_tqdm": True} | options),
        )
        method = Supervised(VipriorsForImageClassification(tiny_config()), ema_decay=complete(args).args.ema_decay)
        data = {"train_dataset": store(), "eval_dataset": store(8), "class_names": NAMES}
        return StudentTrainer(method, args, views=ClassificationViews(32, **STATS), callbacks=callbacks, **data)

    return make


def test_sgd_gets_momentum_nesterov_and_decay_on_matrices_only(student_trainer):
    trainer = student_trainer(learning_rate=0.3, weight_decay=0.01, sgd_momentum=0.8)
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    decayed, plain = optimizer.param_groups
    assert (decayed["lr"], decayed["momentum"], decayed["nesterov"]) == (0.3, 0.8, True)
    assert decayed["weight_decay"] == 0.01 and all(p.ndim > 1 for p in decayed["params"])
    assert plain["weight_decay"] == 0 and all(p.ndim <= 1 for p in plain["params"]) and plain["params"]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.parameters() if p.requires_grad}


def test_decay_on_every_parameter_as_published(student_trainer):
    decayed, plain = student_trainer(weight_decay=0.01, decay_norm_and_bias=True).create_optimizer().param_groups
    assert any(p.ndim == 1 for p in decayed["params"]) and not plain["params"]


def test_average_holds_no_place_in_the_optimizer(student_trainer):
    trainer = student_trainer(ema_decay=0.9)
    held = {id(p) for group in trainer.create_optimizer().param_groups for p in group["params"]}
    assert not held & {id(p) for p in trainer.model.ema.parameters()}


def test_learning_rate_is_scaled_by_the_global_batch_also_in_a_library(student_trainer):
    trainer = student_trainer(gradient_accumulation_steps=2)
    assert trainer.args.learning_rate == pytest.approx(0.1 * 10 / 256)


@pytest.mark.parametrize(("options", "steps"), [({}, 4), ({"gradient_accumulation_steps": 3}, 2)])
def test_milestones_are_epochs_whatever_the_length(student_trainer, options, steps):
    trainer = student_trainer(max_steps=40, lr_milestones=[5], learning_rate=1.0, warmup_steps=0, **options)
    assert trainer.args.steps_per_epoch(20) == steps
    trainer.create_optimizer()
    schedule = trainer.create_scheduler(40)
    rates = []
    for _ in range(6 * steps):
        rates.append(schedule.get_last_lr()[0])
        trainer.optimizer.step()
        schedule.step()
    assert rates[5 * steps - 1] == pytest.approx(1.0) and rates[5 * steps] == pytest.approx(0.1)


def test_method_is_told_where_training_stands(student_trainer):
    trainer = student_trainer(num_train_epochs=2, logging_steps=1, gradient_accumulation_steps=2)
    told = []
    trainer.model.begin_step = lambda progress: told.append(("begin", progress))
    trainer.model.end_step = lambda progress: told.append(("end", progress))
    trainer.train()
    assert [name for name, _ in told] == ["begin", "end"] * 4, "once per optimizer step, not per micro-batch"
    assert [progress.step for _, progress in told] == [0, 1, 1, 2, 2, 3, 3, 4]
    assert [round(progress.epoch, 3) for _, progress in told] == [0, 0.5, 0.5, 1, 1, 1.5, 1.5, 2]
    assert told[-1][1].share == 1


def test_parts_are_averaged_over_the_window(student_trainer):
    trainer = student_trainer(num_train_epochs=1, logging_steps=2, eval_strategy="no")
    seen, compute = [], trainer.compute_loss

    def spy(*args, **kwargs):
        loss = compute(*args, **kwargs)
        seen.append(loss.item())
        return loss

    trainer.compute_loss = spy
    trainer.train()
    logs = [log for log in trainer.state.log_history if "classification" in log]
    assert [log["classification"] for log in logs] == pytest.approx([sum(seen[:2]) / 2, sum(seen[2:]) / 2], rel=1e-4)
    assert [log["loss"] for log in logs] == pytest.approx([log["classification"] for log in logs], rel=1e-4)


def test_views_depend_on_seed_and_step_alone(student_trainer):
    first, second = student_trainer(), student_trainer()
    torch.rand(7)
    batch = {"pixel_values": store().images[:4], "labels": torch.arange(4), "index": torch.arange(4)}
    views = [trainer._prepare_inputs(dict(batch))["views"][0] for trainer in (first, second, second)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])
    other = student_trainer(seed=7)._prepare_inputs(dict(batch))["views"][0]
    assert not torch.equal(other, views[0])


def test_chance_level_counts_what_meets_in_one_forward_pass(tiny_config, tmp_path):
    args = TeacherArguments(
        method="simclr",
        per_device_train_batch_size=8,
        gradient_accumulation_steps=3,
        output_dir=str(tmp_path / "run"),
        use_cpu=True,
    )
    method = SimCLR(VipriorsModel(tiny_config(projector_dim=8)))
    trainer = TeacherTrainer(
        method,
        args,
        bank=store(),
        train_dataset=store(),
        views=ContrastiveViews(32, **STATS),
        eval_dataset=store(8),
        class_names=NAMES,
    )
    bars = [callback for callback in trainer.callback_handler.callbacks if type(callback).__name__ == "ProgressBar"]
    assert bars[0].chance == pytest.approx(math.log(15))
    assert {"knn_top1", "feature_std"} <= trainer.measure(store(8))[1].keys()


class Table(TrainerCallback):
    """What transformers shows in a notebook, in place of its bar."""


@pytest.mark.parametrize("quiet", [False, True])
def test_there_is_one_display_of_progress_and_a_persons_own_stays(quiet, student_trainer, monkeypatch):
    def shown(**options):
        found = student_trainer(disable_tqdm=quiet, **options).callback_handler.callbacks
        return [each for each in found if isinstance(each, (Table, ProgressBar, ProgressCallback, PrinterCallback))]

    assert [type(each) for each in shown()] == ([] if quiet else [ProgressBar])
    own = PrinterCallback()
    assert own in shown(callbacks=[own]) and len(shown(callbacks=[own])) == 2 - quiet
    monkeypatch.setattr(transformers.trainer, "DEFAULT_PROGRESS_CALLBACK", Table)
    assert [type(each) for each in shown()] == ([] if quiet else [Table])


def test_batch_that_was_not_given_fits_itself(tmp_path):
    args = TeacherArguments(output_dir=str(tmp_path / "run"), use_cpu=True)
    assert resolve(args, images=1000).args.train_batch_size == 128
    assert resolve(args, images=48).args.train_batch_size == 24
    assert args.per_device_train_batch_size == 0, "what was given stays"
    given = TeacherArguments(output_dir=str(tmp_path / "run"), use_cpu=True, per_device_train_batch_size=64)
    with pytest.raises(InputError, match="larger than the data set"):
        resolve(given, images=48)


def test_labelled_and_unlabelled_images_are_paired_by_the_seed_of_the_data_where_it_is_given(student_trainer):
    whole = store()
    whole.labels[10:] = -1
    paired = PairedStore(whole, companions=1)
    samplers = [student_trainer(**seeds)._get_train_sampler(paired) for seeds in ({}, {"seed": 7}, {"data_seed": 7})]
    assert all(isinstance(sampler, PairedSampler) for sampler in samplers)
    first, by_seed, by_data_seed = map(list, samplers)
    assert first != by_seed == by_data_seed
