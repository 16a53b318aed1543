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
import torch

from hf_vipriors.inference.choosing import choose
from hf_vipriors.inference.label_next import main
from hf_vipriors.reports.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = ["cat", 'the "big" one, or </script><script>alert(1)</script>', "犬\nand line"]


def test_unsure_images_of_every_kind_are_chosen():
    """Three tight kinds, of which one is certain; within a kind all are alike."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(300) % 3
    features = torch.eye(3)[kinds] + 0.01 * torch.randn(300, 3, generator=generator)
    top = torch.where(kinds == 2, 0.999, 0.55) + 0.001 * torch.rand(300, generator=generator)
    probabilities = torch.stack([top, 1 - top], dim=1)
    chosen = choose(features, probabilities, 6)
    assert sorted(set(kinds[chosen].tolist())) == [0, 1]
    margins = (2 * top - 1)[chosen]
    assert margins.tolist() == sorted(margins.tolist()) and len(set(chosen.tolist())) == 6
    assert np.bincount(kinds[chosen], minlength=3).tolist() == pytest.approx([3, 3, 0], abs=1)
    # Without a classifier: some of every kind.
    assert sorted(set(kinds[choose(features, None, 3)].tolist())) == [0, 1, 2]


def test_few_or_equal_images():
    features = torch.ones(5, 4)
    assert sorted(choose(features, None, 9).tolist()) == [0, 1, 2, 3, 4]
    assert len(set(choose(features, None, 3).tolist())) == 3
    with pytest.raises(ValueError, match="at least 1"):
        choose(features, None, 0)


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
    assert len(rows) == 4 and all((photos / "unlabelled" / row["file_name"]).is_file() for row in rows)
    known = ["blue", "green", "red"] if folder == "classifier_folder" else []
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


def test_nothing_of_the_user_is_overwritten(classifier_folder, photos, tmp_path, capsys):
    (tmp_path / "next.html").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main([
            "--model", str(classifier_folder), "--data_dir", str(photos), "--output", str(tmp_path / "next.csv"),
        ])  # fmt: skip
    assert stop.value.code == 2 and "exists: choose another name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["next.html"]


DRIVE = """<script>
const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
let text; URL.createObjectURL = blob => { text = blob.text(); return "#"; };
document.getElementById("name").value = " a new class "; document.getElementById("add").click();
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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_labels_are_given_by_keys_and_exported_as_csv(tmp_path):
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    files = ["a.jpg", 'sub/"b", c.jpg', "c.jpg", "d.jpg", "e.jpg"]
    images = [{"file": file, "src": pixel, "suggested": HOSTILE[1] if file else None} for file in files]
    page = render("label.html.j2", title="t", subtitle="s", classes=HOSTILE, images=images)
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", DRIVE), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run([CHROMIUM, *options, profile, path.as_uri()], capture_output=True, text=True, timeout=120)
    shown = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown, done.stdout[-500:] + done.stderr[-2000:]
    result = json.loads(html.unescape(shown[1]))
    assert result["keys"] == ["1", "2", "3", "4"]
    rows = list(csv.reader(io.StringIO(result["csv"], newline="")))
    # The fifth image got the second class, and stays the current one; the third one's label was taken away again.
    assert rows == [
        ["file_name", "label"], ["a.jpg", "cat"], ['sub/"b", c.jpg', HOSTILE[1]], ["d.jpg", "a new class"],
        ["e.jpg", HOSTILE[1]],
    ]  # fmt: skip
    assert result["count"] == "4 of 5 labelled" and result["here"] == 2 and result["kept"] == 1
    assert result["captions"][2] == HOSTILE[1] + "?"
