"""Recipes that ship with the package are found by name, in a checkout as in a wheel."""

from pathlib import Path

import pytest

from hf_vipriors import shipped
from hf_vipriors.errors import InputError
from hf_vipriors.search.space import SearchSpace

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "scripts" / "recipes" / "image_folder_student.yaml"


@pytest.mark.parametrize(
    "name", ["image_folder_student", "image_folder_student.yaml", "scripts/recipes/image_folder_student.yaml"]
)
def test_a_name_stands_for_the_shipped_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.find_recipe(name, "--config") == RECIPE


def test_a_file_that_exists_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("image_folder_student").write_text("seed: 3\n")
    assert shipped.find_recipe("image_folder_student", "--config") == Path("image_folder_student")


@pytest.mark.parametrize("name", ["image_folder_studnt", "no/image_folder_student.yaml", "", "a\0b", "x" * 5000])
def test_an_unknown_name_is_one_line(name):
    with pytest.raises(InputError) as error:
        shipped.find_recipe(name, "--config")
    assert "--config" in error.value.on_command_line and "no recipe of this name" in error.value.on_command_line
    assert ("'image_folder_student'" in error.value.on_command_line) == ("folder" in name)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(InputError, match="is a folder: give a YAML file in it"):
        shipped.find_recipe(str(tmp_path), "--config")


def test_search_spaces_have_names_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = SearchSpace.read("supervised")
    assert space == SearchSpace.read("scripts/recipes/search/supervised.yaml")  # as the tables name it
    with pytest.raises(InputError, match="search_space supervisd: no search space .* 'supervised'"):
        SearchSpace.read("supervisd")


def test_a_wheel_has_them_in_the_package(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "search").mkdir(parents=True)
    (tmp_path / "recipes" / "mine.yaml").write_text("seed: 3\n")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path)
    assert shipped.find_recipe("mine", "--config") == tmp_path / "recipes" / "mine.yaml"
    assert shipped.accelerate_config("cpu").endswith("scripts/accelerate/cpu.yaml")
