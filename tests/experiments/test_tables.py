"""From finished runs to the figures of a table, and from the figures alone to the table."""

import json

import pytest
import torch

from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.predictions import write_predictions
from hf_vipriors.experiments.table_files import results_markdown
from hf_vipriors.experiments.table_results import own_seconds, results
from hf_vipriors.experiments.tables import Table, TableRun

PUBLISHED = {"percent": 57.8, "source": "2108.13122"}


@pytest.fixture
def folder_of(tmp_path):
    """Two runs of three seeds with figures of their own."""
    known = {"plain": [0.50, 0.52, 0.54], "better": [0.60, 0.61, 0.65]}
    for run, values in known.items():
        for seed, value in enumerate(values):
            folder = tmp_path / f"seed{seed}" / run
            folder.mkdir(parents=True)
            score = {"top1": value, "count": 2000}
            (folder / "metrics.json").write_text(json.dumps({"test": score, "peer": {"knn": score | {"top1": 0.25}}}))
    return lambda seed, run: tmp_path / f"seed{seed}" / run


@pytest.fixture
def table():
    rows = [
        {"name": "plain", "run": "plain", "score": "test", "baseline": True},
        {"name": "better", "run": "better", "score": "test", "note": "with a | in it", "published": PUBLISHED},
    ]
    groups = [
        {"title": "Two runs", "about": "Said above the table.", "rows": rows},
        {"title": "A peer", "rows": [{"name": "peer", "run": "better", "score": "peer.knn"}]},
    ]
    return Table("mine", "My table", [TableRun("plain", "train_student"), TableRun("better", "train_student")], groups)


def test_figures_are_those_of_the_runs(table, folder_of):
    found = results(table, [0, 1, 2], folder_of)
    plain, better = found["groups"][0]["rows"]
    assert plain["top1"] == [0.50, 0.52, 0.54] and better["top1"] == [0.60, 0.61, 0.65]
    assert plain["summary"]["mean"] == pytest.approx(0.52) and plain["summary"]["difference"] is None
    assert better["published"] == PUBLISHED and "published" not in plain
    assert better["summary"]["difference"] == pytest.approx(0.10)
    # Student's t with two degrees of freedom over the paired differences 0.10, 0.09, 0.11.
    low, high = better["summary"]["difference_interval"]
    assert (low, high) == (pytest.approx(0.10 - 4.3027 * 0.01 / 3**0.5, abs=1e-5), pytest.approx(0.2 - low))
    assert found["groups"][0]["verdict"] == [
        "better beats plain by 10.0 points (95 % interval +7.5 to +12.5, excludes zero)."
    ]
    (peer,) = found["groups"][1]["rows"]
    assert peer["top1"] == [0.25] * 3 and peer["test_images"] == 2000
    assert (found["table"], found["title"], found["seeds"]) == ("mine", "My table", [0, 1, 2])


def test_the_tables_come_from_the_json_alone(table, folder_of):
    found = results(table, [0, 1, 2], folder_of)
    drawn = results_markdown(found)
    assert results_markdown(json.loads(json.dumps(found))) == drawn, "JSON holds all that is drawn"
    assert results_markdown(found) == drawn, "drawing changes nothing"
    assert "\n| *Two runs*<br>Said above the table. | | | | | |\n| **plain** | 52.0 |" in drawn and "3 seeds" in drawn
    assert "| 62.0 |" in drawn and "with a \\| in it" in drawn and drawn.count("| run |") == 1, "one table"
    assert "beats" not in drawn and drawn.endswith("\n") and not drawn.endswith("\n\n")
    worded = results_markdown(found, verdict=True)
    assert "**Two runs**\n\n- better beats plain by 10.0 points" in worded and worded.startswith(
        drawn.split("\n\n")[0]
    )


def test_one_seed_says_so(table, folder_of):
    drawn = results_markdown(results(table, [1], folder_of))
    assert "One seed" in drawn and "3 seeds" not in drawn


def test_a_run_without_the_score(table, folder_of):
    table.groups[1]["rows"][0]["run"] = "plain"
    table.groups[1]["rows"][0]["score"] = "peer.linaer"
    with pytest.raises(InputError, match="row 'peer'.*'peer.linaer'.*'knn'"):
        results(table, [0], folder_of)


def test_references_are_other_runs_folders():
    run = TableRun("b", "train_student", options={"teacher": "{a}", "backbone_args": {"x": "{a}"}, "flip": 0.5})
    assert run.uses == ["a"]
    assert run.options_with({"a": "out/a"}) == {"teacher": "out/a", "backbone_args": {"x": "{a}"}, "flip": 0.5}
    assert TableRun("c", "train_student", options={"student_init": "{a}/x", "teacher": "{b}"}).uses == ["a", "b"]


def test_a_chain_of_runs_is_kept_whole():
    runs = [
        TableRun("a", "train_teacher"),
        TableRun("b", "pretrain_student", options={"teacher": "{a}"}),
        TableRun("c", "train_student", options={"teacher": "{b}"}),
        TableRun("d", "train_student"),
    ]
    rows = [{"name": run.name, "run": run.name, "score": "test"} for run in runs]
    table = Table("t", "T", runs, [{"title": "1", "rows": rows}, {"title": "2", "rows": rows[3:]}])
    only = table.only(["c"])
    assert [run.name for run in only.runs] == ["a", "b", "c"]
    assert [[row["run"] for row in group["rows"]] for group in only.groups] == [["a", "b", "c"]]
    assert len(table.groups[0]["rows"]) == 4, "the whole table stays as it was"


def test_the_time_of_a_search_counts_once(folder_of):
    made = {"seconds": 10.0, "search": {"trials": 20, "seconds": 100.0}}
    assert own_seconds(TableRun("tuned", "train_student", options={"trials": 20}), made) == 110
    assert own_seconds(TableRun("again", "train_student", options={"settings_of": "{tuned}"}), made) == 10
    assert own_seconds(TableRun("plain", "train_student"), {"seconds": None}) is None


def test_mcnemar_is_of_top1_alone(table, folder_of):
    labels = torch.tensor([0] * 6 + [1] * 6)
    for run, right in (("plain", 6), ("better", 12)):
        write_predictions(folder_of(0, run), torch.eye(2)[torch.where(torch.arange(12) < right, labels, 0)], labels)
        path = folder_of(0, run) / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["test"]["balanced_accuracy"] = 0.5
        path.write_text(json.dumps(metrics))
    # Six images of which one alone is right, and always the same one: 2 * 0.5 ** 6.
    assert results(table, [0], folder_of)["groups"][0]["rows"][1]["p_values"] == [pytest.approx(0.03125)]
    for row in table.groups[0]["rows"]:
        row["metric"] = "balanced_accuracy"
    assert all("p_values" not in row for row in results(table, [0], folder_of)["groups"][0]["rows"])


def test_balanced_accuracy_in_place_of_top1(table, folder_of):
    for run in ("plain", "better"):
        path = folder_of(0, run) / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["test"] |= {"balanced_accuracy": metrics["test"]["top1"] / 2}
        path.write_text(json.dumps(metrics))
    for row in table.groups[0]["rows"]:
        row["metric"] = "balanced_accuracy"
    found = results(table, [0], folder_of)
    plain, better = found["groups"][0]["rows"]
    assert (plain["top1"], better["top1"]) == ([0.25], [0.30])
    assert plain["summary"]["interval"] is None, "no share of images, so no interval of one run"
    assert better["summary"]["difference"] == pytest.approx(0.05) and better["summary"]["difference_interval"] is None
    assert "(balanced accuracy in place of top-1)" in results_markdown(found)
