import json

import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend

from hf_vipriors.data import ImageSplits, ImageStore
from hf_vipriors.methods import Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.search.space import SearchSpace
from hf_vipriors.search.trials import JOURNAL, STUDY, SearchTrainer, trial_arguments
from hf_vipriors.training import DataArguments, StudentArguments
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.setup import Setup
from hf_vipriors.views import ClassificationViews

STATS = {"mean": [0.5] * 3, "std": [0.25] * 3}
NAMES = ["class0", "class1", "class2", "class3"]
SPACE = {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}, "label_smoothing": [0.0, 0.1]}


def store(count):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return ImageStore(images, torch.arange(count) % 4)


@pytest.fixture
def searcher(tiny_config, tmp_path):
    """``searcher(space, ...)``: a trainer of trials, and the list of what each trial was trained with."""
    stores = {"train": store(20), "validation": store(8)}

    def make(space=None, **options):
        seen = []

        def set_up_trial(args):
            torch.manual_seed(0)
            resolved = resolve(args, images=20)
            smoothing = resolved.args.label_smoothing
            method = Supervised(VipriorsForImageClassification(tiny_config()), label_smoothing=smoothing)
            seen.append((args, method))
            splits, views = ImageSplits({}, NAMES), ClassificationViews(32, **STATS)
            return Setup(args, resolved, DataArguments(), splits, stores, method, views)

        given = StudentArguments(
            method="supervised",
            output_dir=str(tmp_path / "run"),
            use_cpu=True,
            num_train_epochs=1,
            **({"per_device_train_batch_size": 10} | options),
        )
        space = SearchSpace.of(space or SPACE)
        trainer = SearchTrainer(space, given, set_up_trial(trial_arguments(given, {})), set_up_trial)
        seen.clear()
        return trainer, seen

    return make


def test_each_trial_trains_a_fresh_student_with_what_it_drew(searcher, tmp_path):
    trainer, seen = searcher({**SPACE, "num_train_epochs": [1, 2], "per_device_train_batch_size": [5, 10]})
    rates, steps = [], []
    log = trainer.log

    def spy(logs, *rest):
        if "train_runtime" in logs:
            rates.append(trainer.optimizer.defaults["lr"])
            steps.append(trainer.state.global_step)
        log(logs, *rest)

    trainer.log = spy
    done = trainer.search(4, tmp_path / "search")
    assert [trial.number for trial in done] == [0, 1, 2, 3]
    assert rates == [trial.settings["learning_rate"] for trial in done] and len(set(rates)) == 4
    epochs_and_batches = [(t.settings["num_train_epochs"], t.settings["per_device_train_batch_size"]) for t in done]
    assert steps == [epochs * 20 // batch for epochs, batch in epochs_and_batches] and len(set(steps)) > 1
    assert [m.label_smoothing for _, m in seen] == [trial.settings["label_smoothing"] for trial in done]
    assert len({id(method) for _, method in seen}) == 4
    assert all(0 <= trial.validation_top1 <= 1 and trial.seconds > 0 for trial in done)


def test_trials_are_quiet_and_leave_only_the_journal(searcher, tmp_path):
    trainer, seen = searcher(save_strategy="steps", save_steps=1, eval_steps=1)
    trainer.search(2, tmp_path / "search")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {JOURNAL}
    assert not any(type(c).__name__ == "ProgressBar" for c in trainer.callback_handler.callbacks)
    assert sum("eval_top1" in log for log in trainer.state.log_history) == 1, "validated once, at the end"


def left_running(folder):
    """What a process that was killed outright leaves: a trial that runs for ever."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    optuna.load_study(study_name=STUDY, storage=storage).ask()


def test_search_that_was_killed_draws_what_it_would_have_drawn(searcher, tmp_path):
    whole = searcher()[0].search(5, tmp_path / "whole")

    def killed(done):
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searcher()[0].search(5, tmp_path / "halves", killed)
    trainer, seen = searcher()
    measure = trainer.measure
    trainer.measure = lambda store: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):  # within a trial, which is then run again
        trainer.search(5, tmp_path / "halves")
    trainer.measure = measure
    left_running(tmp_path / "halves")
    halves = trainer.search(5, tmp_path / "halves")
    assert len(seen) == 4, "one that was killed, and the three that were missing"
    assert [(t.settings, t.validation_top1) for t in halves] == [(t.settings, t.validation_top1) for t in whole]
    assert len({json.dumps(trial.settings) for trial in whole}) == 5, "no two alike"


def test_a_search_that_is_over_trains_nothing(searcher, tmp_path):
    done = searcher()[0].search(2, tmp_path / "search")
    trainer, seen = searcher()
    assert trainer.search(2, tmp_path / "search") == done and not seen
    assert trainer.search(1, tmp_path / "search") == done[:1] and not seen


def test_other_seeds_draw_otherwise(searcher, tmp_path):
    first, second = (searcher(seed=seed)[0].search(2, tmp_path / str(seed))[1].settings for seed in (0, 1))
    assert first != second


def test_trial_that_diverges_scores_nothing_and_stops_nobody(searcher, tmp_path):
    trainer, _ = searcher({"learning_rate": [100.0], "weight_decay": [100.0], "label_smoothing": [0.0, 0.1]})
    done = trainer.search(2, tmp_path / "search")
    assert [trial.validation_top1 for trial in done] == [0.0, 0.0]


def test_method_of_the_last_trial_is_released(searcher, tmp_path):
    trainer, _ = searcher()
    trainer.search(1, tmp_path / "search")
    assert trainer.model is None and trainer.model_wrapped is None


def test_the_first_trial_has_the_settings_that_were_given(searcher, tmp_path):
    space = {**SPACE, "weight_decay": {"low": 0.1, "high": 0.2}}
    trainer, _ = searcher(space, learning_rate=0.02, label_smoothing=0.1, weight_decay=1e-3)
    first, second = trainer.search(2, tmp_path / "search")
    assert (first.settings["learning_rate"], first.settings["label_smoothing"]) == (0.02, 0.1)
    assert 0.1 <= first.settings["weight_decay"] <= 0.2, "out of the space: drawn"
    assert second.settings["learning_rate"] != 0.02


def test_the_settings_that_were_given_come_first_even_after_a_kill_within_that_trial(searcher, tmp_path):
    trainer, _ = searcher(learning_rate=0.02, label_smoothing=0.1)
    begin = trainer.trial_setup

    def killed(trial):
        begin(trial)
        raise KeyboardInterrupt

    trainer.trial_setup = killed
    with pytest.raises(KeyboardInterrupt):
        trainer.search(2, tmp_path / "search")
    again, _ = searcher(learning_rate=0.02, label_smoothing=0.1)
    assert again.search(1, tmp_path / "search")[0].settings == {"learning_rate": 0.02, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    "given",
    [{}, {"learning_rate": 0.03}, {"base_learning_rate": 0.2}, {"learning_rate": 0.03, "base_learning_rate": 0.2}],
)
@pytest.mark.parametrize("name", ["learning_rate", "base_learning_rate"])
def test_the_first_trial_has_the_rate_of_a_run_without_a_search(name, given, searcher, tmp_path):
    trainer, seen = searcher({name: {"low": 1e-4, "high": 1.0, "log": True}}, **given)
    usual = resolve(trainer.given, images=20).args.learning_rate
    trainer.search(1, tmp_path / "search")
    assert resolve(seen[0][0], images=20).args.learning_rate == pytest.approx(usual, rel=1e-12)
