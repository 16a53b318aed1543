"""What users of transformers get for 90 awkward images, by either backend of its image processors."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from transformers import AutoImageProcessor, pipeline
from transformers.image_utils import load_image

from hf_vipriors.data import decode
from hf_vipriors.data.image_decoding import is_wide
from hf_vipriors.files import write_json
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.hub.preprocessing import evaluation_geometry, processor_words
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.views import EvaluationView

SIZES = [(1, 1), (1, 37), (400, 1), (5, 3), (31, 33), (64, 64), (97, 350), (1200, 7), (640, 480), (1203, 901)]
STUDENTS = [
    (32, 1.0, "bicubic", None),
    (64, 0.875, "bilinear", 65535),
    pytest.param(224, 0.95, "bicubic", None, marks=pytest.mark.slow),
]
BACKENDS = ("torchvision", "pil")
TORCHVISION_LEVELS = 8


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """90 files: nine kinds of each size, among them one pixel, one row, palette, CMYK, turned by EXIF and 16 bits."""
    folder, random = tmp_path_factory.mktemp("awkward"), np.random.default_rng(0)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    for width, height in SIZES:
        rgba = Image.fromarray(random.integers(0, 256, (5, 4, 4), dtype=np.uint8)).resize((width, height))
        rgb, gray = rgba.convert("RGB"), rgba.convert("L")
        images = {
            "rgb.png": rgb, "rgb.jpg": rgb, "rgba.png": rgba, "gray.png": gray, "palette.png": rgb.quantize(16),
            "cmyk.jpg": rgb.convert("CMYK"), "two.png": gray.convert("1"), "turned.jpg": rgb,
            "wide.png": Image.fromarray(np.asarray(gray, np.uint16) * 257),
        }  # fmt: skip
        for name, image in images.items():
            image.save(folder / f"{width}-{height}-{name}", **({"exif": turned} if name == "turned.jpg" else {}))
    files = sorted(map(str, folder.iterdir()))
    assert len(files) == 90
    return files


@pytest.mark.parametrize(("side", "crop_pct", "interpolation", "full_scale"), STUDENTS)
def test_student_predicts_the_same_by_both_backends(
    side, crop_pct, interpolation, full_scale, awkward, tiny_config, tmp_path
):
    torch.manual_seed(0)
    options = {"crop_pct": crop_pct, "interpolation": interpolation, "full_scale": full_scale}
    model = VipriorsForImageClassification(tiny_config(image_size=side, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = export_native(model, tmp_path / "student")
    classify = pipeline("image-classification", model=str(folder), device="cpu")
    processors = [AutoImageProcessor.from_pretrained(folder, backend=backend) for backend in BACKENDS]
    view = EvaluationView(model.config.image_mean, model.config.image_std)
    found = set()
    for file, scores in zip(awkward, classify(awkward), strict=True):
        first, second = (each(load_image(file), return_tensors="pt")["pixel_values"] for each in processors)
        assert torch.equal(first, second), file
        with torch.no_grad():
            probabilities = model(first).logits[0].softmax(dim=0)
        assert scores[0]["label"] == model.config.id2label[int(probabilities.argmax())], file
        assert scores[0]["score"] == pytest.approx(float(probabilities.max()), abs=1e-5)
        found.add(scores[0]["label"])
        with Image.open(file) as image:
            wide, longest = is_wide(image.mode), max(image.size) / min(image.size)
        if not wide and longest <= 64:  # of the others evaluation scales the values, or cuts out the middle first
            crop = evaluation_geometry(model.config)(decode({"bytes": None, "path": file}))
            ours = view(torch.from_numpy(np.array(crop.convert("RGB"))).permute(2, 0, 1)[None])
            torch.testing.assert_close(first, ours, rtol=0, atol=1e-5, msg=file)
    assert len(found) > 1, "the images must make a difference"


@pytest.mark.parametrize(("side", "crop_pct", "interpolation", "full_scale"), STUDENTS)
def test_processor_of_a_teacher_crops_within_a_pixel_of_ours(
    side, crop_pct, interpolation, full_scale, awkward, tiny_config, tmp_path
):
    """``BitImageProcessor`` rounds where the centre begins down, timm to the nearest."""
    config = tiny_config(image_size=side, crop_pct=crop_pct, interpolation=interpolation)
    write_json(tmp_path / "preprocessor_config.json", processor_words(config, "BitImageProcessor"))
    processors = {each: AutoImageProcessor.from_pretrained(tmp_path, backend=each) for each in BACKENDS}
    assert len({type(each) for each in processors.values()}) == 2
    std = torch.tensor(config.image_std)[:, None, None]
    worst = dict.fromkeys(BACKENDS, 0.0)
    for file in awkward:
        image = load_image(file)
        resized = F.resize(image, evaluation_geometry(config).resize, InterpolationMode(interpolation))
        width, height = resized.size
        crop = F.crop(resized, (height - side) // 2, (width - side) // 2, side, side)
        wanted = F.normalize(F.to_tensor(crop), config.image_mean, config.image_std)
        for name, processor in processors.items():
            pixels = processor(image, return_tensors="pt")["pixel_values"][0]
            worst[name] = max(worst[name], float(((pixels - wanted).abs() * std * 255).max()))
    assert worst["pil"] < 0.01 and worst["torchvision"] < TORCHVISION_LEVELS, worst
