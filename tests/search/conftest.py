"""What tests of a search share."""

import pytest
import yaml

from hf_vipriors.cli.student import main
from hf_vipriors.search.trials import SearchTrainer

SPACE = {"learning_rate": {"low": 0.01, "high": 0.2, "log": True}, "label_smoothing": [0.0, 0.2]}


@pytest.fixture
def space(tmp_path):
    def write(options=None):
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(options or SPACE))
        return ["--search_space", str(tmp_path / "space.yaml")]

    return write


@pytest.fixture
def options(student_options):
    return [*student_options, "--num_train_epochs", "1", "--method", "supervised", "--save_strategy", "no"]


@pytest.fixture
def measured(monkeypatch):
    """(loss, top1) of the validation of each trial."""
    seen, measure = [], SearchTrainer.measure

    def spy(self, store):
        outputs, figures = measure(self, store)
        seen.append((figures["loss"], figures["top1"]))
        return outputs, figures

    monkeypatch.setattr(SearchTrainer, "measure", spy)
    return seen


@pytest.fixture
def refused(tmp_path, capsys):
    """The one line with which a command ends before it writes anything."""

    def run(command):
        folder = tmp_path / "never_written"
        with pytest.raises(SystemExit) as stop:
            main([*command, "--output_dir", str(folder)])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert stop.value.code == 2 and len(lines) == 1 and not folder.exists()
        return lines[0]

    return run
