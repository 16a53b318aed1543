"""What to label next: unsure and not all alike; and the page, driven with keys in a real browser."""

import csv
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from hf_vipriors.data import load_splits
from hf_vipriors.data.columns import HIDDEN
from hf_vipriors.inference.label_next import main
from hf_vipriors.reports.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = ["cat", 'the "big" one, or </script><script>alert(1)</script>', "犬\nand line"]


@pytest.mark.parametrize("folder", ["classifier_folder", "teacher_folder"])
def test_table_and_page_show_the_same_images(folder, photos, tmp_path, request):
    model = request.getfixturevalue(folder)
    options = ["--count", "4", "--classes", "violet", "--output", str(tmp_path / "next.csv")]
    main(["--model", str(model), "--data_dir", str(photos / "unlabelled"), *options])
    with open(tmp_path / "next.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    page = (tmp_path / "next.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [row["file_name"] for row in rows] == [each["file"] for each in data["images"]]
    assert len(rows) == 4 and all((photos / row["file_name"]).is_file() for row in rows)
    known = ["blue", "green", "red"] if folder == "classifier_folder" else []
    clusters = [each["cluster"] for each in data["images"]]
    assert clusters == ([None] * 4 if known else [int(row["cluster"]) for row in rows])
    assert known or (clusters == sorted(clusters) and set(clusters) == set(range(len(data["sizes"]))))
    assert sum(data["sizes"]) == (0 if known else 10)
    assert data["classes"] == [*known, "violet"]
    assert [row["suggested"] or None for row in rows] == [each["suggested"] for each in data["images"]]
    assert not known or all(row["suggested"] in known and 0 < float(row["confidence"]) <= 1 for row in rows)


def test_a_folder_may_be_given_by_a_path_with_dots_or_by_a_link(classifier_folder, photos, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "link").symlink_to(photos / "unlabelled")
    monkeypatch.chdir(tmp_path / "work")
    main(["--model", str(classifier_folder), "--data_dir", "../link", "--count", "2"])
    with open("next.csv", newline="") as file:
        names = [row["file_name"] for row in csv.DictReader(file)]
    assert len(names) == 2 and all((photos / "unlabelled" / name).is_file() for name in names)


def test_a_stray_scan_of_16_bits_stops_no_folder(classifier_folder, photos, tmp_path, capsys):
    new = tmp_path / "new"
    new.mkdir()
    Image.fromarray(np.full((20, 20), 60000, dtype=np.uint16)).save(new / "scan.png")
    options = ["--model", str(classifier_folder), "--data_dir", str(new), "--output", str(tmp_path / "next.csv")]
    with pytest.raises(SystemExit):
        main(options)
    assert "the first since its gray values, 0 to 60000, do not fit" in capsys.readouterr().err
    shutil.copy(photos / "unlabelled" / "0.png", new)
    main(options)
    with open(tmp_path / "next.csv", newline="") as file:
        assert [row["file_name"] for row in csv.DictReader(file)] == ["0.png"]
    assert "cannot be read: 1 of the images" in capsys.readouterr().err


def test_what_is_labelled_comes_on_top_of_the_labels_that_the_student_had(classifier_folder, photos, tmp_path):
    """Files of the pool are called like those of classes; the table fits the folder with the classes, and the pool."""
    options = ["--count", "3", "--output", str(tmp_path / "next.csv")]
    main(["--model", str(classifier_folder), "--data_dir", str(photos / "unlabelled"), *options])
    with open(tmp_path / "next.csv", newline="") as file:
        files = [row["file_name"] for row in csv.DictReader(file)]
    lines = [f"{file},{label}" for file, label in zip(files, ("red", "green", "new"), strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label", *lines]))
    before = load_splits("imagefolder", data_dir=str(photos))
    after = load_splits("imagefolder", data_dir=str(photos), labels=str(tmp_path / "labels.csv"))
    changed = {"train": 3, "validation": 0, "test": 0, "unlabelled": -3}
    assert {name: len(images) - len(before.splits[name]) for name, images in after.splits.items()} == changed
    assert sorted([*before.class_names, "new"]) == after.class_names
    pool = load_splits("imagefolder", data_dir=str(photos / "unlabelled"), labels=str(tmp_path / "labels.csv"))
    assert len(pool.splits["train"]) == 3 and len(pool.splits["unlabelled"]) == 7


@pytest.mark.parametrize("told", ["folders", "a column"])
def test_the_next_choice_leaves_out_what_earlier_labels_name(classifier_folder, photos, tmp_path, capsys, told):
    """And its page knows their classes and exports their rows with the new ones: one table grows."""
    table, output = tmp_path / "labels.csv", tmp_path / "next.csv"
    split = {"folders": ("", "", ""), "a column": (",split", ",test", ",")}[told]
    table.write_text(
        f"file_name,label{split[0]}\nunlabelled/3.png,violet{split[1]}\nunlabelled/5.png,red{split[2]}\n"
        f"unlabelled/6.png,{split[2]}\n"
    )
    options = ["--model", str(classifier_folder), "--output", str(output)]
    main([*options, "--data_dir", str(photos / "unlabelled"), "--labels", str(table)])
    with open(output, newline="") as file:
        chosen = {row["file_name"] for row in csv.DictReader(file)}
    assert chosen == {f"unlabelled/{number}.png" for number in {*range(10)} - {3, 5}}
    page = (tmp_path / "next.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["classes"] == ["blue", "green", "red", "violet"]
    assert data["before"] == [
        {"file": "unlabelled/3.png", "label": "violet", "split": "test" if split[0] else None},
        {"file": "unlabelled/5.png", "label": "red", "split": "train" if split[0] else None},
    ]
    capsys.readouterr()
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(photos / "unlabelled" / "0.png", tmp_path / "photos" / "test" / "loose.png")
    main(
        [*options[:2], "--output", str(tmp_path / "all.csv"), "--data_dir", str(tmp_path / "photos"), "--count", "99"]
    )
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    images = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["images"]
    splits = {each["file"]: each["split"] for each in images}
    assert splits == {f"unlabelled/{number}.png": "train" for number in range(10)} | {"test/loose.png": "test"}
    labelled = len(list(photos.glob("t*/*/*.png"))) + len(list(photos.glob("validation/*/*.png")))
    assert f"{labelled} of the images have a label already ({labelled} by class folders)" in capsys.readouterr().err
    for split in ("unlabelled", "test/loose.png"):
        path = tmp_path / "photos" / split
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SystemExit):
        main([*options[:2], "--output", str(tmp_path / "no.csv"), "--data_dir", str(tmp_path / "photos")])
    assert "error: class folders of splits label every image in" in capsys.readouterr().err
    table.write_text("file_name,label\n" + "".join(f"unlabelled/{number}.png,red\n" for number in range(10)))
    with pytest.raises(SystemExit) as stop:
        main([*options[:2], "--output", str(tmp_path / "more.csv"), "--data_dir", str(photos / "unlabelled"),
              "--labels", str(table)])  # fmt: skip
    assert stop.value.code == 2 and "there is none left to choose" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "rows", "chosen"),
    [
        (["train/cat/1.png", "unlabelled/2.png"], [], ["unlabelled/2.png"]),
        (["train/cat/1.png", "unlabelled/2.png", "3.png"], ["1.png,cat"], ["3.png", "unlabelled/2.png"]),
        (["train/a/1.png", "train/b/2.png", "train/b/3.png"], ["1.png,cat", "2.png,dog"], ["train/b/3.png"]),
        (["train/nan/1.png", "unlabelled/2.png", "unlabelled/3.png"], ["2.png,nan"], ["unlabelled/3.png"]),
        (["2023/day/1.png", "2023/training/2.png"], [], ["2023/day/1.png", "2023/training/2.png"]),
        (["monday/1.png", "tuesday/2.png"], [], ["monday/1.png", "tuesday/2.png"]),
    ],
)
def test_what_has_a_label_is_what_a_training_would_say(files, rows, chosen, classifier_folder, photos, tmp_path):
    for file in files:
        (tmp_path / "all" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "unlabelled" / "0.png", tmp_path / "all" / file)
    options = ["--model", str(classifier_folder), "--data_dir", str(tmp_path / "all")]
    if rows:
        (tmp_path / "labels.csv").write_text("\n".join(["file_name,label", *rows]))
        options += ["--labels", str(tmp_path / "labels.csv")]
    main([*options, "--output", str(tmp_path / "next.csv")])
    with open(tmp_path / "next.csv", newline="") as file:
        assert sorted(row["file_name"] for row in csv.DictReader(file)) == chosen


def test_folders_in_the_pool_are_no_splits(classifier_folder, photos, tmp_path, capsys):
    for place in ("unlabelled/train/n01", "train/cat"):
        (tmp_path / "all" / place).mkdir(parents=True)
        shutil.copy(photos / "unlabelled" / "0.png", tmp_path / "all" / place)
    options = ["--model", str(classifier_folder), "--data_dir", str(tmp_path / "all" / "unlabelled")]
    main([*options, "--output", str(tmp_path / "next.csv")])
    with open(tmp_path / "next.csv", newline="") as file:
        assert [row["file_name"] for row in csv.DictReader(file)] == ["unlabelled/train/n01/0.png"]
    with pytest.raises(SystemExit):
        main([*options, "--output", str(tmp_path / "more.csv"), "--classes", "cat", "NaN"])
    assert "--classes 'NaN': in a table this is a missing label" in capsys.readouterr().err


def test_a_class_of_the_model_is_one_in_a_table_whatever_it_looks_like(classifier_folder, photos, tmp_path):
    """The rows that the page exports come back whole."""
    model, table = shutil.copytree(classifier_folder, tmp_path / "model"), tmp_path / "labels.csv"
    config = json.loads((model / "config.json").read_text())
    config["label_names"] = ["-1", "2.0", "red"]
    (model / "config.json").write_text(json.dumps(config))
    table.write_text("file_name,label\nunlabelled/3.png,-1\nunlabelled/5.png,2.0\nunlabelled/6.png,\n")
    options = ["--model", str(model), "--data_dir", str(photos / "unlabelled"), "--labels", str(table)]
    main([*options, "--output", str(tmp_path / "next.csv")])
    page = (tmp_path / "next.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["classes"] == config["label_names"]
    assert [(each["file"], each["label"]) for each in data["before"]] == [
        ("unlabelled/3.png", "-1"), ("unlabelled/5.png", "2.0"),
    ]  # fmt: skip


def test_nothing_of_the_user_is_overwritten(classifier_folder, photos, tmp_path, capsys):
    (tmp_path / "next.html").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main([
            "--model", str(classifier_folder), "--data_dir", str(photos), "--output", str(tmp_path / "next.csv"),
        ])  # fmt: skip
    assert stop.value.code == 2 and "exists: choose another name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["next.html"]


def test_a_model_with_classes_has_no_clusters(classifier_folder, photos, tmp_path, capsys):
    options = ["--clusters", "3", "--output", str(tmp_path / "next.csv")]
    with pytest.raises(SystemExit) as stop:
        main(["--model", str(classifier_folder), "--data_dir", str(photos), *options])
    assert stop.value.code == 2 and "knows some: leave it out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


PRESS = """<script>
const press = (key, at = document.body) =>
  at.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
let text; URL.createObjectURL = blob => { text = blob.text(); return "#"; };
"""
DRIVE = (
    PRESS
    + """
for (const name of [" NaN ", " a new class "]) {
  document.getElementById("name").value = name; document.getElementById("add").click();
}
press("1"); press("Enter"); press("3"); press("4"); press("2");
press("ArrowLeft"); press("ArrowLeft"); press("Backspace");
document.getElementById("export").click();
text.then(csv => {
  const found = document.createElement("pre"); found.id = "result";
  found.textContent = JSON.stringify({csv, count: document.getElementById("count").textContent,
    kept: localStorage.length, here: [...document.querySelectorAll("figure")].findIndex(e => e.matches(".here")),
    captions: [...document.querySelectorAll("figcaption")].map(e => e.firstChild.textContent),
    keys: [...document.querySelectorAll("#classes kbd")].map(e => e.textContent)});
  document.body.append(found);
});
</script></body>"""
)


def driven(page: str, script: str, tmp_path) -> dict:
    """What the script, run on the page in a browser, leaves in an element ``result``."""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", script), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run([CHROMIUM, *options, profile, path.as_uri()], capture_output=True, text=True, timeout=120)
    shown = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown, done.stdout[-500:] + done.stderr[-2000:]
    return json.loads(html.unescape(shown[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("splits", [False, True])
def test_labels_are_given_by_keys_and_exported_as_csv(tmp_path, splits):
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    files = ["a.jpg", 'sub/"b", c.jpg', "c.jpg", "d.jpg", "e.jpg"]
    images = [{"file": file, "src": pixel, "suggested": HOSTILE[1], "split": "train"} for file in files]
    before = [{"file": "z.jpg", "label": "dog, big", "split": split} for split in ([None], ["test"])[splits]]
    data = {"classes": HOSTILE, "images": images, "sizes": [], "before": before, "hidden": HIDDEN}
    result = driven(render("label.html.j2", title="t", subtitle="s", data=data), DRIVE, tmp_path)
    assert result["keys"] == ["1", "2", "3", "4"]
    rows = list(csv.reader(io.StringIO(result["csv"], newline="")))
    # The fifth image got the second class, and stays the current one; the third one's label was taken away again.
    told = [["split"], ["test"], ["train"]] if splits else [[]] * 3
    assert rows == [
        ["file_name", "label", *told[0]], ["z.jpg", "dog, big", *told[1]], ["a.jpg", "cat", *told[2]],
        ['sub/"b", c.jpg', HOSTILE[1], *told[2]], ["d.jpg", "a new class", *told[2]], ["e.jpg", HOSTILE[1], *told[2]],
    ]  # fmt: skip
    assert result["count"] == "4 of 5 labelled, 1 before" and result["here"] == 2 and result["kept"] == 1
    assert result["captions"][2] == HOSTILE[1] + "?"


TYPE = """
{
const box = document.getElementById("name");
const images = [...document.querySelectorAll("#images > *")];
const typed = word => {
  press(" ");
  const there = document.activeElement === box;
  box.value = word;
  press("Enter", box);
  return there;
};
const focused = [];
let group = 0;
for (const [place, each] of images.entries()) {
  if (each.tagName === "H2") { focused.push(typed("kind " + "abc"[group++])); continue; }
  if (images[place - 1].tagName !== "H2") press("Enter");
}
document.getElementById("export").click();
text.then(csv => {
  const found = document.createElement("pre"); found.id = "result";
  const texts = at => [...document.querySelectorAll(at)].map(e => e.textContent);
  found.textContent = JSON.stringify({csv, focused, heads: texts("#images h2"), keys: texts("#classes button")});
  document.body.append(found);
});
}
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_with_no_label_at_all_a_class_is_typed_once_for_each_cluster(teacher_folder, photos, tmp_path):
    """Nothing but images; the table that the page exports is what ``--labels`` reads."""
    folder = tmp_path / "images"
    shutil.copytree(photos / "unlabelled", folder)
    options = ["--count", "9", "--clusters", "3", "--output", str(tmp_path / "next.csv")]
    main(["--model", str(teacher_folder), "--data_dir", str(folder), *options])
    result = driven((tmp_path / "next.html").read_text(encoding="utf-8"), PRESS + TYPE, tmp_path)
    assert result["focused"] == [True] * 3 and result["keys"] == ["1kind a", "2kind b", "3kind c"]
    sizes = [int(re.search(r"Cluster \d \d+ of (\d+) images", head)[1]) for head in result["heads"]]
    assert sum(sizes) == 10 and sizes == sorted(sizes, reverse=True)
    (tmp_path / "labels.csv").write_text(result["csv"], encoding="utf-8")
    with open(tmp_path / "next.csv", newline="") as file:
        clusters = {row["file_name"]: "kind " + "abc"[int(row["cluster"])] for row in csv.DictReader(file)}
    found = load_splits("imagefolder", data_dir=str(folder), labels=str(tmp_path / "labels.csv"))
    assert found.class_names == ["kind a", "kind b", "kind c"]
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 9, "unlabelled": 1}
    given = {row["file_name"]: row["label"] for row in csv.DictReader(io.StringIO(result["csv"]))}
    assert given == clusters and len(given) == 9
