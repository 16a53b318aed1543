"""The demo: a whole Space without this package, whose predictions, neighbours and pixels are those of this package."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from huggingface_hub import SpaceCard
from PIL import ExifTags, Image
from safetensors.torch import load_file
from transformers import pipeline

from hf_vipriors.data import ImageSplits, ResizeCrop, decode
from hf_vipriors.errors import InputError
from hf_vipriors.hub.card_facts import CardFacts, ScoreRow
from hf_vipriors.hub.gradio_space import GRADIO
from hf_vipriors.hub.model_card import model_card
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.hub.space import write_space
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.reports.saliency import saliency

CLASSES = ["T-shirt/top", "cat & <dog>", "boot"]
FILES = ["README.md", "app.py", "neighbours.safetensors", "requirements.txt", "settings.json", "thumbnails.png"]


def smooth(seed: int, size: tuple[int, int] = (70, 50), channels: int = 3) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    return Image.fromarray(values.squeeze()).resize(size, Image.Resampling.BICUBIC)


def images(labels: list[int], seed: int, content: bytes | None = None) -> Dataset:
    records = []
    for number in range(len(labels)):
        file = io.BytesIO()
        smooth(seed + number).save(file, "PNG")
        records.append({"bytes": content or file.getvalue(), "path": None})
    return Dataset.from_dict({"image": records, "label": labels}).cast_column("image", ImageFeature(decode=False))


def splits(**changes) -> ImageSplits:
    found = {"train": images([0] * 6 + [1] * 3 + [2] * 2, 0), "test": images([0, 0, 1, 1, 2, 2, 2], 100), **changes}
    return ImageSplits({name: value for name, value in found.items() if value is not None}, CLASSES)


def export(folder: Path, size: int = 40, name: str = "resnet18", kind=VipriorsForImageClassification, seed: int = 0):
    small = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4} if name == "resnet18" else {}
    config = VipriorsConfig.for_backbone(
        name, image_size=size, class_names=CLASSES, backbone_args=small, crop_pct=0.875, interpolation="bilinear"
    )
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        model.train()(torch.randn(16, 3, size, size))  # batch statistics that are not 0 and 1
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return export_native(model.eval(), folder)


def load_app(folder: Path):
    spec = importlib.util.spec_from_file_location("space_app", folder / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return export(tmp_path_factory.mktemp("hub") / "student")


@pytest.fixture(scope="module")
def space(student, tmp_path_factory) -> Path:
    return write_space(student, tmp_path_factory.mktemp("spaces") / "demo", repo_id="someone/student", data=splits())


@pytest.fixture(scope="module")
def app(space):
    return load_app(space)


@pytest.fixture(scope="module")
def demo(app, space, student):
    return app.Classifier(space, str(student))


# --- the folder -----------------------------------------------------------------------------------------------------


def test_the_folder_is_a_whole_space(space):
    assert sorted(path.name for path in space.iterdir()) == sorted([*FILES, "examples"])
    assert [path.name for path in space.parent.iterdir()] == ["demo"]  # nothing left beside it
    card = SpaceCard.load(space / "README.md")
    assert card.data.sdk == "gradio" and card.data.sdk_version == GRADIO and card.data.app_file == "app.py"
    assert card.data.python_version == "3.11" and card.data.models == ["someone/student"]
    assert card.data.license is None and card.data.datasets is None
    assert {card.data.colorFrom, card.data.colorTo} <= set("red yellow green blue indigo purple pink gray".split())
    assert card.data.title == "student, trained on 11 images" and card.data.emoji
    text = json.loads((space / "settings.json").read_text("utf-8"))
    assert "3 classes from 11 labelled images**, 2 to 6 of each" in text["description"]
    assert "Measured" not in text["description"] and "all 11 training images" in text["how_to_read"]
    assert len(text["examples"]) == 6 and all((space / name).is_file() for name in text["examples"])


def test_odd_names_are_shown_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "CLASSES", ["<unknown>", "__boot__", "two\nlines"])
    student = export(tmp_path / "student")
    space = write_space(student, tmp_path / "demo", repo_id="me/x", data=splits(), title="*mine*\nall: mine")
    page = json.loads((space / "settings.json").read_text("utf-8"))
    assert page["description"].startswith("# \\*mine\\*␊all: mine\n\n[me/x](https://huggingface.co/me/x) learnt")
    assert r"It knows \<unknown>, \_\_boot\_\_, two␊lines and nothing else" in page["description"]
    card = SpaceCard.load(space / "README.md")
    assert card.data.title == page["title"] == "*mine*␊all: mine" and card.text.strip().startswith(page["description"])
    demo = load_app(space).Classifier(space, str(student))
    assert list(demo.probabilities(smooth(0))) == ["<unknown>", "__boot__", "two␊lines"]
    assert {"&lt;unknown&gt;", "__boot__", "two␊lines"} == set(re.findall('alt="(.*?)"', demo.gallery(smooth(0))))


def test_the_app_imports_only_what_the_space_installs(space):
    imported = set()
    for node in ast.walk(ast.parse((space / "app.py").read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    requirements = (space / "requirements.txt").read_text("utf-8")
    installed = set(re.findall(r"^[\w-]+", requirements, re.MULTILINE))
    imported = {{"PIL": "pillow"}.get(name, name) for name in imported}
    assert imported - set(sys.stdlib_module_names) - {"gradio"} <= installed and "pillow" in imported
    assert ";" not in requirements  # nothing of an extra


def test_what_was_measured_is_said_and_nothing_else(student, tmp_path):
    folder = shutil.copytree(student, tmp_path / "student")
    facts = CardFacts("s", "student", "resnet18", 40, CLASSES, "Pets (few)", "kd", licence="mit", dataset_id="a/pets")
    facts.scores = [ScoreRow("mixup", 0.7, role="baseline"), ScoreRow("one crop", 0.8065, (0.7, 0.9), 1.0, "model")]
    model_card(facts).save(folder / "README.md")
    written = write_space(folder, tmp_path / "space", repo_id="a/b", data=splits(), title="Is it a boot?")
    card = SpaceCard.load(written / "README.md")
    assert (card.data.license, card.data.datasets, card.data.title) == ("mit", ["a/pets"], "Is it a boot?")
    assert "Measured on the test images of Pets (few), **80.7&nbsp;%** of its first predictions" in card.text
    (folder / "README.md").write_text("---\n: [\n---\n")
    with pytest.raises(InputError, match="damaged"):
        write_space(folder, tmp_path / "other", repo_id="a/b", data=splits())


def test_a_large_data_set_gives_a_small_space_with_every_class(student, tmp_path):
    written = write_space(student, tmp_path / "space", repo_id="a/b", data=splits(test=None), neighbours=7)
    bank = load_file(written / "neighbours.safetensors")
    assert bank["features"].dtype == torch.float16 and bank["features"].shape == (7, 16)
    assert torch.bincount(bank["labels"]).tolist() == [3, 2, 2]
    settings = json.loads((written / "settings.json").read_text("utf-8"))
    assert "7 of the 11 training images" in settings["how_to_read"] and settings["examples"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repo_id": "student"}, "has no owner"),
        ({"repo_id": "a/b c"}, "a/b c"),
        ({"neighbours": 0}, "neighbours"),
        ({"neighbours": 5001}, "neighbours"),
        ({"data": splits(train=None)}, "no labelled"),
        ({"data": splits(train=images([0, -1, 1], 0))}, "1 training images have no label"),
        ({"data": ImageSplits(splits().splits, CLASSES[::-1])}, "same order"),
        ({"data": splits(train=images([0, 1], 0, b"no image"))}, "unreadable"),
        ({"data": splits(test=images([0, 1], 0, b"no image"))}, "unreadable"),
    ],
)
def test_what_cannot_be_a_space_is_refused_and_leaves_nothing(changes, words, student, tmp_path):
    with pytest.raises(InputError) as error:
        write_space(student, tmp_path / "space", **{"repo_id": "a/b", "data": splits(), **changes})
    assert (
        words in error.value.on_command_line
        and "\n" not in error.value.on_command_line
        and not list(tmp_path.iterdir())
    )


def test_students_and_folders_that_will_not_do(student, space, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        write_space(student, space, repo_id="a/b", data=splits())
    teacher = export(tmp_path / "teacher", kind=VipriorsModel)
    with pytest.raises(InputError, match="knows no classes"):
        write_space(teacher, tmp_path / "space", repo_id="a/b", data=splits())
    ours = export(tmp_path / "ours", 32, "cifar_resnet8x4")
    with pytest.raises(InputError, match="only with hf_vipriors"):
        write_space(ours, tmp_path / "space", repo_id="a/b", data=splits())


# --- the functions of app.py ----------------------------------------------------------------------------------------


def odd_images(folder: Path) -> dict[str, Path]:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    drawn = {
        "rgb.png": smooth(1),
        "gray.png": smooth(2, (31, 90)).convert("L"),
        "black and white.png": smooth(3).convert("1"),
        "gray alpha.png": smooth(4).convert("LA"),
        "palette.png": smooth(5, (150, 83)).quantize(16),
        "rgba.png": smooth(6, (77, 128), 4),
        "cmyk.tif": smooth(7).convert("CMYK"),
        "one pixel.png": smooth(8, (1, 1)),
        "huge.jpg": smooth(9, (5000, 4000)),
    }
    for name, image in drawn.items():
        image.save(folder / name)
    smooth(10).save(folder / "turned.jpg", exif=turned)
    return {path.name: path for path in folder.iterdir()}


def test_odd_images_get_the_answers_of_the_pipeline(app, demo, student, tmp_path):
    classify = pipeline("image-classification", model=str(student), top_k=99)
    predictions = []
    for name, path in odd_images(tmp_path).items():
        expected = {entry["label"]: entry["score"] for entry in classify(str(path))}
        assert demo.probabilities(app.read(str(path))) == pytest.approx(expected, abs=1e-6), name
        predictions.append([expected[label] for label in CLASSES])
    assert np.std(predictions, axis=0).max() > 1e-3, "the images must make a difference"


@pytest.mark.parametrize(
    ("values", "full_scale"),
    [
        (np.arange(0, 65000, 50, dtype=np.uint16), 65535),
        (np.arange(0, 3900, 3, dtype=np.uint16), 2000),
        (np.arange(0, 1300, dtype=np.int32) - 650, 500),
        (np.linspace(0, 1, 1300, dtype=np.float32), 1),
        (np.array([np.nan, np.inf, -np.inf, 3] * 325, dtype=np.float32), 10),
        (np.arange(1300, dtype=np.uint16) % 256, None),
        (np.linspace(0, 255, 1300, dtype=np.float32), None),
        (np.full(1300, 256, dtype=np.uint16), None),
        (np.full(1300, -3, dtype=np.int32), None),
        (np.full(1300, 0.5, dtype=np.float32), None),
    ],
)
def test_wide_gray_images_are_read_as_in_training(app, values, full_scale, tmp_path):
    path = str(tmp_path / "wide.tif")
    Image.fromarray(values.reshape(26, 50)).save(path)
    try:
        expected = decode({"bytes": None, "path": path}, full_scale).convert("RGB")
    except InputError:
        with pytest.raises(app.Refused, match="do not fit 8 bits"):
            app.read(path, full_scale)
    else:
        assert np.array_equal(np.asarray(app.read(path, full_scale)), np.asarray(expected))


def test_the_space_knows_the_full_scale_of_its_model(app, demo, space, student, tmp_path):
    model = load_native(student)
    model.config.full_scale = 4095
    assert app.Classifier(space, str(export_native(model, tmp_path / "student"))).full_scale == 4095
    assert demo.full_scale is None and "full_scale" not in (student / "config.json").read_text()


def test_what_is_no_image_gets_one_friendly_line(app, tmp_path, monkeypatch):
    files = {name: str(tmp_path / name) for name in ("text.png", "cut.png", "strip.png", "large.png")}
    Path(files["text.png"]).write_text("no image")
    smooth(0, (400, 300)).save(files["large.png"])
    Path(files["cut.png"]).write_bytes(Path(files["large.png"]).read_bytes()[:300])
    smooth(0, (2000, 3)).save(files["strip.png"])
    words = {"text.png": "no image", "cut.png": "no image", "strip.png": "strip of 2000 x 3"}
    for name, expected in words.items():
        with pytest.raises(app.Refused, match=expected) as error:
            app.read(files[name])
        assert "\n" not in str(error.value)
    monkeypatch.setattr(app.Image, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(app.Refused, match="million pixels"):
        app.read(files["large.png"])


def test_a_training_image_is_its_own_nearest_neighbour(demo, space):
    train = splits().splits["train"]
    for number, row in enumerate(train):
        image = decode(row["image"]).convert("RGB")
        found = demo.neighbours(image)
        assert found[0][0] == number and found[0][1] == pytest.approx(1, abs=1e-3) and len(found) == 8
        assert found[1][1] < 0.9999 and [cosine for _, cosine in found] == sorted((c for _, c in found), reverse=True)
        # What is shown is what the network saw of it.
        expected = np.asarray(ResizeCrop(45, 40, "bilinear")(image), dtype=int)
        assert np.abs(np.asarray(demo.thumbnail(number), dtype=int) - expected).max() <= 1
        assert demo.labels[number] == row["label"]
    assert "cat &amp; &lt;dog&gt;" in demo.gallery(decode(train[7]["image"]).convert("RGB"))


@pytest.mark.parametrize(("size", "name"), [(40, "resnet18"), (33, "resnet18"), (64, "test_vit")])
def test_the_pixels_are_those_of_our_saliency(size, name, tmp_path):
    student = export(tmp_path / "student", size, name)
    written = write_space(student, tmp_path / "space", repo_id="a/b", data=splits())
    app = load_app(written)
    demo, model, image = app.Classifier(written, str(student)), load_native(student), smooth(3, (90, 61))
    square = ResizeCrop(int(size / 0.875), size, "bilinear")(image)
    pixels = torch.from_numpy(np.asarray(square).transpose(2, 0, 1).copy())[None]
    for number, label in enumerate(CLASSES):
        expected = saliency(model, pixels, torch.tensor([number]))[0]
        found = demo.saliency(image, label)
        assert found.dtype == np.float32 and found == pytest.approx(expected, abs=2e-3), label
    assert demo.overlay(image, CLASSES[0]).size == (app.MAP_SIDE, app.MAP_SIDE)


def test_only_what_the_network_sees_lies_under_the_map(demo):
    """Of 80 x 160 pixels it sees the square of 40 / 45 of the width in the middle: everything else is painted red."""
    image = Image.new("RGB", (80, 160), "red")
    image.paste("blue", (4, 44, 76, 116))
    assert np.asarray(demo.seen(image))[8:-8, 8:-8, 0].max() == 0  # 71 x 71 of them: the edge is half a pixel off
    assert np.asarray(demo.seen(Image.new("RGB", (1, 1), "red"))).shape == (448, 448, 3)


def test_other_weights_than_those_of_the_features_are_refused(app, space, tmp_path):
    with pytest.raises(ValueError, match="write the Space anew"):
        app.Classifier(space, str(export(tmp_path / "again", seed=1)))


def test_without_a_gradient_the_map_is_empty(demo, monkeypatch):
    monkeypatch.setattr(demo.model.timm_model.fc, "weight", torch.nn.Parameter(torch.zeros(3, 16)))
    assert not demo.saliency(smooth(0), CLASSES[0]).any()
