"""Students and images for static Spaces, and names of classes that a page could take for something else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from hf_vipriors.data import ImageSplits
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.hub.onnx_export import export_onnx
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification

HOSTILE = [
    "<img src=x onerror=alert(1)>", "</script><script>document.title='taken'</script>", "two\nlines", "&lt;b&gt; قطة",
    "__boot__ " + "long" * 60,
]  # fmt: skip
TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}


def texture(seed: int, size: tuple[int, int], channels: int = 3) -> Image.Image:
    """Large shapes under fine stripes and noise: what is resized otherwise looks otherwise."""
    random, (width, height) = np.random.default_rng(seed), size
    shapes = Image.fromarray(random.integers(0, 256, (5, 7, channels), dtype=np.uint8))
    values = np.asarray(shapes.resize(size, Image.Resampling.BICUBIC), float)
    rows, columns = np.mgrid[:height, :width]
    values = values + 60 * np.sin(1.7 * columns + 0.9 * rows)[..., None] + random.normal(0, 40, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def splits(names: list[str]) -> ImageSplits:
    def images(seed: int) -> Dataset:
        labels, records = 2 * list(range(len(names))), []
        for number in range(len(labels)):
            file = io.BytesIO()
            texture(seed + number, (70, 50)).save(file, "PNG")
            records.append({"bytes": file.getvalue(), "path": None})
        return Dataset.from_dict({"image": records, "label": labels}).cast_column("image", ImageFeature(decode=False))

    return ImageSplits({"train": images(0), "test": images(100)}, names)


def export(folder: Path, names: list[str], name: str = "resnet18", **options) -> Path:
    """A student with its ONNX file, whose predictions hang on the image."""
    torch.manual_seed(0)
    if name == "resnet18":
        options["backbone_args"] = TINY
    config = VipriorsConfig.for_backbone(
        name, class_names=names, **{"image_size": 32, "crop_pct": 0.875, "interpolation": "bicubic", **options}
    )
    model = VipriorsForImageClassification(config)
    with torch.no_grad():
        model.train()(torch.randn(16, 3, config.image_size, config.image_size))  # batch norms with statistics
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    export_native(model.eval(), folder)
    export_onnx(folder)
    return folder
