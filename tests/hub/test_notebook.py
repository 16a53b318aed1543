"""The notebook beside a student: pushed, downloaded and run cell by cell where this package is not installed."""

import ast
import json
import subprocess
import sys

import pytest
from matplotlib import pyplot
from PIL import Image
from test_hostile_class_names import NAMES

from hf_vipriors.cli.push import main
from hf_vipriors.hub.card_facts import CardFacts
from hf_vipriors.hub.notebook import NOTEBOOK, notebook

NAME = "owner/colours"


def cells(text: str, kind: str) -> list[str]:
    return [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == kind]


def facts(**options) -> CardFacts:
    return CardFacts("pets", "student", "resnet18", 64, dataset_name="pets", method="kd", repo_id="me/pets", **options)


def test_it_runs_from_the_hub_and_draws_the_scores(logged_in, classifier_folder, tmp_path):
    main(["--model", str(classifier_folder), "--repo_id", NAME, "--examples", "1", "--notebook"])
    files = logged_in.repository(NAME).files()
    assert f"[A notebook]({NOTEBOOK})" in files["README.md"].decode()
    install, *code = cells(files[NOTEBOOK].decode(), "code")
    assert install == "%pip install --quiet transformers timm matplotlib"
    drawn = "print('drawn', [each.get_text() for each in right.get_yticklabels()], tuple(features.shape))"
    program = "\n".join(["import sys", "sys.modules['hf_vipriors'] = None", *code, drawn])
    environment = logged_in.environment(tmp_path / "home", logged_in.read_token) | {"MPLBACKEND": "agg"}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", program], **options)
    assert done.returncode == 0, program + done.stderr[-2000:]
    printed, _, drawn = done.stdout.partition("drawn ")
    labels, _, shape = drawn.strip().rpartition(" (")
    assert all(f"%  {name}\n" in printed for name in ("blue", "green", "red"))
    assert sorted(ast.literal_eval(labels)) == ["blue", "green", "red"] and shape == "1, 16)"


def test_names_of_classes_are_no_code():
    hostile = [*NAMES, '"\n```python\nimport os', "```\n\n```python\n1\n```", "</script><script>alert(1)</script>"]
    plain, odd = notebook(facts(class_names=["cat", "dog"])), notebook(facts(class_names=hostile, full_scale=4095.0))
    assert cells(odd, "code") == cells(plain, "code")
    for source in cells(odd, "code")[1:]:
        ast.parse(source)
    (shown,) = [text for text in cells(odd, "markdown") if "classes apart" in text]
    assert "<unknown>" not in shown.replace(r"\<unknown>", "") and "\n" not in shown.split("nothing else: ")[1]
    assert "4095" in odd and "4095" not in plain


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_classes_are_drawn_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    Image.new("L", (9, 5)).save(tmp_path / "photo.png")
    scores = [{"label": name, "score": 0.1} for name in [*NAMES, r"$\nope{$"] if len(name) < 20]
    names = {"classify": lambda image, top_k: scores, "IMAGE": tmp_path / "photo.png"}
    exec(cells(notebook(facts(class_names=NAMES)), "code")[3], names)
    names["figure"].canvas.draw()
    pyplot.close(names["figure"])  # other tests look whether one is left open
    assert [each.get_text() for each in names["right"].get_yticklabels()] == [each["label"] for each in scores[::-1]]


def test_example_with_any_letters_is_found():
    name = "examples/𠮷-猫.png"
    code = cells(notebook(facts(class_names=["a", "b"], examples={name: "𠮷"})), "code")
    (value,) = [node.value.args[1].value for node in ast.parse(code[2]).body if isinstance(node, ast.Assign)]
    assert value == name


def test_a_teacher_has_none(hub_here, teacher_folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--model", str(teacher_folder), "--repo_id", NAME, "--notebook"])
    assert stop.value.code == 2 and "leave out --notebook" in capsys.readouterr().err and not hub_here.log
