"""From seconds to ratios, tables and estimates, on numbers made by hand."""

import io

import pytest
from rich.console import Console

from hf_vipriors.benchmark.benchmark import figure
from hf_vipriors.benchmark.report import (
    PAPER_RUNS,
    PARTS,
    benchmark_markdown,
    case_figures,
    estimate_line,
    estimates,
    matching_paper_runs,
    rich_tables,
)


@pytest.fixture
def found():
    seconds = {"end_to_end": [0.5, 0.4, 1.0], "ceiling": [0.4, 0.4, 0.5], "lightly": [1.0, 2.0, 2.0]}
    split = dict(zip(PARTS, [1.0, 2.0, 3.0, 2.0, 1.0, 1.0], strict=True))
    case = {"image_size": 32, "images": 500, **case_figures(seconds, 100, split, 3 * 2**30)}
    versions = {"torch": "2.15.0"}
    return {
        "title": "moco, tiny",
        "machine": {"device": "CPU", "cpu": "Chip", "cores": 2, "versions": versions},
        "settings": {"processes": 1, "torch_compile": True},
        "cases": [case],
        "scaling": [{"images": 5000, "images_per_second": 150.0, "split": split, "peak_bytes": 2**20}],
        "estimate": [],
    }


def test_ratios_are_taken_within_a_round(found):
    case = found["cases"][0]
    assert case["images_per_second"] == {"end_to_end": 200.0, "ceiling": 250.0, "lightly": 50.0}
    assert case["ratios"]["ceiling"] == {"rounds": [0.8, 1.0, 0.5], "median": 0.8, "lowest": 0.5, "highest": 1.0}
    assert case["ratios"]["lightly"]["rounds"] == [2.0, 5.0, 2.0] and case["ratios"]["lightly"]["median"] == 2.0


def test_the_table_of_the_readme(found):
    lines = benchmark_markdown({"benchmarks": [found]}).splitlines()
    assert lines[2].startswith("| *moco, tiny*<br>Chip, 2 cores, torch 2.15.0, compiled |")
    assert lines[3] == (
        "| **32 px** | 200 | 0.80 (0.50 to 1.00) | 2.00 (2.00 to 5.00) lightly | 500.0 | 10 | 20 | 30 | 20 | 10 | 10 "
        "| 3.0 GiB |"
    )
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "- moco, tiny, 32 px, images in the store: images/s (peak memory): 5,000: 150 (1 MiB)" in lines


def test_a_benchmark_without_anybody_else(found):
    del found["cases"][0]["ratios"]["lightly"], found["cases"][0]["images_per_second"]["lightly"]
    assert "| 0.80 (0.50 to 1.00) | – | 500.0 |" in benchmark_markdown({"benchmarks": [found]})
    assert figure(found)[1:4] == b"PNG"


def test_the_terminal_shows_it_in_eighty_columns(found):
    console = Console(file=io.StringIO(), width=80)
    for table in rich_tables(found):
        console.print(table)
    said = console.file.getvalue()
    assert "0.80 (0.50–1.00)" in said and "2.00 (2.00–5.00)" in said and "5,000" in said and "30 %" in said


def test_an_estimate_is_images_over_rate():
    (run,) = matching_paper_runs("moco", "resnet50", {}, "resnet50", [32, 224])
    cases = [
        {"image_size": size, "images_per_second": {"end_to_end": rate}} for size, rate in ((32, 9e9), (224, 2000))
    ]
    (one,) = estimates([run], cases, 3.0)
    assert one["hours"] == pytest.approx(50_000 * 800 / 2000 / 3600) and one["cost"] == pytest.approx(3 * one["hours"])
    machine = {"device": "GPU X", "cpu": "Chip", "cores": 2, "versions": {"torch": "2.15.0"}}
    line = estimate_line(one, {"machine": machine, "settings": {"processes": 8, "torch_compile": False}})
    assert (
        "5.6 hours, 17 at 3 an hour" in line and "2,000 images/s measured on GPU X" in line and "8 processes" in line
    )
    assert "cost" not in estimates([run], cases, None)[0]


def test_only_the_papers_own_networks_are_estimated():
    assert not matching_paper_runs("moco", "resnet50", {"stem_width": 8}, "resnet50", [224])
    assert not matching_paper_runs("seed", "resnet18", {}, "resnet18", [224])
    assert matching_paper_runs("seed", "resnet18", {}, "resnet50", [224]) == [PAPER_RUNS[1]]
