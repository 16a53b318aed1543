"""The exported folder, loaded by people who do not have this package: same images, same logits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import ExifTags, Image, ImageOps

from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel

CLASSES = ["ankle boot", "bag", "coat", "dress", "shirt"]
SMALL_RESNET = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
STUDENTS = {
    "resnet18": {"image_size": 64, "backbone_args": SMALL_RESNET, "crop_pct": 0.875},
    "mobilenetv3_large_100": {"image_size": 40, "image_mean": [0.4, 0.3, 0.2], "image_std": [0.2, 0.3, 0.4]},
    "vit_tiny_patch16_224": {"image_size": 48, "backbone_args": {"depth": 2}, "interpolation": "bilinear"},
}
FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]

# A process that cannot import hf_vipriors, should anything try. Arguments: exports, images, the file to write.
STRANGER = """
import json, sys
from pathlib import Path

sys.modules["hf_vipriors"] = None
import timm, torch
from PIL import Image, ImageOps
from transformers import pipeline

exports, images, result = map(Path, sys.argv[1:])
found = {}
for folder in sorted(exports.iterdir()):
    classify = pipeline("image-classification", model=str(folder), function_to_apply="none", top_k=99)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    for path in sorted(images.iterdir()):
        scores = {entry["label"]: entry["score"] for entry in classify(str(path))}
        with Image.open(path) as image, torch.no_grad():
            logits = model(transform(ImageOps.exif_transpose(image).convert("RGB")).unsqueeze(0))[0].tolist()
        kind = type(classify.model).__name__
        found[f"{folder.name}/{path.name}"] = {"pipeline": scores, "timm": logits, "type": kind}
assert [name for name in sys.modules if name.startswith("hf_vipriors")] == ["hf_vipriors"]
result.write_text(json.dumps(found))
"""


def student(name: str = "resnet18", **changes) -> VipriorsForImageClassification:
    """A classifier whose logits tell images and classes apart."""
    config = VipriorsConfig.for_backbone(name, class_names=CLASSES, **{**STUDENTS[name], **changes})
    torch.manual_seed(0)
    model = VipriorsForImageClassification(config)
    with torch.no_grad():
        model.train()(
            torch.randn(16, 3, config.image_size, config.image_size)
        )  # batch statistics that are not 0 and 1
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def pictures(folder: Path) -> list[Path]:
    """One image of each mode, none square, none of the network's size, and one that a camera turned."""
    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, (9, 7, 4), dtype=np.uint8)
    drawn = {
        "rgb.png": Image.fromarray(smooth[..., :3]).resize((90, 131)),
        "gray.png": Image.fromarray(smooth[..., 0]).resize((57, 41)),  # smaller than the network's input
        "palette.png": Image.fromarray(smooth[..., :3]).resize((150, 83)).quantize(16),
        "rgba.png": Image.fromarray(smooth).resize((77, 128)),
    }
    folder.mkdir()
    for name, picture in drawn.items():
        picture.save(folder / name)
    assert [Image.open(folder / name).mode for name in drawn] == ["RGB", "L", "P", "RGBA"]
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    drawn["rgb.png"].save(folder / "turned.jpg", exif=turned)
    assert ImageOps.exif_transpose(Image.open(folder / "turned.jpg")).size == (131, 90)
    return sorted(folder.iterdir())


def our_logits(model: VipriorsForImageClassification, picture: Path) -> torch.Tensor:
    """The evaluation of this project: upright, RGB, timm's evaluation transform with our numbers, our model."""
    config = model.config
    transform = timm.data.create_transform(
        input_size=(3, config.image_size, config.image_size),
        is_training=False,
        interpolation=config.interpolation,
        mean=config.image_mean,
        std=config.image_std,
        crop_pct=config.crop_pct,
    )
    with Image.open(picture) as image, torch.no_grad():
        return model(transform(ImageOps.exif_transpose(image).convert("RGB")).unsqueeze(0)).logits[0]


def test_strangers_get_our_logits(tmp_path):
    drawn = pictures(tmp_path / "images")
    students = {name: student(name) for name in STUDENTS}
    for name, model in students.items():
        export_native(model, tmp_path / "exports" / name)
    result = tmp_path / "result.json"
    command = [sys.executable, "-I", "-c", STRANGER, tmp_path / "exports", tmp_path / "images", result]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(result.read_text())
    assert len(found) == len(students) * len(drawn)
    for name, model in students.items():
        logits = {picture.name: our_logits(model, picture) for picture in drawn}
        assert torch.stack(list(logits.values())).std(0).min() > 1e-3, "the images must make a difference"
        for file, ours in logits.items():
            theirs = found[f"{name}/{file}"]
            assert theirs["type"] == "TimmWrapperForImageClassification"
            assert sorted(theirs["pipeline"]) == CLASSES
            in_order = torch.tensor([theirs["pipeline"][label] for label in CLASSES])
            torch.testing.assert_close(in_order, ours, rtol=1e-5, atol=1e-5, msg=f"pipeline, {name}, {file}")
            torch.testing.assert_close(
                torch.tensor(theirs["timm"]), ours, rtol=1e-5, atol=1e-5, msg=f"timm, {name}, {file}"
            )


@pytest.mark.parametrize("name", STUDENTS)
def test_load_native_gives_the_very_same_model(name, tmp_path):
    model = student(name)
    folder = export_native(model, tmp_path / "student")
    generator = torch.get_rng_state()
    again = load_native(folder)
    assert torch.equal(torch.get_rng_state(), generator)
    images = torch.randn(2, 3, model.config.image_size, model.config.image_size)
    assert not again.training and torch.equal(again(images).logits, model(images).logits)
    changed = {k for k, v in model.config.to_dict().items() if again.config.to_dict()[k] != v}
    assert changed <= {"_name_or_path", "architectures", "dtype"}


def test_the_folder(tmp_path):
    model = student().train()
    generator = torch.get_rng_state()
    folder = export_native(model, tmp_path / "deep" / "student")
    assert torch.equal(torch.get_rng_state(), generator) and model.training
    assert folder == tmp_path / "deep" / "student"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["student"]  # nothing left beside it
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["TimmWrapperForImageClassification"] and config["model_type"] == "timm_wrapper"
    assert config["architecture"] == "resnet18" and config["model_args"] == {**SMALL_RESNET, "in_chans": 3}
    assert config["num_classes"] == 5 and config["label_names"] == CLASSES
    assert config["pretrained_cfg"] == {
        "input_size": [3, 64, 64],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 5,
        "first_conv": "conv1",
        "classifier": "fc",
    }
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert processor["image_processor_type"] == "TimmWrapperImageProcessor"
    assert processor["pretrained_cfg"] == config["pretrained_cfg"]
    state = safetensors.torch.load_file(folder / "model.safetensors")
    assert state.keys() == model.backbone.state_dict().keys()


def test_others_can_fine_tune_it_to_other_classes(tmp_path):
    model = student()
    folder = export_native(model, tmp_path / "student")
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=2)
    assert other.fc.out_features == 2
    assert torch.equal(other.layer4[-1].conv2.weight, model.backbone.layer4[-1].conv2.weight)


def test_class_names_can_be_given(tmp_path):
    folder = export_native(student(), tmp_path / "student", class_names=list("abcde"))
    assert load_native(folder).config.id2label == dict(enumerate("abcde"))
    with pytest.raises(InputError, match="2 class names for a model with 5 classes"):
        export_native(student(), tmp_path / "other", class_names=["a", "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_half_precision_is_exported_as_float32(tmp_path):
    model = student().bfloat16()
    folder = export_native(model, tmp_path / "student")
    assert all(t.dtype != torch.bfloat16 for t in safetensors.torch.load_file(folder / "model.safetensors").values())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(load_native(folder)(images).logits, model.float()(images).logits)


def test_exporting_again_keeps_what_lies_beside_it(tmp_path):
    folder = export_native(student(), tmp_path / "student")
    (folder / "README.md").write_text("a card")
    second = student("mobilenetv3_large_100")
    export_native(second, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "README.md"])
    images = torch.randn(1, 3, 40, 40)
    assert torch.equal(load_native(folder)(images).logits, second(images).logits)


@pytest.mark.parametrize("cut_off_at", ["model.safetensors", "preprocessor_config.json", "config.json"])
def test_an_export_cut_off_never_mixes_old_and_new(cut_off_at, tmp_path, monkeypatch):
    folder = export_native(student(), tmp_path / "student")
    replace = os.replace

    def cut(source, target):
        if Path(target) == folder / cut_off_at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", cut)
    with pytest.raises(KeyboardInterrupt):
        export_native(student(image_size=32), folder)
    with pytest.raises(InputError, match=r"no config\.json"):
        load_native(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_failed_first_export_leaves_no_folder(tmp_path, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        export_native(student(), tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_what_a_native_checkpoint_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="it is a file"):
        export_native(student(), tmp_path / "file")
    gray = VipriorsConfig.for_backbone("resnet18", image_size=32, backbone_args={**SMALL_RESNET, "in_chans": 1})
    with pytest.raises(InputError, match="1 input channels"):
        export_native(VipriorsForImageClassification(gray), tmp_path / "gray")
    # A configuration that does not describe the network it comes with.
    changed = student()
    changed.config.backbone_args = {**SMALL_RESNET, "channels": [16, 32, 64, 64]}
    with pytest.raises(InputError, match="builds another one"):
        export_native(changed, tmp_path / "changed")
    changed.config.backbone_args = {"chanels": [16, 32, 64, 64]}
    with pytest.raises(InputError, match="chanels"):
        export_native(changed, tmp_path / "changed")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def damage(folder: Path, how: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    values = json.loads(config.read_text())
    if how == "no config":
        config.unlink()
    elif how == "half a config":
        config.write_text(config.read_text()[:200])
    elif how == "a list":
        config.write_text("[]")
    elif how == "another model":
        config.write_text(json.dumps({"model_type": "vit"}))
    elif how == "no weights":
        weights.unlink()
    elif how == "half the weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif how == "other weights":
        safetensors.torch.save_file({"fc.weight": torch.zeros(5, 128)}, weights)
    elif how == "another network":
        config.write_text(json.dumps({**values, "architecture": "resnet34"}))
    elif how == "an unknown network":
        config.write_text(json.dumps({**values, "architecture": "resnet19"}))
    elif how == "no label names":
        config.write_text(json.dumps({**values, "label_names": None}))
    elif how in ("crop_mode", "mean", "input_size"):
        wrong = {"crop_mode": "squash", "mean": "gray", "input_size": [3, 64, 48]}[how]
        config.write_text(json.dumps({**values, "pretrained_cfg": {**values["pretrained_cfg"], how: wrong}}))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no config", "no config.json"),
        ("half a config", "damaged"),
        ("a list", "no exported student"),
        ("another model", "model_type 'vit'"),
        ("no weights", "model.safetensors"),
        ("half the weights", "model.safetensors"),
        ("other weights", "Missing key"),
        ("another network", "'resnet34'"),
        ("an unknown network", "resnet18"),
        ("no label names", "damaged"),
        ("crop_mode", "not our export"),
        ("mean", "damaged"),
        ("input_size", "not our export"),
    ],
)
def test_damaged_folders(how, words, tmp_path):
    folder = export_native(student(), tmp_path / "student")
    damage(folder, how)
    with pytest.raises(InputError) as error:
        load_native(folder)
    assert words in error.value.on_command_line and str(folder) in error.value.on_command_line
    assert "\n" not in error.value.on_command_line and len(error.value.on_command_line) < 1000


def test_folders_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_native(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no config.json"):
        load_native(tmp_path)
    VipriorsModel(VipriorsConfig.for_backbone("test_convnext", image_size=32)).save_pretrained(tmp_path / "teacher")
    with pytest.raises(InputError, match="use from_pretrained"):
        load_native(tmp_path / "teacher")


def test_a_checkpoint_that_transformers_wrote_itself_is_read_too(tmp_path):
    from transformers import TimmWrapperForImageClassification

    model = student()
    folder = export_native(model, tmp_path / "student")
    wrapped = TimmWrapperForImageClassification.from_pretrained(folder)
    state = {f"timm_model.{name}": t for name, t in wrapped.timm_model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(load_native(folder)(images).logits, model(images).logits)
