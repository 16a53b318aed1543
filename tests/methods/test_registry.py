"""What the package reads of a method's class is there for every method, and one that lacks it is refused."""

import dataclasses
import re

import pytest
import torch
from transformers import TrainingArguments

from hf_vipriors.hub.card_facts import read_facts
from hf_vipriors.hub.model_card import ModelCard
from hf_vipriors.methods import (
    METHODS,
    Method,
    SimCLR,
    Supervised,
    method_help,
    method_options,
    methods_of,
    option_groups,
    registered,
)
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.options import Help
from hf_vipriors.training import DataArguments, PretrainArguments, RunArguments, StudentArguments, TeacherArguments
from hf_vipriors.training.cards import result_facts, write_card
from hf_vipriors.training.load_images import load_images
from hf_vipriors.training.resolve import complete
from hf_vipriors.training.setup import set_up

ARGUMENTS = {kind.job: kind for kind in (TeacherArguments, PretrainArguments, StudentArguments)}
# Options that stand in the arguments of a job, as all of its methods have them.
OF_THE_JOB = {
    "teacher": {"method"},
    "pretrain": {"method", "teacher", "teacher_revision"},
    "student": {
        *("method", "teacher", "teacher_revision", "backbone", "backbone_args", "image_size", "crop_pct"),
        *("trials", "search_space", "settings_of", "corruptions"),
    },
}
TINY = {"channels": [4, 4, 8, 8], "stem_type": "deep", "stem_width": 4}


def names_of(kind):
    return {each.name for each in dataclasses.fields(kind)}


# The card of each method


@pytest.fixture(scope="module")
def images(photos):
    data = DataArguments("imagefolder", data_dir=str(photos))
    return data, load_images(data)


@pytest.fixture
def set_up_method(images, tiny_config, tmp_path):
    """``set_up_method(name)``: a tiny run of the method, ready to begin."""

    def make(name):
        data, splits = images
        options = {"backbone": "resnet18", "backbone_args": TINY, "image_size": 32, "method": name}
        options |= {"per_device_train_batch_size": 6, "use_cpu": True, "report_to": "none"}
        config = tiny_config(classes=3)
        config.id2label = dict(enumerate(splits.class_names))
        teacher = None
        if METHODS[name].teacher_kind != "none":
            options["teacher"], teacher = "someone/classifier", VipriorsForImageClassification(config)
        args = ARGUMENTS[METHODS[name].job](str(tmp_path / "run"), **options)
        return set_up(args, data, splits, teacher=teacher)

    return make


@pytest.mark.parametrize("name", METHODS)
def test_a_card_renders_before_any_training(set_up_method, tmp_path, card_settings, name):
    method, setup = METHODS[name], set_up_method(name)
    for prefix, model in setup.method.evaluated().items():
        folder = tmp_path / "cards" / prefix
        folder.mkdir(parents=True)
        facts = result_facts(setup, model, {}, folder=folder if prefix else None)
        write_card(facts, folder)
        assert read_facts(folder) == dataclasses.replace(facts, settings=read_facts(folder).settings)
        card = ModelCard.load(folder / "README.md")
        assert card.data.eval_results is None and card.data.metrics is None, "nothing was measured"
        task = "image-classification" if method.job == "student" else "image-feature-extraction"
        assert card.data.pipeline_tag == task and "train: 36 images" in card.text
        assert all(f"]({paper.url})" in card.text for paper in method.papers)
        has_teacher = method.teacher_kind != "none"
        assert ("Came from: someone/classifier" in card.text) == has_teacher
        assert card.data.base_model == (["someone/classifier"] if has_teacher else None)

        told, args = card_settings(folder), setup.args.to_dict()
        read = {option for option in method.options_read(setup.args) if args[option] not in (None, [], {})}
        assert read <= told.keys() and told.keys() <= names_of(ARGUMENTS[method.job])
        assert {option: told[option] for option in told} == {option: str(args[option]) for option in told}
        others = {option for other in METHODS.values() for option in method_options(other)}
        assert not told.keys() & (others - set(method_options(method))), "a card names only what was read"


# Options


@pytest.mark.parametrize("job", ARGUMENTS)
def test_every_option_has_help_and_an_owner(job):
    kind = ARGUMENTS[job]
    upstream = names_of(TrainingArguments)
    for each in dataclasses.fields(kind):
        told = each.metadata.get("help")
        assert told and told.strip(), each.name
        assert each.name in upstream or isinstance(told, Help), each.name
    read = {name for method in methods_of(job).values() for name in method_options(method)}
    shared = names_of(RunArguments)
    assert read <= names_of(kind) and not read & shared
    assert names_of(kind) - read - shared == OF_THE_JOB[job], "an option that no method reads does nothing"


@pytest.mark.parametrize("job", ARGUMENTS)
def test_an_option_of_two_groups_is_settled_in_the_arguments(job):
    """Dataclasses take that of the first group without a word, with its default and its help."""
    owners = {}
    for kind in {group for method in methods_of(job).values() for group in method.options.__mro__}:
        for name in vars(kind).get("__annotations__", {}):
            owners.setdefault(name, []).append(kind.__name__)
    settled = vars(ARGUMENTS[job])["__annotations__"]
    assert {name: kinds for name, kinds in owners.items() if len(kinds) > 1 and name not in settled} == {}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_fills_and_what_its_card_lists_are_its_options(name, tmp_path):
    method = METHODS[name]
    args = ARGUMENTS[method.job](str(tmp_path), method=name, use_cpu=True, report_to="none")
    found = complete(args)
    known = set(method_options(method))
    assert set(method.options_read(found.args)) <= known and len(known) == len(method_options(method))
    assert found.sources.keys() <= names_of(ARGUMENTS[method.job]), "also neutral values of what it does not read"
    assert all(getattr(args, option) is None for option in found.sources), "only what was not given is filled"
    assert all(found.sources.values()), "each with where it is from"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.name == name and method.job in ARGUMENTS and issubclass(method, Method)
    assert method.teacher_kind in ("none", "start", "features", "classifier")
    assert f"{name} ({method.summary})" in method_help(method.job)
    assert f"{name} ({method.summary})" in ARGUMENTS[method.job].__dataclass_fields__["method"].metadata["help"]
    assert dataclasses.is_dataclass(method.options) and method.options.__doc__


# Papers


@pytest.mark.parametrize("paper", {paper.url: paper for kind in METHODS.values() for paper in kind.papers}.values())
def test_papers_are_on_arxiv(paper):
    year = re.fullmatch(r"https://arxiv\.org/abs/(\d\d)\d\d\.\d{4,5}", paper.url)[1]
    assert paper.title and " and " in paper.authors and paper.year == 2000 + int(year)
    assert paper.url.rsplit("/", 1)[-1] in paper.bibtex


def test_only_the_baseline_has_no_paper():
    assert [name for name, method in METHODS.items() if not method.papers] == ["supervised"]


# A new method


class Bare(Method):
    """What somebody may forget."""

    name, job, summary = "bare", "teacher", "nothing yet"


def test_a_method_without_options_is_refused(monkeypatch):
    with pytest.raises(TypeError, match="^Bare must define options$"):
        registered(*METHODS.values(), Bare)
    monkeypatch.setitem(METHODS, "bare", Bare)  # past the door
    with pytest.raises(AttributeError, match="'Bare' has no attribute 'options'"):
        option_groups("teacher")


def test_a_method_with_nothing_is_told_all_that_it_lacks():
    with pytest.raises(TypeError, match="^Nothing must define name, job, summary, options$"):
        registered(type("Nothing", (Method,), {}))


def test_a_method_does_not_replace_another_one():
    class Better(Supervised):
        """Its name was forgotten."""

    with pytest.raises(TypeError, match="^Better has the name of Supervised, 'supervised'"):
        registered(*METHODS.values(), Better)


def test_a_new_method_brings_its_options(monkeypatch):
    @dataclasses.dataclass
    class Options(SimCLR.options):
        """Its own beside SimCLR's."""

        sharpness: float = 1.0

    class New(SimCLR):
        name, summary, options = "new", "sharper", Options

    assert registered(*METHODS.values(), New) == METHODS | {"new": New}
    monkeypatch.setitem(METHODS, "new", New)
    assert Options in option_groups("teacher") and SimCLR.options not in option_groups("teacher")
    assert method_help("teacher").endswith("or new (sharper).") and "sharpness" in method_options(New)


@pytest.mark.parametrize("asked", ["networks", "build", "views", "forward", "deployable"])
def test_what_a_method_must_define_says_so(asked):
    arguments = {"networks": (None, [], None), "build": ([], None, None), "views": (None, None)}
    arguments["forward"] = ([], torch.zeros(0), torch.zeros(0))
    with pytest.raises(TypeError, match=f"^Bare must define {asked}"):
        getattr(Bare(), asked)(*arguments.get(asked, ()))
