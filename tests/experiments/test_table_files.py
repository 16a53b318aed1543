"""What is drawn from results.json: CSV, the page, and the tables between the marks of the README and the cards."""

from __future__ import annotations

import csv
import io
import json

import pytest
import yaml

from hf_vipriors.benchmark.report import PARTS, case_figures
from hf_vipriors.errors import InputError
from hf_vipriors.experiments.reproduce import main
from hf_vipriors.experiments.table_files import drawn_results, render, results_csv, results_markdown
from hf_vipriors.experiments.table_report import table_page


def row(name, top1, **more):
    mean = sum(top1) / len(top1)
    summary = {"mean": mean, "interval": None, "difference": None, "difference_interval": None}
    described = {"name": name, "note": "", "run": name, "score": "test", "metric": "top1", "baseline": False}
    described |= {"values": {}, "series": name, "seeds": list(range(len(top1))), "top1": top1, "test_images": 2000}
    return described | {"summary": summary} | more


@pytest.fixture
def found():
    rows = [
        row("plain <b>", [0.50, 0.52], baseline=True, values={"images": 5}, seconds=[60.0, 62.0], top5=[0.9, 0.92]),
        row("ours | best", [0.60, 0.61], p_values=[0.2, 0.0004], calibration_error=[0.05, 0.07], trials=[20, 20]),
        row("ensemble", [0.64], p_values=[0.03, 0.01]),
    ]
    group = {"title": "A group", "about": "About it.", "series": "A group", "values": {}, "rows": rows, "verdict": []}
    return {"table": "mine", "title": "My table", "seeds": [0, 1], "groups": [group], "plots": [], "versions": {}}


@pytest.fixture
def project(found, tmp_path):
    """A project with two measured files, a README and a card that show them."""
    results = tmp_path / "model_cards" / "results"
    results.mkdir(parents=True)
    (results / "mine.json").write_text(json.dumps(found))
    rows = [
        {"name": "base", "note": "", "top1": [0.5], "top5": None, "test_images": 100, "seconds": [], "summary": {}},
    ]
    (results / "quick.json").write_text(json.dumps({"title": "Q", "subtitle": "", "rows": rows}))
    (tmp_path / "README.md").write_text("# P\n<!-- mine -->\nold<!-- /mine -->\n<!-- quick --><!-- /quick -->\nend\n")
    (tmp_path / "model_cards" / "card.md").write_text("<!-- quick -->\n<!-- /quick -->")
    return tmp_path


def test_markdown_has_a_column_for_whatever_is_known(found):
    head, _, _, plain, ours, ensemble, *_ = results_markdown(found).splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert columns[5:] == ["top-5 %", "seeds", "time", "McNemar p", "ECE %", "trials"]
    cells = [cell.strip() for cell in ours.replace("\\|", "/").strip("|").split("|")]
    assert cells[5:] == ["–", "2", "–", "0.200", "6.0", "20"], "the largest p of the seeds"
    assert plain.endswith("| 91.0 | 2 | 61 s | – | – | – |") and "| 0.030 |" in ensemble
    assert "no interval and no conclusion" in results_markdown(found, verdict=True), "one seed against two"


def test_csv_has_a_line_for_each_row_and_seed(found):
    lines = list(csv.DictReader(io.StringIO(results_csv(found))))
    assert [(line["row"], line["seed"], line["top1"]) for line in lines] == [
        *(("plain <b>", "0", "0.5"), ("plain <b>", "1", "0.52")),
        *(("ours | best", "0", "0.6"), ("ours | best", "1", "0.61"), ("ensemble", "0", "0.64")),
    ]
    assert lines[0]["images"] == "5" and lines[2]["images"] == "" and lines[1]["seconds"] == "62.0"
    assert lines[3]["p_value"] == "0.0004" and lines[3]["trials"] == "20" and lines[0]["p_value"] == ""


def test_parameters_have_a_column_where_rows_of_a_group_differ_in_them(found):
    first, second, ensemble = found["groups"][0]["rows"]
    first["parameters"] = second["parameters"] = [700_000, 700_000]
    assert "params" not in results_markdown(found) and "params" not in table_page(found)
    second["parameters"] = [1_580_000, 1_580_000]
    head, _, _, *lines = results_markdown(found).splitlines()
    place = [cell.strip() for cell in head.split("|")].index("params")
    assert [line.replace("\\|", "/").split("|")[place].strip() for line in lines[:3]] == ["0.70 M", "1.58 M", "–"]
    assert "1.58 M" in table_page(found)
    sizes = [line["parameters"] for line in csv.DictReader(io.StringIO(results_csv(found)))]
    assert sizes == ["700000", "700000", "1580000", "1580000", ""]


def test_published_figures_have_a_column_where_a_row_has_one(found):
    plain = results_markdown(found), results_csv(found), table_page(found)
    assert not any("ublished" in drawn for drawn in plain)
    found["groups"][0]["rows"][1]["published"] = {"percent": 57.8, "source": "2108.13122 | GEM"}
    head, _, _, without, ours, *_ = results_markdown(found).splitlines()
    columns, cells, empty = (
        [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in (head, ours, without)
    )
    assert columns[5:8] == ["published %", "top-5 %", "seeds"]
    assert (cells[5], empty[5], len(columns)) == ("57.8 (2108.13122 / GEM)", "–", len(cells))
    assert "paper in brackets" in results_markdown(found) and "57.8 (2108.13122 | GEM)" in table_page(found)
    lines = list(csv.DictReader(io.StringIO(results_csv(found))))
    assert [line["published"] for line in lines] == ["", "", "57.8", "57.8", ""]
    assert lines[2]["source"] == "2108.13122 | GEM" and lines[2]["test_images"] == "2000"


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(found):
    page = table_page(found)
    assert "plain &lt;b&gt;" in page and "<b>" not in page.split("<svg")[0]
    assert page.count("<svg") == 1 and "src=" not in page and "http" not in page.replace("http://www.w3.org", "")
    assert "ours | best" in page and "0.200" in page and "About it." in page


def test_a_group_without_a_baseline_says_so(found):
    found["groups"][0]["rows"] = found["groups"][0]["rows"][2:]
    assert "No supervised baseline" in table_page(found)


def test_all_files_are_drawn_again_from_the_results_alone(found, tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(found))
    for _ in range(2):  # the second time over files that are its own
        main(["--results", str(tmp_path / "old.json"), "--output_dir", str(tmp_path / "new")])
    names = sorted(str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*.*"))
    assert names == ["old.csv", "old.json", "old.md", "plots/a-group.png", "report.html"]
    assert (tmp_path / "new" / "old.md").read_text() == results_markdown(found, verdict=True)
    kept = (tmp_path / "new" / "old.json").read_text()
    (tmp_path / "old.json").write_text(json.dumps(found | {"seeds": [7]}))
    with pytest.raises(SystemExit):
        main(["--results", str(tmp_path / "old.json"), "--output_dir", str(tmp_path / "new")])
    assert (tmp_path / "new" / "old.json").read_text() == kept, "other figures of the same table"


def test_render_draws_every_result_where_its_marks_are(project, found):
    places = render(project)
    assert [(name, page.name) for name, page in places] == [
        *(("mine", "README.md"), ("quick", "README.md"), ("quick", "card.md")),
    ]
    text = (project / "README.md").read_text()
    assert f"<!-- mine -->\n{results_markdown(found)}<!-- /mine -->" in text and "old" not in text
    assert "| **base** | 50.0 |" in text and text.endswith("end\n") and text.startswith("# P\n")
    before = text, (project / "model_cards" / "card.md").read_text()
    assert "| **base** | 50.0 |" in before[1]
    render(project)
    assert before == ((project / "README.md").read_text(), (project / "model_cards" / "card.md").read_text())


def test_render_draws_a_plot_that_a_page_links_to(project, found):
    found["groups"][0]["rows"][0]["over_steps"] = {"steps": [8, 16], "top1": [[0.4, 0.5], [0.4, 0.6]]}
    found["plots"] = [{"kind": "steps", "title": "Over steps"}, {"kind": "bars", "title": "All rows"}]
    (project / "model_cards" / "results" / "mine.json").write_text(json.dumps(found))
    (project / "model_cards" / "card.md").write_text("<!-- quick -->\n<!-- /quick -->![](plots/mine-over-steps.png)")
    assert [page.name for _, page in render(project)][-1] == "mine-over-steps.png"
    (picture,) = (project / "model_cards" / "plots").iterdir()
    assert picture.name == "mine-over-steps.png" and picture.read_bytes().startswith(b"\x89PNG")


def test_render_takes_what_was_published_from_the_table(project, found):
    tables, results = project / "scripts" / "recipes" / "tables", project / "model_cards" / "results" / "mine.json"
    tables.mkdir(parents=True)
    rows = [{"name": row["name"], "run": "one", "score": "test"} for row in found["groups"][0]["rows"]]
    rows[2]["published"] = {"source": "1905.12345", "percent": 70}
    one = {"job": "train_student", "recipe": "r.yaml"}
    content = {"title": "T", "runs": {"one": one}, "groups": [{"title": "A group", "rows": rows}]}
    (tables / "mine.yaml").write_text(yaml.safe_dump(content))
    render(project)
    found["groups"][0]["rows"][2]["published"] = {"percent": 70, "source": "1905.12345"}
    assert json.loads(results.read_text()) == found, "and nothing else has changed"
    assert "| 70 (1905.12345) |" in (project / "README.md").read_text()
    (figure,) = [
        each for each in json.loads((results.parent / "index.json").read_text())["figures"] if "published" in each
    ]
    assert figure["row"] == "ensemble"
    del rows[2]["published"]
    (tables / "mine.yaml").write_text(yaml.safe_dump(content))
    render(project)
    assert "1905.12345" not in results.read_text() + (project / "README.md").read_text()


def test_figures_of_another_kind_are_left_alone(project):
    (project / "model_cards" / "results" / "other.json").write_text('{"images": 1000000, "peak_bytes": 3}')
    assert "other" not in dict(render(project))


def test_a_benchmark_is_drawn_where_its_marks_are(project):
    seconds = {"end_to_end": [0.5, 0.4], "ceiling": [0.4, 0.4]}
    case = {"image_size": 32, **case_figures(seconds, 100, dict.fromkeys(PARTS, 1.0), 2**30)}
    machine = {"device": "GPU X", "cpu": "Chip", "cores": 2, "versions": {"torch": "2.15.0"}}
    settings = {"processes": 1, "torch_compile": False}
    one = {"title": "moco", "machine": machine, "settings": settings, "cases": [case], "scaling": [], "estimate": []}
    path = project / "model_cards" / "results" / "benchmark.json"
    path.write_text(json.dumps({"benchmarks": [one]}))
    (project / "README.md").write_text((project / "README.md").read_text() + "<!-- benchmark -->\n<!-- /benchmark -->")
    assert "benchmark" in dict(render(project))
    text = (project / "README.md").read_text()
    assert text.endswith(f"<!-- benchmark -->\n{drawn_results(path)}<!-- /benchmark -->")
    assert "| **32 px** | 222 | 0.90 (0.80 to 1.00) | – | 450.0 |" in text and "GPU X, 2 cores" in text


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("README.md", "<!-- quick -->\n<!-- /quick -->", ["mine.json", "<!-- mine -->"]),
        ("README.md", "<!-- mine -->\n<!-- quick -->\n<!-- /quick -->", ["README.md", "<!-- /mine -->"]),
        ("model_cards/card.md", "<!-- quick -->" * 2, ["card.md", "<!-- quick -->"]),
        ("model_cards/results/mine.json", "{", ["mine.json", "damaged"]),
        ("model_cards/results/mine.json", "[1]", ["mine.json", "reproduce.py"]),
    ],
)
def test_render_refuses_before_any_page_is_touched(project, file, text, words):
    (project / file).write_text(text)
    before = {path: path.read_bytes() for path in project.rglob("*.md")}
    with pytest.raises(InputError) as error:
        render(project)
    assert all(word in error.value.on_command_line for word in words), error.value
    assert before == {path: path.read_bytes() for path in project.rglob("*.md")}


def test_render_outside_the_project(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--render", "--recipes", str(tmp_path / "scripts" / "recipes")])
    assert "model_cards/results" in capsys.readouterr().err
