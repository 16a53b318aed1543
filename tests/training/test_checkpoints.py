import json
import os
import pty
import shutil
import signal

import pytest
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

from hf_vipriors.data import ImageStore
from hf_vipriors.errors import InputError
from hf_vipriors.methods import Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import StudentArguments, StudentTrainer, checkpoints
from hf_vipriors.training.checkpoints import checkpoint_state
from hf_vipriors.training.signals import STOPPING, Stopped
from hf_vipriors.views import ClassificationViews

NAMES = ["class0", "class1", "class2", "class3"]


class At(TrainerCallback):
    """Does something when a step has ended, or an evaluation."""

    def __init__(self, step, action, event="on_step_end"):
        self.step, self.action, self.event = step, action, event

    def _at(self, event, state):
        if (self.event, self.step) == (event, state.global_step):
            self.action()

    def on_step_begin(self, args, state, control, **kwargs):
        self._at("on_step_begin", state)

    def on_step_end(self, args, state, control, **kwargs):
        self._at("on_step_end", state)

    def on_evaluate(self, args, state, control, **kwargs):
        self._at("on_evaluate", state)

    def on_save(self, args, state, control, **kwargs):
        self._at("on_save", state)


@pytest.fixture
def trainer(tiny_config, tmp_path):
    """``trainer(At(...), save_steps=2)``: 20 images in batches of 5, 8 steps."""

    def make(*callbacks, **options):
        torch.manual_seed(0)
        defaults = {"save_steps": 3, "eval_steps": 4, "logging_steps": 4, "max_steps": 8, "save_total_limit": 3}
        args = StudentArguments(
            method="supervised", output_dir=str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, report_to="none",
            per_device_train_batch_size=5, **(defaults | options),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (20, 1, 32, 32), dtype=torch.uint8, generator=generator)
        store = ImageStore(images, torch.arange(20) % 4)
        method = Supervised(VipriorsForImageClassification(tiny_config()))
        views = ClassificationViews(32, mean=[0.5] * 3, std=[0.25] * 3)
        made = StudentTrainer(method, args, views=views, train_dataset=store, eval_dataset=store, class_names=NAMES)
        for callback in callbacks:
            made.add_callback(callback)
        return made

    return make


@pytest.fixture
def saved(tmp_path):
    """``saved(3, 6)``: checkpoints as they are sealed, with small files."""

    def make(*steps):
        for step in steps:
            staged = tmp_path / "run" / checkpoints.STAGING / f"checkpoint-{step}"
            staged.mkdir(parents=True)
            for name in (*checkpoints.NEEDED, "rng_state.pth"):
                (staged / name).write_bytes(f"{name} {step}".encode() * 50)
            checkpoints.seal(staged, tmp_path / "run" / staged.name)
        return tmp_path / "run"

    return make


def test_sealed_checkpoint_is_whole_and_leaves_nothing_beside_it(saved):
    run = saved(3)
    assert [path.name for path in run.iterdir()] == ["checkpoint-3"]
    assert checkpoints.damage(run / "checkpoint-3") is None


def test_everything_is_on_the_disk_before_the_rename_and_the_checksums_last(saved, monkeypatch):
    done = []
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda at: (done.append(os.path.basename(os.readlink(f"/proc/self/fd/{at}"))), sync(at))
    )
    monkeypatch.setattr(os, "rename", lambda *paths: (done.append("rename"), rename(*paths)))
    saved(3)
    files = sorted((*checkpoints.NEEDED, "rng_state.pth"))
    assert done == [*files, "checksums.json", "checkpoint-3", "rename", "run"]


def test_checkpoint_of_the_same_step_is_replaced(saved):
    run = saved(3)
    (run / "checkpoint-3" / "optimizer.pt").write_bytes(b"damaged")
    saved(3)
    assert checkpoints.damage(run / "checkpoint-3") is None and len(list(run.iterdir())) == 1


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "one bit": flip,
}


DAMAGED = [(kind, name) for kind in DAMAGES for name in (*checkpoints.NEEDED, "rng_state.pth", checkpoints.CHECKSUMS)]
DAMAGED.remove(("missing", checkpoints.CHECKSUMS))  # as one of an earlier version, below


@pytest.mark.parametrize(("kind", "name"), DAMAGED)
def test_damaged_newest_checkpoint_is_passed_over_and_said(saved, caplog, kind, name):
    run = saved(3, 6)
    DAMAGES[kind](run / "checkpoint-6" / name)
    with caplog.at_level("WARNING", "hf_vipriors"):
        assert checkpoints.newest_checkpoint(str(run)) == str(run / "checkpoint-3")
    (line,) = caplog.messages
    assert "checkpoint-6 is not whole" in line and (name in line or name == checkpoints.CHECKSUMS)


def test_checkpoint_of_an_earlier_version_is_taken_as_it_is_and_said(saved, caplog):
    run = saved(3)
    (run / "checkpoint-3" / checkpoints.CHECKSUMS).unlink()
    with caplog.at_level("INFO", "hf_vipriors"):
        assert checkpoints.newest_checkpoint(str(run)) == str(run / "checkpoint-3")
    assert "no checksums" in caplog.text


def test_nothing_whole_is_nothing_to_resume(saved):
    run = saved(10, 9)
    for folder in run.iterdir():
        flip(folder / "optimizer.pt")
    with pytest.raises(InputError, match="no whole checkpoint"):
        checkpoints.newest_checkpoint(str(run))


def test_what_a_kill_left_is_removed_when_the_run_starts_again(trainer, tmp_path):
    left = tmp_path / "run" / checkpoints.STAGING / "checkpoint-3"
    left.mkdir(parents=True)
    (left / "rng_state_7.pth").write_bytes(b"half")
    trainer(save_total_limit=None).train()
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["checkpoint-3", "checkpoint-6", "checkpoint-8"]
    assert not (tmp_path / "run" / "checkpoint-3" / "rng_state_7.pth").exists()


def test_run_that_is_resumed_after_its_last_step_takes_no_other(trainer):
    whole = trainer(max_steps=7)
    whole.train()
    again = trainer(max_steps=7)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 7
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_best_checkpoint_is_kept_under_its_own_name(trainer, tmp_path):
    options = {"load_best_model_at_end": True, "metric_for_best_model": "top1", "save_total_limit": 1}
    made = trainer(save_steps=2, eval_steps=2, **options)
    scores = iter([0.1, 0.9, 0.3, 0.2])
    made.measure = lambda store: (None, {"top1": next(scores)})
    made._load_best_model = lambda: None
    made.train()
    assert made.state.best_model_checkpoint == str(tmp_path / "run" / "checkpoint-4")
    assert (tmp_path / "run" / "checkpoint-4").is_dir()
    told = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    assert told["best_model_checkpoint"] == str(tmp_path / "run" / "checkpoint-4")


@pytest.mark.parametrize("number", STOPPING)
def test_signal_finishes_the_step_and_saves(trainer, tmp_path, number):
    assert signal.SIGHUP in STOPPING and signal.SIGTERM in STOPPING
    handlers = [signal.getsignal(one) for one in STOPPING]
    whole = trainer()
    whole.train()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(Stopped) as stop:
        trainer(At(4, lambda: os.kill(os.getpid(), number), "on_step_begin")).train()
    assert stop.value.code == 128 + number and stop.value.goes_on
    assert str(stop.value) == f"stopped by {number.name} at step 5: saved in {tmp_path / 'run' / 'checkpoint-5'}"
    assert handlers == [signal.getsignal(one) for one in STOPPING]
    resumed = trainer()
    resumed.train(resume_from_checkpoint=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    parts = [[log.get("classification") for log in each.state.log_history] for each in (whole, resumed)]
    assert parts[0] == parts[1] and sum(part is not None for part in parts[0]) == 2


@pytest.mark.parametrize(
    ("event", "step", "stopped"), [("on_evaluate", 4, 4), ("on_save", 6, 6), ("on_step_end", 8, 8)]
)
def test_signal_in_an_evaluation_a_save_or_the_last_step(trainer, event, step, stopped):
    made = trainer(At(step, lambda: os.kill(os.getpid(), signal.SIGTERM), event))
    # Before the trainer's own, so that the signal is there when these look.
    made.callback_handler.callbacks.insert(0, made.callback_handler.callbacks.pop())
    with pytest.raises(Stopped) as stop:
        made.train()
    assert f"at step {stopped}: saved in" in str(stop.value) and f"checkpoint-{stopped}" in str(stop.value)


def test_signal_without_checkpoints_says_that_nothing_was_saved(trainer, tmp_path):
    made = trainer(At(4, lambda: os.kill(os.getpid(), signal.SIGTERM), "on_step_begin"), save_strategy="no")
    with pytest.raises(Stopped, match="at step 5: nothing was saved") as stop:
        made.train()
    assert not stop.value.goes_on and not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_closed_terminal_saves_and_what_is_written_there_ends_nothing(trainer, tmp_path):
    """A pseudo-terminal as a session has it, whose other end is closed; and nohup, which wants the run to go on."""

    def hang_up():
        os.close(theirs)
        os.kill(os.getpid(), signal.SIGHUP)
        os.write(2, b"a bar")

    theirs, ours = pty.openpty()
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        os.dup2(ours, 2)
        with pytest.raises(Stopped, match=r"SIGHUP at step 5: saved in .*checkpoint-5"):
            trainer(At(4, hang_up, "on_step_begin")).train()
    finally:
        for saved, descriptor in zip(before, (1, 2), strict=True):
            os.dup2(saved, descriptor)
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trainer(At(4, lambda: os.kill(os.getpid(), signal.SIGHUP), "on_step_begin")).train()
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_second_interrupt_ends_at_once(trainer, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(At(4, twice, "on_step_begin")).train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-3"]


@pytest.fixture
def breaks(trainer):
    """``breaks(step, **options)``: a trainer whose weights become NaN at the end of a step."""

    def make(step, **options):
        made = trainer(**options)

        @torch.no_grad()
        def break_weights():
            next(made.model.parameters()).fill_(torch.nan)

        made.add_callback(At(step, break_weights))
        return made

    return make


def test_weights_that_are_no_numbers_never_replace_good_ones(breaks, tmp_path):
    made = breaks(5, save_steps=2, logging_steps=8, eval_strategy="no", save_total_limit=1)
    with pytest.raises(InputError, match=r"bn1.* is not finite at step 6.*checkpoint-4 is the last good"):
        made.train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-4"]
    kept = checkpoint_state(tmp_path / "run" / "checkpoint-4")
    assert all(tensor.isfinite().all() for tensor in kept.values())


def test_loss_that_is_no_number_names_step_parts_and_the_way_back(breaks, tmp_path):
    with pytest.raises(InputError, match=r"nan at step 6 \(not finite: classification\).*checkpoint-4 is"):
        breaks(5, save_steps=2, logging_steps=1, eval_strategy="no").train()
    assert checkpoints.newest_checkpoint(str(tmp_path / "run")) == str(tmp_path / "run" / "checkpoint-4")


def test_an_evaluation_that_meets_no_numbers_first_says_the_same(breaks):
    made = breaks(5, save_steps=2, logging_steps=8, eval_steps=5)
    with pytest.raises(InputError, match=r"not finite at step 5: .*lower learning_rate.*checkpoint-4 is") as error:
        made.train()
    assert "--max_grad_norm" in error.value.on_command_line


def test_a_training_whose_last_steps_diverged_is_not_finished(breaks):
    made = breaks(8, save_strategy="no", logging_steps=100, eval_strategy="no")
    with pytest.raises(InputError, match=r"conv1.* is not finite at step 8.*no checkpoint before"):
        made.train()


@pytest.mark.parametrize("named", [(), ("{}/run/checkpoint-4",)])
def test_disk_that_is_full_keeps_the_checkpoint_before(named, trainer, tmp_path, monkeypatch):
    named = [name.format(tmp_path) for name in named]
    made, sync = trainer(save_steps=2, eval_strategy="no"), os.fsync

    def full(descriptor):
        if made.state.global_step == 4:
            raise OSError(28, "No space left on device", *named)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    words = r"not be written.*No space left.*choose another output_dir; .*resume_from_checkpoint /.*/checkpoint-2\)"
    with pytest.raises(InputError, match=words):
        made.train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-2"]


def test_from_pretrained_reads_a_checkpoint_as_everywhere_in_the_ecosystem(trainer, tmp_path):
    from transformers import pipeline

    made = trainer(save_steps=4, eval_strategy="no", logging_steps=4)
    made.train()
    folder = tmp_path / "run" / "checkpoint-8"
    kept = made.model.deployable().backbone.state_dict()
    classifier = pipeline("image-classification", model=str(folder))
    assert all(torch.equal(kept[name], tensor) for name, tensor in classifier.model.timm_model.state_dict().items())
    assert checkpoint_state(folder).keys() == made.model.state_dict().keys()


def test_a_checkpoint_of_an_earlier_version_is_read(trainer, tmp_path):
    """Its one file held the whole state of the method."""
    made = trainer(save_steps=4, eval_strategy="no", logging_steps=4)
    made.train()
    old = tmp_path / "old"
    old.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in made.model.state_dict().items()}, old / checkpoints.MODEL)
    state, ours = checkpoint_state(old), made.model.state_dict()
    assert state.keys() == ours.keys() and all(torch.equal(state[name], ours[name]) for name in ours)
