"""What `from hf_vipriors import ...` gives."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_vipriors


@pytest.mark.parametrize("name", hf_vipriors.__all__)
def test_every_name_is_there(name):
    assert getattr(hf_vipriors, name).__name__ == name and name in dir(hf_vipriors)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="StudentTrainr"):
        hf_vipriors.StudentTrainr  # noqa: B018


def test_editors_know_the_same_names():
    tree = ast.parse(Path(hf_vipriors.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    assert sorted(alias.name for node in block.body for alias in node.names) == hf_vipriors.__all__
    assert hf_vipriors._EXPORTS.keys() == set(hf_vipriors.__all__)


def test_the_trainers_wait_until_they_are_asked_for():
    code = (
        "import sys, hf_vipriors; assert 'hf_vipriors.training' not in sys.modules; "
        "from hf_vipriors import StudentTrainer; assert 'hf_vipriors.training' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
