"""The static Space: a folder that any web server can serve, whose page resizes images as Pillow does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from huggingface_hub import SpaceCard
from PIL import Image
from static_spaces import HOSTILE, export, splits

from hf_vipriors.data import ResizeCrop
from hf_vipriors.errors import InputError
from hf_vipriors.hub.card_facts import CardFacts, ScoreRow
from hf_vipriors.hub.model_card import model_card
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.hub.repository_files import space_files
from hf_vipriors.hub.space import write_space
from hf_vipriors.hub.static_space import at_commit

NODE = shutil.which("node")
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
RESIZE = """
import { readFileSync, writeFileSync } from "node:fs";
import { resizeAndCrop } from "./preprocessing.mjs";

const bytes = readFileSync("images");
const results = [];
let place = 0;
for (const { width, height, words } of JSON.parse(readFileSync("cases.json"))) {
  const pixels = bytes.subarray(place, (place += 4 * width * height));
  const rows = (top, count) => pixels.subarray(4 * width * top, 4 * width * (top + count));
  results.push(Buffer.from(await resizeAndCrop({ width, height, rows }, words)));
}
writeFileSync("results", Buffer.concat(results));
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return export(tmp_path_factory.mktemp("hub") / "student", HOSTILE)


def write(student, folder, **options):
    return write_space(student, folder, **{"repo_id": "me/x", "data": splits(HOSTILE), "kind": "static", **options})


def test_the_folder_is_a_whole_space(student, tmp_path):
    space = write(student, tmp_path / "demo", licence="mit")
    files = ["README.md", "examples", "index.html", "page.js", "preprocessing.js", "settings.json"]
    assert sorted(path.name for path in space.iterdir()) == files
    card = SpaceCard.load(space / "README.md")
    assert (card.data.sdk, card.data.app_file, card.data.license) == ("static", "index.html", "mit")
    assert card.data.models == ["me/x"] and card.data.title == f"x, trained on {2 * len(HOSTILE)} images"
    settings = json.loads((space / "settings.json").read_text())
    assert settings["model"] == "me/x" and len(settings["examples"]) == 6
    assert all((space / name).is_file() for name in settings["examples"])
    # An exact version: another one may load the model in another way, or not at all.
    assert re.fullmatch(
        r"https://cdn\.jsdelivr\.net/npm/@huggingface/transformers@\d+\.\d+\.\d+/.*", settings["library"]
    )
    page = (space / "index.html").read_text("utf-8")
    assert "Licence of the model: mit" in page and "32 x 32 pixels" in page
    # All that the page is made of lies here: nothing but the model and the library is fetched.
    assert set(re.findall(r'(?:src|href)="(?!data:)(.*?)"', page)) == {
        "page.js", "https://huggingface.co/me/x", "https://huggingface.co/docs/transformers.js",
    }  # fmt: skip


def test_names_are_text_on_the_page_too(student, tmp_path):
    page = (write(student, tmp_path / "demo", title="<script>*a*\nb</script>") / "index.html").read_text("utf-8")
    assert "<title>&lt;script&gt;*a*␊b&lt;/script&gt;</title>" in page
    assert "<h1>&lt;script&gt;*a*␊b&lt;/script&gt;</h1>" in page
    assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count("<script") == 1 and "two␊lines" in page and "__boot__" in page


def test_what_was_measured_is_said(student, tmp_path):
    folder = shutil.copytree(student, tmp_path / "student")
    facts = CardFacts("s", "student", "resnet18", 32, HOSTILE, "Pets (few)", "kd", licence="cc0-1.0")
    facts.scores = [ScoreRow("one crop", 0.8065, (0.7, 0.9), 1.0, "model")]
    model_card(facts).save(folder / "README.md")
    page = (write(folder, tmp_path / "demo") / "index.html").read_text("utf-8")
    assert "Measured on the test images of Pets (few), <strong>80.7\xa0%</strong> of its first" in page
    assert "cc0-1.0" in page


def test_the_page_shows_the_model_of_a_commit(student, tmp_path):
    files = space_files(write(student, tmp_path / "demo"), "me/demo")
    before = json.loads(files.content("settings.json"))
    after = json.loads(at_commit(files, "abc").content("settings.json"))
    assert after == before | {"revision": "abc"} != before


def test_what_a_browser_cannot_run_is_refused_and_leaves_nothing(student, tmp_path):
    with pytest.raises(InputError, match="unknown value 'docker' for kind"):
        write(student, tmp_path / "demo", kind="docker")
    model = load_native(student)
    other = export_native(model, tmp_path / "other")
    with pytest.raises(InputError, match="no model.onnx"):
        write(other, tmp_path / "demo")
    shutil.copytree(student / "onnx", other / "onnx")
    with torch.no_grad():
        next(model.parameters()).add_(1)
    export_native(model, other)
    with pytest.raises(InputError, match="no copy of the weights"):
        write(other, tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_a_network_that_only_this_package_knows_runs_as_onnx(tmp_path):
    student = export(tmp_path / "ours", HOSTILE, name="cifar_resnet8x4")
    assert (write(student, tmp_path / "demo") / "index.html").is_file()


@pytest.mark.skipif(NODE is None, reason="Node is missing: install it to run preprocessing.js")
def test_the_page_resizes_as_pillow_does(student, tmp_path):
    random, cases, images, expected = np.random.default_rng(0), [], [], []
    sizes = [(70, 50), (31, 90), (1, 1), (3, 140), (140, 3), (400, 301), (64, 64), (73, 73), (99, 100), (90, 777)]
    for width, height in sizes:
        image = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
        for name, number in FILTERS.items():
            for resize, crop in ((73, 64), (45, 40), (64, 64), (33, 30)):
                words = {"size": {"shortest_edge": resize}, "crop_size": {"width": crop, "height": crop}}
                cases.append({"width": width, "height": height, "words": words | {"resample": number}})
                images.append(image.tobytes())
                expected.append(np.asarray(ResizeCrop(resize, crop, name)(Image.fromarray(image[..., :3]))).ravel())
    shutil.copyfile(write(student, tmp_path / "demo") / "preprocessing.js", tmp_path / "preprocessing.mjs")
    (tmp_path / "images").write_bytes(b"".join(images))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "resize.mjs").write_text(RESIZE)
    subprocess.run([NODE, "resize.mjs"], cwd=tmp_path, check=True, timeout=300)
    difference = np.fromfile(tmp_path / "results", np.uint8).astype(int) - np.concatenate(expected)
    # Sines and cosines of another library may round one weight of a million otherwise.
    assert abs(difference).max() <= 1 and (difference != 0).mean() < 1e-5 and len(cases) == 240
