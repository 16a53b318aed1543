"""transformers' own callback for trackio, on a stand-in for the library: what it is told, and the card's link."""

import importlib
import sys

import pytest
from huggingface_hub import ModelCard

from hf_vipriors.cli.student import main
from hf_vipriors.search.trials import trial_arguments
from hf_vipriors.training import StudentArguments
from hf_vipriors.training.recipe_of_run import recipe_text
from hf_vipriors.training.run_files import read_run

LIBRARY = """
import contextvars
from types import SimpleNamespace

__version__ = "0.43.0"


class Config(dict):
    def update(self, values, allow_val_change):
        super().update(values)


logs, config, started = [], Config(), {}
context_vars = SimpleNamespace(current_space_id=contextvars.ContextVar("space", default=None))
finish = lambda: None

def init(**options):
    started.update(options)
    context_vars.current_space_id.set(options["space_id"])

def log(values):
    logs.append(values)

def freeze(*, new_space_id, **options):
    if new_space_id == "me/full":
        raise OSError("no room on the Hub")
    return new_space_id
"""


@pytest.fixture
def trackio(tmp_path, monkeypatch):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "trackio.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path / "library")
    yield importlib.import_module("trackio")
    del sys.modules["trackio"]


@pytest.fixture
def options(student_options, tmp_path):
    quick = ["--method", "supervised", "--max_steps", "2", "--save_strategy", "no", "--logging_steps", "1"]
    return [*student_options, *quick, "--output_dir", str(tmp_path / "student")]


def test_curves_are_kept_and_the_card_links_the_lasting_copy(trackio, options, logged_in, tmp_path):
    space = ["--trackio_space_id", "me/curves", "--trackio_static_space_id", "me/copy", "--project", "photos"]
    main([*options, "--report_to", "trackio", "--run_name", "first", *space])
    assert (trackio.started["project"], trackio.started["name"]) == ("photos", "first")
    assert len([each for each in trackio.logs if "train/classification" in each]) == 2
    assert trackio.config["method"] == "supervised"
    card = ModelCard.load(tmp_path / "student" / "README.md")
    assert "- Curves: [trackio](https://huggingface.co/spaces/me/copy)" in card.text
    assert card.data.tags[-2:] == ["trackio", "trackio:https://huggingface.co/spaces/me/copy"]
    recipe = recipe_text(read_run(tmp_path / "student"), {})
    assert "trackio" not in recipe and "project:" not in recipe, "nobody else may write there"


@pytest.mark.parametrize("copy", ["false", "me/full"])
def test_without_a_copy_the_live_space_is_linked(copy, trackio, options, logged_in, tmp_path):
    main([*options, "--report_to", "trackio", "--trackio_space_id", "me/curves", "--trackio_static_space_id", copy])
    assert "(https://huggingface.co/spaces/me/curves)" in (tmp_path / "student" / "README.md").read_text()


def test_on_this_machine_alone_nothing_is_linked(trackio, options, tmp_path):
    main([*options, "--report_to", "trackio"])
    assert trackio.started["space_id"] is None and "trackio" not in (tmp_path / "student" / "README.md").read_text()


@pytest.mark.parametrize(
    ("report_to", "words"),
    [("trackio", "not logged in: run `hf auth login`"), ("none", "--report_to trackio: add it")],
)
def test_a_space_that_cannot_be_is_refused_before_training(
    report_to, words, trackio, options, hub_here, tmp_path, capsys
):
    with pytest.raises(SystemExit) as stop:
        main([*options, "--report_to", report_to, "--trackio_space_id", "me/curves"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and "--trackio_space_id" in error and words in error
    assert not (tmp_path / "student").exists() and not trackio.started


def test_a_training_beside_the_run_logs_to_no_space(trackio, tmp_path):
    """Trials of a search, and the steps that are timed for a limit: without a tracker the Space would be refused."""
    given = StudentArguments(
        str(tmp_path), method="supervised", report_to=["trackio"], trackio_space_id="me/curves", use_cpu=True
    )
    found = trial_arguments(given, {})
    assert found.report_to == [] and found.trackio_space_id is None and given.trackio_space_id == "me/curves"
