"""Each guard twice: trouble made on purpose in a real training is said, and a healthy one is silent."""

import pytest
import torch

from hf_vipriors.data import ImageStore
from hf_vipriors.methods import KnowledgeDistillation, SimCLR, Supervised
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel
from hf_vipriors.search.space import tuned_arguments
from hf_vipriors.search.trials import TRIAL_OPTIONS
from hf_vipriors.training import StudentArguments, StudentTrainer, TeacherArguments, TeacherTrainer, guards
from hf_vipriors.views import ClassificationViews, ContrastiveViews

STATS = {"mean": [0.5] * 3, "std": [0.25] * 3}
NAMES = ["class0", "class1", "class2", "class3"]
COMMON = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "report_to": "none", "warmup_steps": 0}


def coloured(count, *, noise=30.0, seed=0, wrong=0.0):
    """Four classes of four grey levels; ``wrong``: share of labels that say another class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    images = 40.0 + 55.0 * labels.view(-1, 1, 1, 1) + noise * torch.randn(count, 1, 32, 32, generator=generator)
    labels[: int(wrong * count)] = (labels[: int(wrong * count)] + 1) % 4
    return ImageStore(images.clamp(0, 255).to(torch.uint8), labels)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Conclusions after a few steps: these runs are short."""
    monkeypatch.setattr(guards, "SETTLED_STEPS", 4)


@pytest.fixture
def student(tiny_config, tmp_path):
    def make(train=None, validation=None, *, method="supervised", teacher=None, prepare=None, **options):
        options = {"per_device_train_batch_size": 10, "eval_strategy": "no", "logging_steps": 1} | options
        if teacher is not None:
            options |= {"teacher": "given", "method": "kd"}
        args = StudentArguments(
            output_dir=str(tmp_path / "run"), method=options.pop("method", method), **COMMON, **options
        )
        torch.manual_seed(0)
        network = VipriorsForImageClassification(tiny_config())
        method = Supervised(network) if teacher is None else KnowledgeDistillation(network, teacher)
        data = {"train_dataset": train or coloured(40), "eval_dataset": validation or coloured(48, seed=1)}
        trainer = StudentTrainer(method, args, views=ClassificationViews(32, **STATS), class_names=NAMES, **data)
        trainer.train()
        return trainer

    return make


@pytest.fixture
def teacher(tiny_config, tmp_path):
    def make(*, spoil=lambda method: None, validation=None, **options):
        options = {"per_device_train_batch_size": 16, "max_steps": 12, "eval_steps": 4, "logging_steps": 1} | options
        args = TeacherArguments(output_dir=str(tmp_path / "run"), method="simclr", **COMMON, **options)
        torch.manual_seed(0)
        method = SimCLR(VipriorsModel(tiny_config(projector_dim=8)))
        spoil(method)
        trainer = TeacherTrainer(
            method,
            args,
            bank=coloured(40),
            train_dataset=coloured(64),
            views=ContrastiveViews(32, **STATS),
            eval_dataset=validation or coloured(48, seed=1),
            class_names=NAMES,
        )
        trainer.train()
        return trainer

    return make


def kinds(trainer):
    return [each["kind"] for each in trainer.guards.found()]


def constant(method):
    """A network that sees nothing: every image has the same features."""
    for name, parameter in method.model.backbone.named_parameters():
        if name == "conv1.0.weight":
            parameter.data.zero_()
            parameter.requires_grad_(False)


# Healthy runs


def test_healthy_teacher_is_silent(teacher, caplog):
    trainer = teacher(max_steps=24, learning_rate=3e-3)
    assert kinds(trainer) == [] and "at step" not in caplog.text
    assert trainer.state.log_history[-2]["eval_effective_rank"] > guards.LEAST_RANK


def test_healthy_student_is_silent(student, caplog):
    trainer = student(max_steps=40, eval_strategy="steps", eval_steps=5, learning_rate=0.05)
    tops = [entry["eval_top1"] for entry in trainer.state.log_history if "eval_top1" in entry]
    assert max(tops) > 0.9, "it learns"
    assert kinds(trainer) == [] and "at step" not in caplog.text


# Trouble, each kind made on purpose


def test_a_network_that_sees_nothing_is_at_chance_and_collapsed(teacher, caplog):
    trainer = teacher(spoil=constant)
    assert set(kinds(trainer)) == {"loss_at_chance", "collapse", "knn_at_chance"}
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("at step")]
    assert len(lines) == 3 and not any("\n" in line for line in lines), "each once, in one line"
    assert all("--" in line for line in lines), "and what to change"
    assert not any("--projector_batch_norm" in line for line in lines), "SimCLR has it"


def test_a_wild_learning_rate_is_said(student):
    # Said at step 4; what becomes of it later, a loss of NaN too, is the processor's luck.
    trainer = student(max_steps=5, learning_rate=4.0)
    assert kinds(trainer) == ["loss_blew_up"]
    assert "lower --learning_rate (to 1" in trainer.guards.found()[0]["text"]


def test_a_new_term_of_the_loss_is_no_blow_up(student):
    watch = student(max_steps=1, learning_rate=0.01).guards
    for step in range(2, 6):
        watch._read({"step": step, "loss": 1.0, "classification": 1.0})
    for step in range(6, 12):
        watch._read({"step": step, "loss": 9.0, "classification": 1.0, "distillation": 8.0})
    assert watch.found() == []
    for step in range(12, 15):
        watch._read({"step": step, "loss": 19.0, "classification": 11.0, "distillation": 8.0})
    assert [each["kind"] for each in watch.found()] == ["loss_blew_up"]


def test_a_teacher_no_better_than_guessing(student, tiny_config, caplog):
    torch.manual_seed(1)
    guessing = VipriorsForImageClassification(tiny_config())
    trainer = student(teacher=guessing, max_steps=2, learning_rate=0.01)
    assert kinds(trainer) == ["teacher_at_chance"] and trainer.guards.found()[0]["step"] == 0


def test_a_good_teacher_is_nothing_to_speak_of(student):
    taught = student(max_steps=40, learning_rate=0.05).model.deployable()
    assert kinds(student(teacher=taught, max_steps=2, learning_rate=0.01)) == []


def test_predictions_that_hardly_ever_count_are_said_once_half_the_run_is_over(student):
    watch = student(max_steps=1, learning_rate=0.01).guards
    watch._begin(1000)
    watch._read({"step": 499, "loss": 1.0, "confident": 0.02})
    watch._read({"step": 600, "loss": 1.0, "confident": 0.5})
    assert watch.found() == []
    watch._read({"step": 700, "loss": 1.0, "confident": 0.026})
    (found,) = watch.found()
    assert found["kind"] == "few_confident" and found["text"].startswith("3 % of")
    assert found["text"].endswith("use --threshold relative, a lower --confidence or less --weight_decay")


def test_a_relative_threshold_and_mixup_change_what_is_advised_for_few_confident_predictions(student):
    watch = student(max_steps=1, learning_rate=0.01, mixup=0.3).guards
    watch.args.threshold = "relative"
    watch._begin(1000)
    watch._read({"step": 700, "loss": 1.0, "confident": 0.026})
    (found,) = watch.found()
    assert found["text"].endswith("use a lower --confidence or less --mixup and --weight_decay")


def test_few_images(student):
    trainer = student(coloured(18), coloured(38), max_steps=1)
    taught = student(coloured(18), teacher=student(max_steps=1).model.deployable(), max_steps=1).guards.found()
    assert next(each["text"] for each in taught if each["kind"] == "few_train_images").endswith(
        "add images (5 at least)"
    )
    found = {each["kind"]: each["text"] for each in trainer.guards.found()}
    assert found.keys() == {"few_train_images", "few_validation_images"}
    assert found["few_train_images"].endswith("add images (5 at least), or start from a --teacher")
    assert "'class2' has 4, 'class3' has 4;" in found["few_train_images"]
    assert "'class2' has 9, 'class3' has 9;" in found["few_validation_images"]


def by_heart():
    """What is right in training is wrong in validation: it falls from what guessing gives."""
    data = coloured(40, noise=5), coloured(48, noise=5, seed=1, wrong=1.0)
    return data, {"max_steps": 60, "eval_strategy": "steps", "eval_steps": 3, "learning_rate": 0.05}


def test_learnt_by_heart_while_validation_falls(student):
    data, options = by_heart()
    trainer = student(*data, **options)
    history = [entry for entry in trainer.state.log_history if "eval_top1" in entry]
    assert any(entry.get("eval_train_top1") == 1.0 for entry in history)
    assert "overfitting" in kinds(trainer)
    fell = next(each for each in trainer.guards.found() if each["kind"] == "overfitting")
    assert "--mixup" in fell["text"] and "100 % of the training images" in fell["text"]


def test_what_the_run_uses_already_is_not_advised(student):
    data, options = by_heart()
    trainer = student(*data, **options, ema_decay=0.5, mixup=1e-6)
    fell = next(each["text"] for each in trainer.guards.found() if each["kind"] == "overfitting")
    assert fell.endswith(": add --cutmix 1 or --auto_augment imagenet, lower --max_steps or use a --teacher")
    trainer.guards.warned, trainer.guards.taught = [], True
    trainer.guards._begin(60)
    for entry in trainer.state.log_history:
        trainer.guards._read(entry)
    fell = next(each["text"] for each in trainer.guards.found() if each["kind"] == "overfitting")
    assert fell.endswith(": add --cutmix 1 or --auto_augment imagenet or lower --max_steps"), "it has a teacher"


# What holds of all


def test_guards_change_no_weight_and_can_be_left_out(student):
    data, options = by_heart()
    with_guards, without = student(*data, **options), student(*data, guards=False, **options)
    assert any("eval_train_top1" in entry for entry in with_guards.state.log_history)
    ours, theirs = with_guards.model.state_dict(), without.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert without.guards.found() == []


def test_a_run_that_goes_on_says_what_the_whole_run_says(teacher):
    whole = teacher(spoil=constant)
    again = guards.Guards(whole.args, classes=4, validation_images=48, chance=whole.guards.chance)
    again.on_train_begin(whole.args, whole.state, whole.control)
    assert again.found() == whole.guards.found()


def test_trials_are_watched_by_nobody(tmp_path):
    given = StudentArguments(output_dir=str(tmp_path), method="supervised", **COMMON)
    assert given.guards and not tuned_arguments(given, TRIAL_OPTIONS).guards
