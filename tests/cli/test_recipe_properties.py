"""Recipes and command lines of any content: they become the settings they say, or one line of error."""

import dataclasses
import datetime

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from hf_vipriors.cli.parser import Parser
from hf_vipriors.errors import InputError
from hf_vipriors.invocation import as_words
from hf_vipriors.options import parsed_mapping
from hf_vipriors.training import DataArguments, StudentArguments, TeacherArguments

# Also what looks like an option, a number or a switch. "~" alone would become a home folder.
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="~"), min_size=1, max_size=12)
WORDS = WORDS | st.sampled_from(["--help", "-h", "-1", "true", "no", "null", "1e3", "--use_cpu", "a=b", "@file", "%"])


def numbers(low, high):
    return st.floats(low, high) | st.integers(int(low) + 1, int(high))


OPTIONS = {
    "dataset_name": WORDS,
    "data_dir": WORDS,
    "teacher": WORDS,
    "output_dir": WORDS,
    "images_per_class": st.integers(1, 10**6),
    "subset_seed": st.integers(0, 2**31),
    "train_fraction": st.floats(0.01, 1),
    "on_bad_image": st.sampled_from(["error", "skip"]),
    "learning_rate": numbers(1e-9, 10),
    "num_train_epochs": numbers(1e-3, 1000),
    "seed": st.integers(0, 2**31),
    "kd_temperature": numbers(0.01, 100),
    "mixup": st.floats(0, 2),
    "nesterov": st.booleans(),
    "overwrite_output_dir": st.booleans(),
    "lr_milestones": st.lists(st.floats(0, 300), min_size=1, max_size=4).map(sorted),
    "crop_scale": st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)).map(list),
    "more_teachers": st.lists(WORDS.filter(lambda word: not word.startswith("-")), min_size=1, max_size=3),
    "backbone_args": st.dictionaries(WORDS, st.integers() | st.lists(st.integers(), max_size=3) | WORDS, min_size=1),
}
SETTINGS = st.fixed_dictionaries({}, optional=OPTIONS)


@pytest.fixture(scope="module")
def parser():
    return Parser([DataArguments, StudentArguments], "")


NEEDED = ["--use_cpu", "--teacher", "a teacher", "--method", "kd"]


def settings_of(parser, argv):
    data, args = parser.parse([*NEEDED, *argv])
    return vars(data) | vars(args)


def recipe(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return ["--config", str(path)]


def typed_null(settings):
    """On a command line null takes back what a recipe says; in a file the word may stand for itself."""
    values = [each for value in settings.values() for each in (value if isinstance(value, list) else [value])]
    return "null" in values


@given(given_settings=SETTINGS, more=SETTINGS.filter(lambda settings: not typed_null(settings)))
def test_a_recipe_is_what_it_says_and_the_command_line_wins(parser, tmp_path, given_settings, more):
    default = settings_of(parser, [])
    for extra in ({}, more):
        wanted = given_settings | extra
        content = {"method": "kd", "teacher": "a teacher", "use_cpu": True} | given_settings
        data, args = parser.parse([*recipe(tmp_path, content), *as_words(extra)])
        got = vars(data) | vars(args)
        place = {"dataset_name": "imagefolder"} if "data_dir" in wanted else {}  # a folder alone is one of images
        for name, value in (default | place | wanted).items():
            if name == "backbone_args":
                assert parsed_mapping(got[name], name) == (value or {})
            elif name in OPTIONS and (name in wanted or name not in ("teacher", "learning_rate")):
                assert got[name] == value, name


@given(name=st.sampled_from(sorted(OPTIONS)), place=st.integers(0, 30), value=st.integers())
def test_a_misspelt_option_is_named_with_a_suggestion(parser, tmp_path, name, place, value):
    place %= len(name)
    wrong = name[:place] + name[place + 1 :]
    assume(wrong not in parser.known())
    for argv in (recipe(tmp_path, {wrong: value}), [f"--{wrong}", str(value)]):
        with pytest.raises(InputError, match="unknown option") as error:
            parser.parse(argv)
        assert repr(wrong) in error.value.on_command_line and "did you mean" in error.value.on_command_line


NO_NUMBERS = WORDS.filter(lambda word: not word.strip().lower().lstrip("+-").startswith(("inf", "nan")))
NO_NUMBERS = NO_NUMBERS.filter(lambda word: not any(letter.isdigit() for letter in word))
ODD = st.sampled_from([True, {"a": 1}, [1, 2], [[1]], datetime.date(2020, 1, 1), b"bytes", {"set"}, float("nan")])


@given(
    name=st.sampled_from(["learning_rate", "num_train_epochs", "images_per_class", "seed", "kd_temperature", "mixup"]),
    value=NO_NUMBERS | ODD,
)
def test_a_number_is_a_number(parser, tmp_path, name, value):
    with pytest.raises(InputError) as error:
        settings_of(parser, recipe(tmp_path, {name: value}))
    assert "\n" not in error.value.on_command_line and name in error.value.on_command_line


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
KINDS = [StudentArguments, TeacherArguments]
NAMES = sorted({field.name for kind in [DataArguments, *KINDS] for field in dataclasses.fields(kind) if field.init})


@pytest.mark.parametrize("kind", KINDS)
@given(given_settings=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), VALUES, min_size=1, max_size=3))
def test_any_value_for_any_option(kind, given_settings):
    parser = Parser([DataArguments, kind], "")
    try:
        settings = parser.checked(given_settings, "x")
        parser.parse(NEEDED[: 1 if kind is TeacherArguments else None], settings)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, error


@given(st.lists(WORDS | st.sampled_from(NAMES).map("--{}".format), min_size=1, max_size=5))
def test_any_command_line(parser, argv):
    assume(not {"-h", "--help", "--help_all"} & set(argv))
    try:
        settings_of(parser, argv)
    except InputError as error:
        assert "\n" not in str(error), error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"teacher": ["a", "b"]}, ["teacher", "one value", "2"]),
        ({"teacher": {"a": 1}}, ["teacher", "dict"]),
        ({"backbone_args": {"a": datetime.date(2020, 1, 1)}}, ["backbone_args", "JSON"]),
        ({"data_dir": datetime.date(2020, 1, 1)}, ["data_dir", "date"]),
        ({"more_teachers": ["a", "--help"]}, ["more_teachers", "--help"]),
        ({"more_teachers": ["a", ["b"]]}, ["more_teachers", "list"]),
        ({"eval_steps": float("inf")}, ["eval_steps"]),
        ({"accelerator_config": "no/such/file"}, ["no/such/file"]),
    ],
)
def test_what_no_option_can_be(parser, tmp_path, content, words):
    with pytest.raises(InputError) as error:
        settings_of(parser, recipe(tmp_path, content))
    assert all(word in error.value.on_command_line for word in words) and "\n" not in error.value.on_command_line, (
        error.value
    )


def test_a_nest_of_json_without_end():
    with pytest.raises(InputError, match="backbone_args is not JSON"):
        parsed_mapping("[" * 90_000, "backbone_args")
