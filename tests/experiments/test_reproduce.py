"""Whole tables as one job: stopped and started again, checked before anything runs, drawn into a README."""

import html
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from earlier_runs import as_earlier
from safetensors import safe_open
from safetensors.torch import save_file

from hf_vipriors.evaluation.predictions import read_predictions, write_predictions
from hf_vipriors.evaluation.statistics import mcnemar
from hf_vipriors.experiments import reproduce, table_runs
from hf_vipriors.experiments.reproduce import main
from hf_vipriors.experiments.table_files import read_results, results_markdown
from hf_vipriors.files import write_json
from hf_vipriors.search.space import SearchSpace
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.run_files import TRAINED_FILE, write_run
from hf_vipriors.training.run_folder import check_output_dir, claim_output_dir

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
# What a finished run of each kind leaves in metrics.json; the figures differ by seed.
FIGURES = {
    "train_teacher": ("knn", "linear"),
    "pretrain_student": ("knn", "linear", "peer"),
    "train_student": ("test", "test_without_duplicates", "corrupted"),
    "evaluate": ("test", "test_without_duplicates"),
}


class Killed(BaseException):
    """Like a signal: nothing catches it."""


@pytest.fixture
def table(photos, tmp_path):
    """A table of three runs, of which one uses another, as a file; the options keep real runs tiny."""
    tiny = {
        **{"dataset_name": "imagefolder", "data_dir": str(photos), "use_cpu": True, "disable_tqdm": True},
        **{"image_size": 32, "backbone": "resnet18", "max_steps": 2, "per_device_train_batch_size": 6},
        "backbone_args": {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4},
    }
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    supervised = {"job": "train_student", "recipe": "tiny.yaml"}
    content = {
        "title": "A tiny table",
        "runs": {
            "teacher": {"job": "train_teacher", "recipe": "tiny.yaml", "options": {"projector_dim": 8}},
            "scratch": {**supervised, "options": {"method": "supervised"}},
            "tuned": {**supervised, "options": {"method": "supervised", "teacher": "{teacher}"}},
        },
        "groups": [
            {
                "title": "On labels",
                "about": "A line about it.",
                "rows": [
                    {"name": "from scratch", "run": "scratch", "score": "test", "baseline": True},
                    {"name": "fine-tuned", "run": "tuned", "score": "test", "note": "as many epochs"},
                ],
            },
            {"title": "Features", "rows": [{"name": "the teacher", "run": "teacher", "score": "linear"}]},
        ],
    }
    return Changeable(tmp_path / "tiny.yaml", content)


class Changeable:
    """A table's file: ``options()`` are what reads it, ``content`` may be changed before ``write()``."""

    def __init__(self, path, content):
        self.path, self.content = path, content
        self.folder = path.parent / "out"
        self.write()

    def write(self):
        self.path.write_text(yaml.safe_dump(self.content, sort_keys=False))

    def options(self, *more, seeds=("0",)):
        places = ["--output_dir", str(self.folder), "--recipes", str(self.path.parent / "recipes")]
        return ["--table", str(self.path), *places, "--seeds", *seeds, *more]


@pytest.fixture
def jobs(monkeypatch):
    """Jobs that only leave a run's files; gives the list of what they ran. ``Killed`` strikes at ``stop``."""

    class Ran(list):
        stop = None

    ran = Ran()

    def fake(job, kind):
        def run(data, args):
            folder = Path(args.output_dir)
            if job == "evaluate":
                folder.mkdir(parents=True)
                made = {"command": job, "data": vars(data), "arguments": args.to_dict()}
                write_json(folder / "run.json", made)
            else:
                check_output_dir(args, None)
                claim_output_dir(args, None)
                write_run(job, data, args, resolve(args, images=50_000), {})
            ran.append(f"{folder.parent.name}/{folder.name}")
            if ran.stop == ran[-1]:
                raise Killed
            score = {"top1": (60 + args.seed + len(folder.name) % 30) / 100, "count": 100}
            metrics = dict.fromkeys(FIGURES[job], score)
            if "peer" in metrics:
                metrics["peer"] = {"knn": score, "linear": score}
            (folder / "model.safetensors").write_bytes(os.urandom(8))
            write_json(folder / "metrics.json", metrics)

        return kind, run

    for job, (kind, _) in reproduce.JOBS.items():
        monkeypatch.setitem(reproduce.JOBS, job, fake(job, kind))
    return ran


@pytest.fixture
def refused(capsys, tmp_path):
    def run(argv):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}, "nothing is written"
        return line

    return run


def test_a_real_table_from_end_to_end(table, capsys):
    table.content["runs"]["tuned"]["options"]["bf16"] = True  # each run has its own precision
    table.write()
    main(table.options(seeds=("0", "1")))
    found = json.loads((table.folder / "results.json").read_text())
    assert found["table"] == "tiny" and found["seeds"] == [0, 1] and "torch" in found["versions"]
    rows = {row["name"]: row for group in found["groups"] for row in group["rows"]}
    for name, run, score in (("from scratch", "scratch", "test"), ("the teacher", "teacher", "linear")):
        metrics = [json.loads((table.folder / f"seed{s}" / run / "metrics.json").read_text()) for s in (0, 1)]
        assert rows[name]["top1"] == [each[score]["top1"] for each in metrics]
        logged = [json.loads((table.folder / f"seed{s}" / run / "trainer_state.json").read_text()) for s in (0, 1)]
        key = "eval_top1" if score == "test" else "eval_knn_top1"
        curves = [[entry[key] for entry in each["log_history"] if key in entry] for each in logged]
        assert rows[name]["over_steps"]["top1"] == curves and all(curves)
    used = json.loads((table.folder / "seed1" / "tuned" / "run.json").read_text())["arguments"]
    assert used["teacher"] == str(table.folder / "seed1" / "teacher") and used["seed"] == 1
    drawn = (table.folder / "results.md").read_text()
    assert "**On labels**" in drawn and "A line about it." in drawn and "as many epochs" in drawn
    shown = capsys.readouterr().out
    assert "6 of 6" in shown and "tuned, seed 1" in shown and "left" in shown
    before = {path: path.stat().st_mtime_ns for path in table.folder.glob("seed*/**/*")}
    main(table.options(seeds=("0", "1")))
    assert before == {path: path.stat().st_mtime_ns for path in table.folder.glob("seed*/**/*")}, "nothing ran again"
    assert (table.folder / "results.md").read_text() == drawn


def test_stopped_and_started_again(table, jobs):
    jobs.stop = "seed0/tuned"
    with pytest.raises(Killed):
        main(table.options(seeds=("0", "1")))
    assert jobs == ["seed0/teacher", "seed0/scratch", "seed0/tuned"]
    assert not (table.folder / "results.json").exists()
    jobs.stop = None
    jobs.clear()
    main(table.options(seeds=("0", "1")))
    assert jobs == ["seed0/tuned", "seed1/teacher", "seed1/scratch", "seed1/tuned"]
    jobs.clear()
    main(table.options(seeds=("0", "1", "2")))
    assert jobs == ["seed2/teacher", "seed2/scratch", "seed2/tuned"]
    found = json.loads((table.folder / "results.json").read_text())
    assert [len(row["top1"]) for group in found["groups"] for row in group["rows"]] == [3, 3, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_decay": 0.3}, ["weight_decay", "0.3"]),
        ({"learning_rate": 0.25}, ["learning_rate", "0.25"]),
        ({"per_device_train_batch_size": 4}, ["per_device_train_batch_size", "4"]),
        ({"images_per_class": 4}, ["images_per_class", "4"]),
        ({"max_steps": 3}, ["max_steps", "3"]),
    ],
)
def test_changed_settings_are_refused(table, jobs, refused, change, words):
    main(table.options())
    table.content["runs"]["scratch"]["options"] |= change
    table.write()
    jobs.clear()
    line = refused(table.options())
    assert all(word in line for word in [*words, "seed0/scratch", "--output_dir"]), line
    assert not jobs


# Added after some runs were made: of the data, settled by the method, a list, and scaled by --length.
YOUNGER = ("label_noise", "unlabelled_ratio", "more_teachers", "head_epochs")


@pytest.mark.parametrize("length", ["1", "0.5"])
def test_an_option_that_is_younger_than_a_run_had_its_default(table, jobs, refused, length):
    main(table.options("--length", length))
    file = table.folder / "seed0" / "scratch" / "run.json"
    made = json.loads(file.read_text())
    for name in YOUNGER:
        del made["arguments" if name in made["arguments"] else "data"][name]
    file.write_text(json.dumps(made))
    jobs.clear()
    main(table.options("--length", length))
    assert not jobs, "the defaults are what the table has"
    options = dict(table.content["runs"]["scratch"]["options"])
    for change in ({"label_noise": 0.4}, {"head_epochs": 10}):
        table.content["runs"]["scratch"]["options"] = options | change
        table.write()
        line = refused(table.options("--length", length))
        assert "seed0/scratch" in line and next(iter(change)) in line and not jobs


def test_a_run_that_cannot_be_without_a_younger_option_is_refused(table, jobs, refused):
    table.content["runs"]["scratch"]["options"]["unlabelled_ratio"] = 1
    table.content["runs"]["scratch"]["options"] |= {"method": "kd", "teacher": "{teacher}"}
    table.write()
    main(table.options())
    file = table.folder / "seed0" / "scratch" / "run.json"
    made = json.loads(file.read_text())
    del made["arguments"]["teacher"]
    file.write_text(json.dumps(made))
    jobs.clear()
    assert "teacher None" in refused(table.options()) and not jobs


@pytest.fixture
def earlier(table, jobs):
    """The table with a run of each job that trains, finished by an earlier version; gives a run's folder by name."""
    pretrain = {"job": "pretrain_student", "recipe": "tiny.yaml"}
    table.content["runs"] |= {
        "seed": {**pretrain, "options": {"method": "seed", "teacher": "{teacher}"}},
        "dogo": {**pretrain, "options": {"method": "dogo", "projector_dim": 8}},
        "both": {"job": "evaluate", "options": {"students": ["{scratch}", "{tuned}"]}},
    }
    rows = [{"name": name, "run": name, "score": "linear"} for name in ("seed", "dogo")]
    table.content["groups"][1]["rows"] += [*rows, {"name": "both", "run": "both", "score": "test"}]
    table.content["runs"]["scratch"]["options"]["per_device_train_batch_size"] = 0
    table.write()
    main(table.options())
    made = {name: as_earlier(table.folder / "seed0" / name)["arguments"] for name in table.content["runs"]}
    assert made["scratch"]["label_smoothing"] == 0.1 and made["scratch"]["per_device_train_batch_size"] > 0
    assert made["seed"]["mutual_weight"] == 1 and made["teacher"]["learning_rate"] > 0
    jobs.clear()
    return lambda name: table.folder / "seed0" / name


def test_a_run_of_an_earlier_version_is_a_finished_one(table, jobs, earlier):
    main(table.options())
    assert not jobs
    assert not any("resolved" in json.loads(file.read_text()) for file in table.folder.glob("*/*/run.json"))


@pytest.mark.parametrize(
    ("run", "had"),
    [
        ("scratch", {"label_smoothing": 0.3}),  # that follows from the method
        ("scratch", {"images_per_class": 4}),  # those have no value in the table
        ("scratch", {"auto_augment": "cifar10"}),
        ("scratch", {"teacher": "me/teacher"}),
        ("scratch", {"weight_decay": 0.3}),
        ("tuned", {"per_device_train_batch_size": 4}),  # where the table gives one
        ("teacher", {"margin": 0.1}),
        ("dogo", {"mutual_weight": 2.0}),
        ("both", {"ten_crop": True}),
    ],
)
def test_a_run_of_an_earlier_version_with_other_settings_is_refused(table, jobs, earlier, refused, run, had):
    as_earlier(earlier(run), **had)
    line = refused(table.options())
    assert f"seed0/{run} was run with {next(iter(had))} {next(iter(had.values()))}" in line and not jobs


@pytest.mark.parametrize(
    "change", [{"label_smoothing": 0.3}, {"learning_rate": 0.25}, {"images_per_class": 4}, {"teacher": "{teacher}"}]
)
def test_settings_that_change_after_a_run_of_an_earlier_version_are_refused(table, jobs, earlier, refused, change):
    table.content["runs"]["scratch"]["options"] |= change
    table.write()
    line = refused(table.options())
    assert "seed0/scratch" in line and next(iter(change)) in line and not jobs


def test_a_run_in_which_nothing_was_filled_is_no_earlier_one(table, jobs, refused):
    """Its empty ``resolved`` says that all of it was given."""
    main(table.options())
    file = table.folder / "seed0" / "scratch" / "run.json"
    run = json.loads(file.read_text())
    run["arguments"] |= {name: entry["value"] for name, entry in run["resolved"].items()}
    file.write_text(json.dumps(run | {"resolved": {}}))
    jobs.clear()
    assert "seed0/scratch was run with" in refused(table.options()) and not jobs


def test_a_folder_may_be_written_otherwise_or_moved(table, jobs, refused, monkeypatch):
    main(table.options())
    jobs.clear()
    monkeypatch.chdir(table.folder.parent)
    table.folder = Path("out")
    main(table.options())
    table.folder = table.folder.rename("elsewhere")
    main(table.options())
    assert not jobs
    table.content["runs"]["tuned"]["options"]["teacher"] = "{scratch}"
    table.write()
    line = refused(table.options())
    assert "teacher" in line and "seed0/scratch" in line and not jobs


def test_settings_that_change_no_figure_may_change(table, jobs):
    main(table.options())
    table.content["runs"]["scratch"]["options"] |= {"disable_tqdm": False, "eval_steps": 0.5, "logging_steps": 5}
    table.write()
    jobs.clear()
    main(table.options())
    assert not jobs


def test_length_multiplies_all_epochs(table, jobs, refused, capsys):
    options = {"num_train_epochs": 40, "lr_milestones": [20, 30], "head_epochs": 30, "distil_from_epoch": 10}
    options |= {"max_steps": 50}
    table.content["runs"]["scratch"]["options"] |= options
    table.write()
    main(table.options("--length", "0.1"))
    made = json.loads((table.folder / "seed0" / "scratch" / "run.json").read_text())["arguments"]
    assert (made["num_train_epochs"], made["head_epochs"], made["distil_from_epoch"]) == (4, 3, 1)
    assert made["lr_milestones"] == [2, 3] and made["max_steps"] == 5
    said = "Trained for 10 % of the table's length, at least one epoch or step."
    assert json.loads((table.folder / "results.json").read_text())["length"] == 0.1
    assert all(said in text for text in (shown(table.folder), " ".join(capsys.readouterr().out.split())))
    line = refused(table.options())
    assert "seed0/teacher" in line and "max_steps 1, the table has 2" in line


@pytest.mark.parametrize(("asked", "ran"), [(["tuned"], ["teacher", "tuned"]), (["scratch"], ["scratch"])])
def test_only_some_runs_and_what_they_use(table, jobs, asked, ran):
    main(table.options("--runs", *asked))
    assert jobs == [f"seed0/{name}" for name in ran]
    found = json.loads((table.folder / "results-partial.json").read_text())
    assert {row["run"] for group in found["groups"] for row in group["rows"]} == set(ran)


def test_runs_that_no_row_shows(table, jobs):
    del table.content["groups"][1]
    table.write()
    main(table.options("--runs", "teacher"))
    found = json.loads((table.folder / "results-partial.json").read_text())
    assert jobs == ["seed0/teacher"] and found["groups"] == []


def test_a_part_of_a_table_leaves_the_whole_alone(table, jobs, refused, tmp_path):
    main(table.options(seeds=("0", "1")))
    whole = {name: (table.folder / name).read_bytes() for name in ("results.json", "results.md")}
    page = tmp_path / "README.md"
    page.write_text("<!-- tiny -->\n<!-- /tiny -->")
    for part in (table.options("--runs", "tuned", seeds=("0", "1")), table.options(seeds=("1",))):
        main(part)
        assert {name: (table.folder / name).read_bytes() for name in whole} == whole
        assert "--draw" in refused([*part, "--draw", str(page)])
    assert json.loads((table.folder / "results-partial.json").read_text())["seeds"] == [1]
    main(table.options("--draw", str(page), seeds=("0", "1", "2")))
    assert "3 seeds" in page.read_text()


@pytest.mark.parametrize("name", ["results.csv", "report.html", "results.json", "plots", "report-partial.html"])
def test_files_that_are_not_of_this_table_are_left_alone(table, jobs, refused, name):
    table.folder.mkdir()
    (table.folder / name).write_text("mine")
    for more in ([], ["--runs", "scratch"]):
        line = refused(table.options(*more))
        assert name in line and str(table.folder) in line and "choose another --output_dir" in line
    assert not jobs


@pytest.mark.parametrize("more", [[], ["--runs", "scratch"]])
def test_results_of_another_table_are_left_alone(table, jobs, refused, more):
    main(table.options(*more))
    other = Changeable(table.path.with_name("other.yaml"), table.content)
    name = "results-partial.json" if more else "results.json"
    kept = table.folder / name
    for argv in (other.options(), other.options("--runs", "tuned"), other.options(seeds=("1",))):
        line = refused(argv)
        assert name in line and "not known to be of table other" in line
    elsewhere = write_json(table.path.with_name(name), json.loads(kept.read_text()) | {"table": "other"})
    assert name in refused(["--results", str(elsewhere), "--output_dir", str(table.folder)])
    main(["--results", str(kept), "--output_dir", str(table.folder)])


def test_what_a_killed_first_run_left_is_its_own(table, jobs):
    jobs.stop = "seed0/scratch"
    with pytest.raises(Killed):
        main(table.options())
    jobs.stop = None
    for argv in (table.options(), table.options(), table.options("--runs", "tuned"), table.options(seeds=("0", "1"))):
        main(argv)
    assert json.loads((table.folder / "results.json").read_text())["seeds"] == [0, 1]


def shown(folder):
    """What is under the table in Markdown; the page has it too."""
    remarks = (folder / "results.md").read_text().rstrip().split("\n\n")[-1]
    page = html.unescape((folder / "report.html").read_text())
    assert all(sentence in page for sentence in remarks.split(". "))
    return remarks


def test_what_another_process_has_finished_meanwhile_stays(table, jobs, monkeypatch):
    make = table_runs.Reproduction._make

    def after_another(self, level, seed, run):
        monkeypatch.setattr(table_runs.Reproduction, "_make", make)
        main(table.options("--at_once", "1"))
        make(self, level, seed, run)

    monkeypatch.setattr(table_runs.Reproduction, "_make", after_another)
    main(table.options("--at_once", "1"))
    assert sorted(jobs) == ["seed0/scratch", "seed0/teacher", "seed0/tuned"]


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ([], None),
        (["scratch", "tuned", "teacher"], "No independent test split: whatever was chosen on the validation"),
        (["tuned"], "No independent test split for fine-tuned: whatever was chosen on"),
    ],
)
def test_scores_on_validation_are_told(table, jobs, without, words):
    """Of a data set without a test split."""
    main(table.options())
    for run in without:
        file = table.folder / "seed0" / run / "metrics.json"
        write_json(file, json.loads(file.read_text()) | {"test_is_validation": True})
    main(table.options())
    found = json.loads((table.folder / "results.json").read_text())
    rows = [row for group in found["groups"] for row in group["rows"]]
    assert [row["run"] for row in rows if "test_is_validation" in row] == without
    assert (words or "seed") in shown(table.folder) and not {"length", "dataset"} & found.keys()
    assert ("validation" in shown(table.folder)) == bool(words)
    assert ("test images" in shown(table.folder)) == (len(without) < 3)


def test_rows_on_other_images_than_the_baseline_are_told(table, jobs, capsys):
    """As where images were removed between two runs of one table."""
    labels = torch.arange(4) % 2
    folders = {run: table.folder / "seed0" / run for run in ("scratch", "tuned")}
    digests = {run: torch.arange(4) for run in folders}

    def told(of_tuned, kept=digests):
        for run, folder in folders.items():
            write_predictions(folder, torch.eye(2)[labels], of_tuned if run == "tuned" else labels)
            save_file({"scored": kept[run]}, folder / TRAINED_FILE)
        main(table.options())
        said = "Scored on other images than the baseline: fine-tuned." in shown(table.folder)
        assert said == ("were scored on different images" in capsys.readouterr().err)
        return said

    main(table.options())
    assert not told(labels) and told(1 - labels)
    assert told(labels, digests | {"tuned": torch.arange(1, 5)}), "the same labels"
    file = folders["tuned"] / "metrics.json"
    write_json(file, json.loads(file.read_text()) | {"test": {"top1": 0.5, "count": 90}})
    assert told(labels)


def test_what_used_a_run_that_was_made_again_is_refused(table, jobs, refused):
    main(table.options())
    shutil.rmtree(table.folder / "seed0" / "teacher")
    main(table.options("--runs", "teacher"))
    jobs.clear()
    line = refused(table.options())
    assert "tuned" in line and "another teacher" in line and "remove it" in line and not jobs
    shutil.rmtree(table.folder / "seed0" / "tuned")
    main(table.options())
    assert jobs == ["seed0/tuned"]


@pytest.fixture
def ensemble(table):
    """The table with one run that is made once, a matrix that starts from it, and an ensemble of its cells."""
    supervised = table.content["runs"]["scratch"]
    table.content["runs"] = {
        "teacher": table.content["runs"]["teacher"] | {"once": True},
        "tuned": {
            **supervised,
            "matrix": {"flip": [0.0, 0.5]},
            "options": {"method": "supervised", "teacher": "{teacher}", "flip": "$flip"},
        },
        "both": {"job": "evaluate", "options": {"students": ["{tuned-flip0.0}", "{tuned-flip0.5}"], "ten_crop": True}},
    }
    rows = [
        {
            "name": "flip $flip",
            "run": "tuned",
            "score": "test",
            "matrix": {"flip": [0.0, 0.5]},
            "baseline": {"flip": 0.0},
        },
        {"name": "both", "run": "both", "score": "test"},
    ]
    probe = {"name": "the teacher", "run": "teacher", "score": "linear"}
    table.content["groups"] = [{"title": "On labels", "rows": rows}, {"title": "Features", "rows": [probe]}]
    table.content["plots"] = [{"kind": "curve", "title": "Flips", "x": "flip"}]
    table.write()
    return table


def test_a_real_ensemble_of_a_matrix(ensemble):
    main(ensemble.options(seeds=("0", "1")))
    out = ensemble.folder
    assert sorted(path.name for path in (out / "once").iterdir()) == ["teacher"]
    both, first, second = (
        read_predictions(out / "seed1" / name) for name in ("both", "tuned-flip0.0", "tuned-flip0.5")
    )
    assert torch.equal(both.labels, first.labels) and not torch.equal(first.values, second.values)
    # Ten crops and not one, but of the same two networks.
    assert torch.allclose(both.values, (first.values + second.values) / 2, atol=0.2)
    found = json.loads((out / "results.json").read_text())
    rows = {row["name"]: row for group in found["groups"] for row in group["rows"]}
    right = [float((a.values.argmax(1) == a.labels).float().mean()) for a in (both,)]
    assert rows["both"]["top1"][1] == pytest.approx(right[0]) and rows["both"]["seeds"] == [0, 1]
    assert len(rows["the teacher"]["top1"]) == 1 and rows["the teacher"]["seeds"] == [0]
    correct = [(a.values.argmax(1) == a.labels).numpy() for a in (second, first)]
    assert rows["flip 0.5"]["p_values"][1] == mcnemar(*correct) and len(rows["both"]["p_values"]) == 2
    own = json.loads((out / "seed0" / "tuned-flip0.0" / "metrics.json").read_text())["seconds"]
    shared = json.loads((out / "once" / "teacher" / "metrics.json").read_text())["seconds"]
    assert rows["flip 0.0"]["seconds"][0] == pytest.approx(own + shared), "the teacher was not for nothing"
    (network,) = {tuple(each["parameters"]) for each in rows.values() if each["run"].startswith("tuned")}
    with safe_open(out / "seed0" / "tuned-flip0.0" / "model.safetensors", "pt") as weights:
        kept = [
            name for name in weights.keys() if not name.endswith(("running_mean", "running_var", "batches_tracked"))
        ]
        assert network == (sum(weights.get_tensor(name).numel() for name in kept),) * 2
    assert "calibration_error" in rows["both"] and "McNemar p" in (out / "results.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/metrics.json")}
    main(ensemble.options(seeds=("0", "1")))
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/*/metrics.json")}, "nothing ran again"


def test_once_is_once_for_all_seeds(ensemble, jobs):
    main(ensemble.options(seeds=("0", "1")))
    assert jobs == [
        *("once/teacher", "seed0/tuned-flip0.0", "seed0/tuned-flip0.5", "seed0/both"),
        *("seed1/tuned-flip0.0", "seed1/tuned-flip0.5", "seed1/both"),
    ]
    used = json.loads((ensemble.folder / "seed1" / "both" / "run.json").read_text())
    assert used["arguments"]["students"] == [str(ensemble.folder / "seed1" / f"tuned-flip{f}") for f in (0.0, 0.5)]
    assert used["data"]["dataset_name"] == "imagefolder", "scored on what its students learnt from"
    jobs.clear()
    main(ensemble.options(seeds=("1", "2")))
    assert jobs == [f"seed2/{name}" for name in ("tuned-flip0.0", "tuned-flip0.5", "both")]
    *_, probes = read_results(ensemble.folder / "results-partial.json")["groups"]
    assert probes["rows"][0]["seeds"] == [0], "made with the first seed of the first time"


def test_what_is_made_once_uses_the_first_seeds_runs(ensemble, jobs):
    del ensemble.content["runs"]["teacher"]["once"]
    ensemble.content["runs"]["tuned"]["once"] = True
    ensemble.write()
    main(ensemble.options(seeds=("3", "1")))
    tuned = ["once/tuned-flip0.0", "once/tuned-flip0.5"]
    assert jobs == ["seed3/teacher", *tuned, "seed3/both", "seed1/teacher", "seed1/both"]
    used = json.loads((ensemble.folder / "once" / "tuned-flip0.0" / "run.json").read_text())["arguments"]
    assert used["teacher"] == str(ensemble.folder / "seed3" / "teacher") and used["seed"] == 3
    jobs.clear()
    main(ensemble.options(seeds=("1", "2")))
    assert jobs == ["seed2/teacher", "seed2/both"], "what was made with seed 3 stands for these too"


def test_runs_that_differ_in_luck_alone(ensemble, jobs, refused):
    ensemble.content["runs"]["tuned"] = {
        **ensemble.content["runs"]["tuned"],
        "matrix": {"flip": [0.5], "luck": [0, 100]},
        "seed_offset": "$luck",
    }
    students = [f"{{tuned-flip0.5-luck{luck}}}" for luck in (0, 100)]
    ensemble.content["runs"]["both"]["options"]["students"] = students
    (row, both) = ensemble.content["groups"][0]["rows"]
    ensemble.content["groups"][0]["rows"] = [row | {"matrix": {"flip": [0.5]}, "run": "tuned-flip0.5-luck0"}, both]
    ensemble.content["groups"][0]["rows"][0]["baseline"] = True
    ensemble.content.pop("plots")
    ensemble.write()
    main(ensemble.options(seeds=("3", "4")))
    for seed in (3, 4):
        for luck in (0, 100):
            folder = ensemble.folder / f"seed{seed}" / f"tuned-flip0.5-luck{luck}"
            assert json.loads((folder / "run.json").read_text())["arguments"]["seed"] == seed + luck
    jobs.clear()
    main(ensemble.options(seeds=("3", "4")))
    assert not jobs
    ensemble.content["runs"]["teacher"]["seed_offset"] = 1
    ensemble.write()
    assert "seed_offset" in refused(ensemble.options())


def test_each_seed_may_have_labelled_images_of_its_own(tmp_path):
    table = reproduce.read_table("label_next", RECIPES / "tables", list(reproduce.JOBS))
    args = reproduce.ReproduceArguments(table="label_next", output_dir=str(tmp_path), recipes=str(RECIPES))
    made = reproduce.Reproduction(table, args.request("label_next"))
    found = {
        (seed, name): made.settings(seed, name)[0] for seed in (0, 2) for name in ("drawn-images5", "chosen-images5")
    }
    assert {(seed, data.subset_seed, data.validation_seed) for (seed, _), data in found.items()} == {
        (0, 0, 0),
        (2, 2, 0),
    }
    assert [data.choose_with for data in found.values()] == [None, "fashion-vipriors-teacher"] * 2


def test_another_ensemble_is_refused(ensemble, jobs, refused):
    main(ensemble.options())
    ensemble.content["runs"]["both"]["options"]["students"].pop()
    ensemble.write()
    assert "students" in refused(ensemble.options())
    ensemble.content["runs"]["both"]["options"] = {"students": ["{teacher}"]}
    ensemble.write()
    assert "train_student" in refused(ensemble.options())
    ensemble.content["runs"]["both"]["options"] = {"students": []}
    ensemble.write()
    assert "both" in refused(ensemble.options())


def test_a_search_space_that_cannot_be_read_is_refused_before_anything_runs(table, jobs, refused, tmp_path):
    table.content["runs"]["tuned"]["options"] |= {"trials": 2, "search_space": str(tmp_path / "none.yaml")}
    table.write()
    assert "none.yaml" in refused(table.options()) and not jobs


def test_a_finished_search_over_another_space_is_refused(table, jobs, refused, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {low: 0.01, high: 0.2, log: true}\ncrop_scale: [[0.3, 1.0], [0.5, 1.0]]\n")
    table.content["runs"]["scratch"]["options"] |= {"trials": 2, "search_space": str(space)}
    table.write()
    main(table.options())
    found = {"space": SearchSpace.read(str(space)).describe()}
    write_json(table.folder / "seed0" / "scratch" / "search.json", found)
    space.write_text(f"# said otherwise\n{space.read_text()}")
    jobs.clear()
    main(table.options())
    space.write_text(space.read_text().replace("0.2", "0.5"))
    line = refused(table.options())
    assert "space.yaml" in line and "seed0/scratch" in line and not jobs


def test_trials_change_the_runs_that_search(table, jobs, tmp_path):
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 0.01, high: 0.2, log: true}\n")
    table.content["runs"]["scratch"]["options"] |= {"trials": 20, "search_space": str(tmp_path / "space.yaml")}
    table.write()
    main(table.options("--trials", "3"))
    made = {run: json.loads((table.folder / "seed0" / run / "run.json").read_text()) for run in ("scratch", "tuned")}
    assert {run: found["arguments"]["trials"] for run, found in made.items()} == {"scratch": 3, "tuned": 0}


def test_another_data_set(table, jobs, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table.content["runs"]["scratch"]["options"] |= {"images_per_class": 5, "label_column": "label"}
    table.write()
    argv = table.options("--dataset", str(photos))
    del argv[argv.index("--output_dir") : argv.index("--output_dir") + 2]
    main(argv)
    folder = tmp_path / "outputs" / "tables" / f"tiny-{photos.name}"
    data = json.loads((folder / "seed0" / "scratch" / "run.json").read_text())["data"]
    assert (data["dataset_name"], data["data_dir"], data["label_column"]) == (str(photos), None, None)
    assert data["images_per_class"] == 5, "the protocol stays"
    found = json.loads((folder / "results.json").read_text())
    assert found["title"] == f"A tiny table, on {photos.name}" and found["dataset"] == str(photos)
    assert "length" not in found and f"Made on {photos.name}: counts of images in titles" in shown(folder)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("runs", "tuned", "job"), "train_studnt", ["tuned", "train_studnt", "train_student"]),
        (("runs", "tuned", "options", "teacher"), "{techer}", ["tuned", "techer"]),
        (("runs", "teacher", "options", "data_dir"), "{scratch}", ["teacher", "scratch", "before"]),
        (("runs", "tuned", "options", "temprature"), 1, ["tuned", "temprature"]),
        (("runs", "tuned", "options", "flip"), 2, ["tuned", "flip"]),
        (("runs", "tuned", "options", "method"), "kd2", ["tuned", "kd2"]),
        (("runs", "tuned", "options"), 3, ["tiny.yaml"]),
        (("runs", "tuned", "options", "seed"), 7, ["tuned", "seed", "seed_offset"]),
        (("runs", "tuned", "options", "output_dir"), "x", ["tuned", "output_dir"]),
        (("runs", "tuned", "own_labels"), 3, ["tuned", "own_labels"]),
        (("runs", "tuned"), {"job": "train_student", "once": True, "own_labels": True}, ["tuned", "own_labels"]),
        (
            ("runs", "scratch"),
            {"job": "train_student", "recipe": "tiny.yaml", "own_labels": True, "options": {"subset_seed": 3}},
            ["scratch", "own_labels sets subset_seed"],
        ),
        (("runs", "tuned", "recipe"), "missing.yaml", ["missing.yaml"]),
        (("runs", "tuned", "recpe"), "tiny.yaml", ["tiny.yaml", "recpe"]),
        (("groups", 0, "rows", 1, "run"), "tunned", ["tunned", "tuned"]),
        (("groups", 0, "rows", 1, "score"), "tests", ["fine-tuned", "tests", "test"]),
        (("groups", 0, "rows", 1, "score"), "knn", ["fine-tuned", "knn", "test"]),
        (("groups", 1, "rows", 0, "score"), "peer.knn", ["the teacher", "peer.knn", "knn"]),
        (("groups", 0, "rows", 1, "baslin"), True, ["fine-tuned", "baslin", "baseline"]),
        (("groups", 0, "rows", 1, "baseline"), True, ["baseline"]),
        (("groups", 0, "rows", 1, "name"), "from scratch", ["from scratch"]),
        (("groups", 0, "rows"), [{"run": "tuned"}], ["tiny.yaml"]),
        (("groups", 0, "rows", 1, "published"), 57.8, ["fine-tuned", "published", "source"]),
        (("groups", 0, "rows", 1, "published"), {"percent": 57.8, "source": 2108.13122}, ["fine-tuned", "in quotes"]),
        (("groups", 0, "rows", 1, "published"), {"percent": 578, "source": "x"}, ["fine-tuned", "published"]),
        (("plotz",), [], ["plotz", "plots"]),
        (("groups",), [], ["no rows"]),
        (("title",), None, None),
    ],
)
def test_a_table_that_cannot_work_is_refused_before_anything_runs(table, jobs, refused, place, value, words):
    *parents, last = place
    part = table.content
    for name in parents:
        part = part[name]
    part[last] = value
    if words is None:
        del part[last]
        words = ["tiny.yaml", "title"]
    table.write()
    line = refused(table.options())
    assert all(word in line for word in words), line
    assert not jobs


def test_mistakes_on_the_command_line(table, jobs, refused, tmp_path):
    assert "tuned" in refused(table.options("--runs", "tunned"))
    assert "--seeds" in refused(table.options(seeds=("0", "0")))
    assert "--length" in refused(table.options("--length", "0"))
    assert "no table" in refused(["--table", "relativs", "--recipes", str(RECIPES)])
    assert "relatives" in refused(["--table", "relativs", "--recipes", str(RECIPES)])
    assert "missing.json" in refused(["--results", str(tmp_path / "missing.json"), "--draw", str(table.path)])
    assert "no results.json" in refused(["--results", str(foreign(tmp_path)), "--draw", str(table.path)])
    assert "--draw" in refused(["--results", str(foreign(tmp_path))])
    assert not jobs


def foreign(folder):
    (folder / "foreign.json").write_text("[1]")
    return folder / "foreign.json"


def test_draw_replaces_what_stands_between_the_marks(table, jobs, tmp_path):
    pages = [tmp_path / "README.md", tmp_path / "other.md"]
    for page in pages:
        page.write_text("# Top\n\n<!-- tiny -->\nold\n<!-- /tiny -->\n\nBelow.\n")
    main(table.options("--draw", *map(str, pages)))
    drawn = results_markdown(json.loads((table.folder / "results.json").read_text()))
    assert drawn.split("\n\n")[0] in (table.folder / "results.md").read_text()
    for page in pages:
        assert page.read_text() == f"# Top\n\n<!-- tiny -->\n{drawn}<!-- /tiny -->\n\nBelow.\n"
    jobs.clear()
    pages[0].write_text("<!-- tiny --><!-- /tiny -->")
    main(["--results", str(table.folder / "results.json"), "--draw", str(pages[0])])
    assert pages[0].read_text() == f"<!-- tiny -->\n{drawn}<!-- /tiny -->" and not jobs


@pytest.mark.parametrize("text", [None, "", "<!-- tiny -->", "<!-- /tiny -->\n<!-- tiny -->", "<!-- tiny -->" * 2])
def test_draw_refuses_a_page_without_marks_before_anything_runs(table, jobs, refused, tmp_path, text):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("<!-- tiny -->\n<!-- /tiny -->")
    if text is not None:
        bad.write_text(text)
    line = refused(table.options("--draw", str(good), str(bad)))
    assert "bad.md" in line and "<!-- tiny -->" in line and not jobs


def test_a_score_without_duplicates_needs_images_that_are_listed(table, jobs, refused, photos, monkeypatch):
    for row in table.content["groups"][0]["rows"]:
        row["score"] = "test_without_duplicates"
    table.write()
    line = refused(table.options())
    assert "'from scratch'" in line and str(photos) in line and "ciFAIR" in line and not jobs
    looked = []
    monkeypatch.setattr(table_runs, "listed_duplicates", lambda dataset, name: looked.append(len(dataset)) or [True])
    main(table.options())
    assert looked == [12], "once for all rows"
    main(table.options())
    assert looked == [12], "and not where all runs are finished"
    assert "new images in their place" in (table.folder / "results.md").read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in (RECIPES / "tables").glob("*.yaml")))
def test_every_table_of_ours_can_be_run(name, jobs, tmp_path, monkeypatch):
    """Each option of each run is known and within its range, each row has a score, each recipe is there."""
    monkeypatch.setattr(table_runs.Reproduction, "_check_listed", lambda *_: None)  # loads CIFAR-10
    main(["--table", name, "--recipes", str(RECIPES), "--output_dir", str(tmp_path / "out"), "--seeds", "0"])
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    shown = {row["run"] for group in found["groups"] for row in group["rows"]}
    runs = reproduce.read_table(name, RECIPES / "tables", list(reproduce.JOBS)).runs
    assert {f"{'once' if run.once else 'seed0'}/{run.name}" for run in runs} == set(jobs)
    assert shown <= {run.name for run in runs}
    assert all(sum(row["baseline"] for row in group["rows"]) == 1 for group in found["groups"])
