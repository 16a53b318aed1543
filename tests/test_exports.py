"""What `from hf_vipriors import ...` gives."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hf_vipriors


@pytest.mark.parametrize("name", hf_vipriors.__all__)
def test_every_name_is_there(name):
    value = getattr(hf_vipriors, name)
    assert value is getattr(importlib.import_module(f"hf_vipriors.{hf_vipriors._EXPORTS[name]}"), name)
    assert getattr(value, "__name__", name) == name and name in dir(hf_vipriors)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="StudentTrainr"):
        hf_vipriors.StudentTrainr  # noqa: B018


def test_editors_know_the_same_names():
    tree = ast.parse(Path(hf_vipriors.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    assert sorted(alias.name for node in block.body for alias in node.names) == hf_vipriors.__all__
    assert hf_vipriors._EXPORTS.keys() == set(hf_vipriors.__all__)


def test_methods_are_listed_by_job():
    by_job = [hf_vipriors.list_methods(job) for job in ("teacher", "pretrain", "student")]
    assert by_job[:2] == [["moco", "simclr", "byol"], ["seed", "dogo"]] and len(by_job[2]) == 7
    assert sorted(sum(by_job, [])) == sorted(hf_vipriors.list_methods()) == sorted(hf_vipriors.METHODS)
    with pytest.raises(hf_vipriors.InputError, match="no job 'studnt': did you mean 'student'"):
        hf_vipriors.list_methods("studnt")


def test_the_trainers_wait_until_they_are_asked_for():
    code = (
        "import sys, hf_vipriors; "
        "assert not {'hf_vipriors.training', 'hf_vipriors.methods', 'hf_vipriors.run'} & sys.modules.keys(); "
        "from hf_vipriors import StudentTrainer; assert 'hf_vipriors.training' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
