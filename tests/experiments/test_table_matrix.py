"""A matrix in a table's YAML: runs, rows and groups spelt out, and what is refused."""

from __future__ import annotations

from copy import deepcopy

import pytest
import yaml

from hf_vipriors.errors import InputError
from hf_vipriors.experiments.table_matrix import cell_name, cells, fill
from hf_vipriors.experiments.tables import read_table

JOBS = ("train_teacher", "train_student", "evaluate")
AXES = {"margin": [0.0, 0.4], "negatives": [128, 256]}


@pytest.fixture
def content():
    written = {
        "title": "Margin and negatives",
        "runs": {
            "scratch": {"job": "train_student", "once": True},
            "moco": {
                "job": "train_teacher",
                "matrix": AXES,
                "options": {"margin": "$margin", "queue_length": "$negatives", "run_name": "m $margin"},
            },
            "tuned": {
                "job": "train_student",
                "matrix": {**AXES, "images": [5, 10]},
                "options": {"teacher": "{moco}", "images_per_class": "$images"},
            },
            "both": {
                "job": "evaluate",
                "matrix": {"images": [5, 10]},
                "options": {"students": ["{scratch}", "{tuned-margin0.4-negatives256-images10}"]},
            },
        },
        "groups": [
            {
                "title": "Linear probe",
                "rows": [
                    {
                        **{"name": "margin $margin, $negatives negatives", "run": "moco", "score": "linear"},
                        **{"matrix": AXES, "baseline": {"margin": 0.0, "negatives": 128}, "note": "$negatives keys"},
                    }
                ],
            },
            {
                "title": "$images images per class",
                "matrix": {"images": [5, 10]},
                "rows": [
                    {"name": "from scratch", "run": "scratch", "score": "test", "baseline": True},
                    {"name": "both", "run": "both", "score": "test"},
                    {"name": "m $margin", "run": "tuned", "score": "test", "matrix": AXES | {"negatives": [128]}},
                ],
            },
        ],
    }
    return deepcopy(written)  # tests change it


def read_content(content, folder):
    (folder / "t.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return read_table(str(folder / "t.yaml"), folder, JOBS)


@pytest.fixture
def read(content, tmp_path):
    return lambda: read_content(content, tmp_path)


def test_a_run_for_each_cell(read):
    table = read()
    assert [run.name for run in table.runs][:3] == [
        "scratch",
        "moco-margin0.0-negatives128",
        "moco-margin0.0-negatives256",
    ]
    assert len(table.runs) == 1 + 4 + 8 + 2
    moco = table.run("moco-margin0.4-negatives128")
    assert moco.options == {"margin": 0.4, "queue_length": 128, "run_name": "m 0.4"}, "numbers stay numbers"
    assert moco.values == {"margin": 0.4, "negatives": 128} and moco.base == "moco"


def test_a_run_uses_the_cell_with_its_own_values(read):
    table = read()
    tuned = table.run("tuned-margin0.4-negatives128-images5")
    assert tuned.uses == ["moco-margin0.4-negatives128"] and tuned.options["images_per_class"] == 5
    both = table.run("both-images5")
    assert both.uses == ["scratch", "tuned-margin0.4-negatives256-images10"]
    assert both.options_with({name: f"out/{name}" for name in both.uses}) == {
        "students": ["out/scratch", "out/tuned-margin0.4-negatives256-images10"]
    }


def test_rows_and_groups_for_each_cell(read):
    linear, five, ten = read().groups
    assert [row["name"] for row in linear["rows"]] == [
        f"margin {m}, {n} negatives" for m in AXES["margin"] for n in AXES["negatives"]
    ]
    assert [row["baseline"] for row in linear["rows"]] == [True, False, False, False]
    assert linear["rows"][3]["run"] == "moco-margin0.4-negatives256" and linear["rows"][3]["note"] == "256 keys"
    assert (five["title"], ten["title"], ten["series"]) == (
        "5 images per class",
        "10 images per class",
        "$images images per class",
    )
    assert [row["run"] for row in ten["rows"]] == [
        "scratch",
        "both-images10",
        "tuned-margin0.0-negatives128-images10",
        "tuned-margin0.4-negatives128-images10",
    ]
    assert ten["rows"][0]["values"] == {"images": 10} and ten["rows"][0]["series"] == "from scratch"
    assert ten["rows"][3]["values"] == {"images": 10, "margin": 0.4, "negatives": 128}
    assert ten["rows"][3]["series"] == "tuned"


def test_a_number_is_a_text_where_one_is_shown(content, read):
    """Else it is met once all runs are trained, where its file is named."""
    linear, tuned = content["groups"]
    content["title"], linear["about"], linear["title"] = 2026, 5, 7
    linear["rows"][0] |= {"name": 0.5, "note": 3, "run": "moco-margin0.4-negatives128", "matrix": {"margin": [0.0]}}
    linear["rows"][0]["baseline"] = True
    tuned |= {"title": "$images", "about": "$images"}
    tuned["rows"][0] |= {"name": "$flag", "note": "$flag", "matrix": {"flag": [True]}}
    content["plots"] = [{"kind": "bars", "title": 8, "group": 7}]
    table = read()
    linear, five, _ = table.groups
    assert (table.title, linear["title"], linear["series"], linear["about"]) == ("2026", "7", "7", "5")
    assert (five["title"], five["about"], five["series"]) == ("5", "5", "$images")
    assert [(row["name"], row["note"]) for row in (linear["rows"][0], five["rows"][0])] == [
        *(("0.5", "3"), ("true", "true")),
    ]
    assert linear["rows"][0]["series"] == "0.5"
    assert table.plots == [{"kind": "bars", "title": "8", "group": "7"}]


def test_only_some_cells(read):
    table = read()
    assert len(table.only(["moco"]).runs) == 4 and len(table.only(["tuned"]).runs) == 12
    assert [run.name for run in table.only(["tuned-margin0.0-negatives256-images5"]).runs] == [
        "moco-margin0.0-negatives256",
        "tuned-margin0.0-negatives256-images5",
    ]


def test_a_list_of_cells_is_no_product(content, read):
    content["runs"] = {
        "a_large": {"job": "train_student"},
        "b_large": {"job": "train_student"},
        "kd": {
            "job": "train_student",
            "matrix": [{"teacher": "a_large", "width": 4}, {"teacher": "b_large", "width": 8}],
            "options": {"teacher": "{$teacher}", "backbone_args": {"stem_width": "$width"}},
        },
    }
    content["groups"] = [{"title": "t", "rows": [{"name": "kd", "run": "kd-teacherb_large-width8", "score": "test"}]}]
    runs = read().runs
    assert [run.uses for run in runs] == [[], [], ["a_large"], ["b_large"]]
    assert runs[3].options["backbone_args"] == {"stem_width": 8}


# Where the content is changed, into what, and which words the error has.
REFUSED = [
    (("runs", "moco", "matrix"), {"margin": []}, ["moco", "matrix"]),
    (("runs", "moco", "matrix"), {"margin": 0.4}, ["moco", "matrix"]),
    (("runs", "moco", "matrix"), [], ["moco", "matrix"]),
    (("runs", "moco", "matrix"), {"margin": [[1, 2]]}, ["moco", "[1, 2]"]),
    (("runs", "moco", "matrix", "margin"), [0.4, 0.4], ["moco", "differ"]),
    (("runs", "moco", "matrix"), [{"margin": 0.4}, {"negatives": 1}], ["moco", "same axes"]),
    (("runs", "moco", "options", "margin"), "$margn", ["moco", "$margn", "margin"]),
    (("runs", "moco", "options", "margin"), "5 $", ["moco", "$$"]),
    (("runs", "scratch", "options"), {"margin": "$margin"}, ["scratch", "no matrix"]),
    (("runs", "tuned", "matrix"), {"images": [5]}, ["tuned", "'moco'", "margin, negatives"]),
    (("runs", "tuned", "matrix", "margin"), [0.8], ["tuned", "'moco'", "margin0.8"]),
    (("runs", "tuned", "options", "teacher"), "{moco-margin0.0}", ["tuned", "moco-margin0.0", "before"]),
    (("runs", "tuned", "options", "teacher"), "{both}", ["tuned", "both", "before"]),
    (("runs", "both", "options", "students"), ["{scrtch}"], ["both", "scrtch", "scratch"]),
    (("runs", "moco-margin0.0-negatives128"), {"job": "train_teacher"}, ["one name"]),
    (("runs", "last"), {"job": "train_student", "options": {"teacher": "{both-images5}"}}, ["last", "no model"]),
    (("groups", 0, "rows", 0, "matrix"), {"margin": [0.0]}, ["margin $margin", "no axis"]),
    (("groups", 1, "rows", 2, "matrix"), {"margin": [0.0]}, ["m $margin", "'tuned'", "negatives"]),
    (("groups", 0, "rows", 0, "name"), "margin $margin", ["Linear probe", "two rows"]),
    (("groups", 0, "rows", 0, "baseline"), {"margin": 0.0}, ["Linear probe", "more than one baseline"]),
    (("groups", 0, "rows", 0, "baseline"), {"margn": 0.0}, ["margin $margin", "margn"]),
    (("groups", 0, "rows", 0, "metric"), "balanced", ["Linear probe", "balanced", "balanced_accuracy"]),
    (("groups", 1, "rows", 0, "metric"), "balanced_accuracy", ["images per class", "top1", "same metric"]),
    (("groups", 1, "matrx"), 1, ["images per class", "matrx", "matrix"]),
    (("title",), None, ["title", "None", "in quotes"]),
    (("groups", 0, "title"), None, ["title", "None", "in quotes"]),
    (("groups", 0, "title"), True, ["title", "True", "in quotes"]),  # a YAML file says yes
    (("groups", 0, "about"), None, ["Linear probe", "about", "in quotes"]),
    (("groups", 0, "about"), {"a": 1}, ["Linear probe", "about", "in quotes"]),
    (("groups", 0, "rows", 0, "name"), None, ["name", "in quotes"]),
    (("groups", 0, "rows", 0, "note"), ["a"], ["margin $margin", "note", "in quotes"]),
    (("plots",), [{"kind": "bars", "title": None}], ["title", "in quotes"]),
    (("plots",), [{"kind": "pie", "title": "P"}], ["'P'", "pie"]),
    (("plots",), [{"kind": "bars"}], ["no title"]),
    (("plots",), [{"kind": "bars", "title": "P", "x": "margin"}], ["'P'", "'x'"]),
    (("plots",), [{"kind": "bars", "title": "P"}, {"kind": "bars", "title": "p!"}], ["p.png"]),
    (("plots",), [{"kind": "heatmap", "title": "P", "x": "margin", "y": "negatve"}], ["'P'", "negatve"]),
    (("plots",), [{"kind": "curve", "title": "P"}], ["'P'", "axis", "x"]),
    (("plots",), [{"kind": "curve", "title": "P", "x": "margin", "value": "win"}], ["'P'", "win"]),
    (("plots",), [{"kind": "curve", "title": "P", "x": "margin", "group": "Linear"}], ["'P'", "Linear probe"]),
    (("plots",), [{"kind": "curve", "title": "P", "x": "margin", "rows": ["moko"]}], ["'P'", "moko", "moco"]),
]


def test_what_cannot_be_spelt_out_is_refused(content, tmp_path):
    """All that are let through, or whose error lacks a word, are listed at once."""
    failed = []
    for place, value, words in REFUSED:
        changed = deepcopy(content)
        *parents, last = place
        part = changed
        for name in parents:
            part = part[name]
        part[last] = value
        try:
            read_content(changed, tmp_path)
            failed.append(f"{place}: {value!r} was let through")
        except InputError as error:
            if "\n" in str(error) or not all(word in str(error) for word in [*words, "t.yaml"]):
                failed.append(f"{place}: {value!r} gives {error}, without one of {words}")
    assert not failed, "\n".join(failed)


def test_a_curve_needs_numbers(content, read):
    for entry in (content["runs"]["moco"], content["groups"][0]["rows"][0]):
        entry["matrix"] = {"margin": ["low", "high"], "negatives": [128]}
    content["runs"]["tuned"]["options"] = {}
    content["groups"][0]["rows"][0]["baseline"] = False
    content["plots"] = [{"kind": "curve", "title": "P", "x": "margin", "group": "Linear probe"}]
    with pytest.raises(InputError, match="margin are no numbers"):
        read()
    content["plots"] = [{"kind": "heatmap", "title": "P", "x": "margin", "y": "negatives", "group": "Linear probe"}]
    read()


def test_words_are_as_yaml_has_them():
    (cell,) = cells({"flag": [True]}, "run x")
    assert cell_name("x", cell) == "x-flagtrue"
    assert fill("flag $flag, ${flag}ly, $$5", cell, "run x") == "flag true, truely, $5"
    assert fill("$flag", cell, "run x") is True and fill("${flag}", cell, "run x") is True
