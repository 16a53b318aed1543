"""Any file as a recipe: a mapping of plain values, or one line in no time."""

import datetime
import itertools
import os
import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from hf_vipriors.errors import InputError
from hf_vipriors.shipped import find_recipe
from hf_vipriors.yaml_files import LONGEST, yaml_mapping

SYNTAX = st.text(alphabet="ab:&*[]{}<>-!|%@?,#'\" \n\t019.~=", max_size=60)
WORDS = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return yaml_mapping(str(path), "--config", "lines")


def refused(path, content) -> str:
    with pytest.raises(InputError) as error:
        read(path, content)
    line = error.value.on_command_line
    assert "\n" not in line and len(line) < 900 and line.startswith(f"--config {path} "), line
    return line


@given(SYNTAX | st.binary(max_size=60) | st.text(max_size=60))
@example("a: 2020-99-99\n")
@example("a: !!int x\n")
@example("a: !!bool maybe\n")
@example("a: !!timestamp never\n")
@example("a: !!binary é\n")
@example("? [1]\n: 2\n")
@example("? {a: 1}\n: 2\n")
@example("a: " + "1" * 5000)
@example("a: 1:99999999999999999999:1e400\n")
@example("<<: 3\n")
@example("a: \x00\n")
def test_whatever_it_is(tmp_path, content):
    path = tmp_path / "any.yaml"
    try:
        found = read(path, content)
    except InputError:
        refused(path, content)
    else:
        assert found and isinstance(found, dict) and len(repr(found)) < 10_000


@given(st.dictionaries(WORDS, st.none() | st.booleans() | st.integers() | WORDS | st.lists(WORDS, max_size=3)))
def test_what_was_written_is_read(tmp_path, settings):
    path = tmp_path / "recipe.yaml"
    if settings:
        assert read(path, yaml.safe_dump(settings, allow_unicode=True)) == settings
    else:
        assert "must hold" in refused(path, "{}")


@given(names=st.lists(WORDS, min_size=1, max_size=5, unique=True), data=st.data())
def test_a_key_that_stands_twice(tmp_path, names, data):
    lines = [yaml.safe_dump({name: number}, allow_unicode=True) for number, name in enumerate(names)]
    again = data.draw(st.integers(0, len(names) - 1))
    lines.append(yaml.safe_dump({names[again]: "again"}, allow_unicode=True))
    assert "twice" in refused(tmp_path / "recipe.yaml", "".join(lines))
    nested = "outer:\n" + "".join(f"  {part}\n" for line in lines for part in line.splitlines())
    assert "twice" in refused(tmp_path / "recipe.yaml", nested)


def test_equal_keys_are_named_with_their_line(tmp_path):
    line = refused(tmp_path / "recipe.yaml", "margin: 0.4\nqueue_length: 8\n\nmargin: 0.2\n")
    assert line.endswith("names 'margin' twice, the second time in line 4: leave one out")
    assert "twice" in refused(tmp_path / "recipe.yaml", "args: {a: 1, 'a': 2}\n")


def test_anchors_may_be_used(tmp_path):
    text = "scale: &scale [0.2, 1]\npatch_scale: *scale\nbase: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n"
    found = read(tmp_path / "recipe.yaml", text + "again: {<<: *base, b: 4}\n")
    assert found["patch_scale"] == [0.2, 1] and found["more"] == {"a": 1, "b": 3} and found["again"]["b"] == 4


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (LAUGHS, "aliases"),
        ("a: &a [*a]\n", "part of itself"),
        ("a: &a {b: *a}\n", "part of itself"),
        ("a: " + "[" * 9_000, "too deep"),
        ("a: " + "{a: " * 3_000, "too deep"),
        ("- " * 9_000, "too deep"),
        ("a: " + "x" * LONGEST, "characters"),
        (b"a: \xff\xfe\n", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ("- a\n", "must hold"),
        ("", "must hold"),
    ],
    ids=range(11),
)
def test_made_to_do_harm(tmp_path, content, word):
    start = time.process_time()
    assert word in refused(tmp_path / "recipe.yaml", content)
    assert time.process_time() - start < 20, "seconds at most, where it would have been hours"


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml", "/dev/zero", "nul\0.yaml"):
        with pytest.raises(InputError) as error:
            yaml_mapping(str(path), "--config", "lines")
        assert "\n" not in error.value.on_command_line


def test_dates_stay_dates(tmp_path):
    """What an option makes of them is its own affair."""
    assert read(tmp_path / "recipe.yaml", "a: 2020-01-02\n") == {"a": datetime.date(2020, 1, 2)}


def test_a_fifo_is_not_waited_for(tmp_path, deadline):
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match="recipe.yaml is a FIFO or a device"):
        yaml_mapping(find_recipe(str(tmp_path / "recipe.yaml"), "--config"), "--config", "lines")
