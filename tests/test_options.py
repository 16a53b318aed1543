"""Every number that can be set, in every dataclass of options, with the values that no number should have."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest

import hf_vipriors
from hf_vipriors.advice.advise import AdviceArguments
from hf_vipriors.benchmark.arguments import BenchmarkArguments
from hf_vipriors.cli.convert import ImportArguments
from hf_vipriors.cli.push import PushArguments
from hf_vipriors.errors import LARGEST, InputError, check_range
from hf_vipriors.experiments.quickstart_runs import QuickstartArguments
from hf_vipriors.experiments.reproduce import ReproduceArguments
from hf_vipriors.experiments.table_jobs import StudentsArguments
from hf_vipriors.inference.embed import EmbedArguments
from hf_vipriors.inference.label_next import LabelNextArguments
from hf_vipriors.inference.predict import PredictArguments
from hf_vipriors.scoring.evaluate import EvaluationArguments
from hf_vipriors.training import DataArguments, StudentArguments, TeacherArguments
from hf_vipriors.training.pretrain_arguments import PretrainArguments

RUN = {"output_dir": "unused", "use_cpu": True, "report_to": "none"}
# With what else it takes to be made.
KINDS = {
    DataArguments: {},
    TeacherArguments: RUN,
    PretrainArguments: RUN | {"teacher": "unused"},
    StudentArguments: RUN | {"teacher": "unused"},
    EvaluationArguments: {"model": ["unused"]},
    AdviceArguments: {},
    BenchmarkArguments: {"use_cpu": True},
    QuickstartArguments: {},
    ReproduceArguments: {},
    StudentsArguments: {"students": ["unused"]},
    ImportArguments: {"checkpoint": "unused", "output_dir": "unused"},
    PredictArguments: {"model": ["unused"], "data_dir": "unused"},
    EmbedArguments: {"model": "unused"},
    LabelNextArguments: {"model": "unused", "data_dir": "unused"},
    PushArguments: {"model": "unused", "repo_id": "me/unused"},
}


def numbers(kind):
    """Names of the numeric options, and whether each is a list."""
    hints = typing.get_type_hints(kind)
    for each in dataclasses.fields(kind):
        parts = {hints[each.name], *typing.get_args(hints[each.name])}
        if each.init and parts & {int, float, list[int], list[float]} and bool not in parts:
            yield each.name, bool(parts & {list[int], list[float]})


CASES = [(kind, name, many) for kind in KINDS for name, many in numbers(kind)]


@pytest.mark.parametrize(("kind", "name", "many"), CASES, ids=[f"{kind.__name__}-{name}" for kind, name, _ in CASES])
def test_every_number_is_within_bounds_or_refused(kind, name, many):
    for value in (float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 10**400, -1, 0, 1e-9):
        try:
            made = kind(**KINDS[kind] | {name: [value] if many else value})
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert abs(value) <= LARGEST, f"{name} took {value}"
            assert value >= 0 or getattr(made, name) == value, f"{name} took {value} for another"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 1e-9}, "temperature is 1e-09: it must be at least 0.001 and at most 1000"),
        ({"learning_rate": 1e9}, "learning_rate is 1e+09: it must be greater than 0 and at most 100"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0: it must be at least 1"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers is -1: it must be at least 0"),
        ({"seed": 2**32}, "seed is 4294967296: it must be at least 0 and at most 4294967295"),
        ({"save_steps": -5}, "save_steps is -5: it must be greater than 0"),
        ({"num_train_epochs": float("nan")}, "num_train_epochs is nan: it must be at least 0"),
        ({"max_grad_norm": -1}, "max_grad_norm is -1: it must be at least 0"),
        ({"max_steps": 0}, "max_steps 0 trains nothing"),
        ({"max_steps": -1, "num_train_epochs": 0}, "num_train_epochs 0 trains nothing"),
        ({"jitter": [0.4, 0.4, float("inf"), 0.1]}, "jitter is inf"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor can only be set when"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_said_of_a_number_out_of_bounds(given, message):
    with pytest.raises(InputError) as refused:
        TeacherArguments(**RUN | given)
    assert message in str(refused.value)


def test_the_largest_learning_rate_and_seed_are_taken():
    args = TeacherArguments(**RUN, learning_rate=100.0, seed=2**32 - 1)
    assert (args.learning_rate, args.seed) == (100.0, 2**32 - 1)


def test_what_is_no_number_is_refused():
    with pytest.raises(InputError, match="share is 'half': it must be a number"):
        check_range("half", "share", 0, 1)


def test_no_dataclass_of_options_is_left_out():
    source = Path(hf_vipriors.__file__).parent
    made = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"^class (\w+Arguments)\b", path.read_text(), re.M)
    }
    assert made - {"RunArguments", "LabelFreeArguments"} == {kind.__name__ for kind in KINDS}
