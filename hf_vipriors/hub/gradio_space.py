"""The Gradio Space of a student: its predictions, why, and the training images most like a visitor's.

``app.py`` is ``templates/space_app.py`` as it stands; all that is particular to a student lies beside it in
``settings.json``, ``neighbours.safetensors`` and ``thumbnails.png``.
"""

from __future__ import annotations

import math
import re
import shutil
from importlib.metadata import requires
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from torchvision.transforms.functional import resize, to_pil_image
from torchvision.utils import make_grid

from ..backbones import is_ours
from ..data import build_store, collate
from ..errors import InputError
from ..files import save_tensors, write_json
from ..models import VipriorsForImageClassification
from ..views import EvaluationView
from .model_card import TEMPLATES, render
from .preprocessing import evaluation_geometry
from .space_parts import SpaceFacts, spread

GRADIO = "6.31.0"
PYTHON = "3.11"
"""The versions that ``app.py`` was tested with; the Space installs them."""
_TILE = 96
_IMPORTED_BY_APP = ("numpy", "pillow", "safetensors", "timm", "torch", "torchvision", "transformers")


def write_gradio(facts: SpaceFacts, folder: Path, neighbours: int) -> None:
    """Fill a folder; at most ``neighbours`` training images are compared with.

    Raises:
        InputError: a network that needs this package, or an unreadable image.
    """
    backbone = facts.model.config.backbone
    if is_ours(backbone):
        raise InputError(
            f"a Gradio Space cannot run {backbone!r} of {str(facts.student_dir)!r}, an architecture that timm knows "
            "only with hf_vipriors: train a student with one of timm's own, or write a static Space"
        )
    kept = spread(facts.labels)[:neighbours]
    kept.sort()
    bank, thumbnails = _neighbours(facts.model, facts.data.splits["train"].select(kept), facts.on_bad_image)
    save_tensors(bank, folder / "neighbours.safetensors")
    sheet = make_grid(thumbnails, nrow=math.ceil(math.sqrt(len(thumbnails))), padding=0)
    to_pil_image(sheet[: thumbnails.shape[1]]).save(folder / "thumbnails.png", optimize=True)
    shutil.copyfile(TEMPLATES / "space_app.py", folder / "app.py")
    (folder / "requirements.txt").write_text(_requirements(), encoding="utf-8")
    held = len(thumbnails)
    settings = {
        "model": facts.repo_id,
        "title": facts.title,
        "description": facts.text("space_description.md.j2"),
        "how_to_read": facts.text("space_how_to_read.md.j2", held=held),
        "tile": thumbnails.shape[-1],
        "examples": facts.write_examples(folder),
    }
    write_json(folder / "settings.json", settings)
    body = render("space_readme.md.j2", **settings, held=held, gradio=GRADIO)
    facts.write_card(folder, body, sdk="gradio", sdk_version=GRADIO, python_version=PYTHON, app_file="app.py")


@torch.inference_mode()
def _neighbours(
    model: VipriorsForImageClassification, train: Dataset, on_bad_image: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Features (N, D) as unit vectors, labels (N,) and the probe (D,) that app.py knows the weights by; thumbnails."""
    config = model.config
    store = build_store(train, evaluation_geometry(config), on_bad_image=on_bad_image)
    view, tile = EvaluationView(config.image_mean, config.image_std), min(config.image_size, _TILE)
    features, labels, thumbnails = [], [], []
    for batch in DataLoader(store, batch_size=64, collate_fn=collate):
        features.append(normalize(model.features(view(batch["pixel_values"])), dim=1).half())
        labels.append(batch["labels"])
        thumbnails.append(resize(batch["pixel_values"], [tile, tile]))
    probe = torch.linspace(-2, 2, 3 * config.image_size**2).reshape(1, 3, config.image_size, config.image_size)
    bank = {
        "features": torch.cat(features),
        "labels": torch.cat(labels),
        "probe": normalize(model.features(probe), dim=1)[0],
    }
    return bank, torch.cat(thumbnails)


def _requirements() -> str:
    """What app.py imports, within the bounds of this package; gradio itself is installed by the Space."""
    lines = {re.match(r"[\w.-]+", line)[0].lower(): line for line in requires("hf-vipriors") if "extra ==" not in line}
    return "".join(f"{lines[name]}\n" for name in _IMPORTED_BY_APP)
