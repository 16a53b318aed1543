"""Write a demo of a student as a Hugging Face Space: its answer, why, and the training images most like yours.

The folder is complete and needs nothing of this package. ``app.py`` is ``templates/space_app.py`` as it stands; all
that is particular to a student lies beside it in ``settings.json``, ``neighbours.safetensors`` and ``thumbnails.png``.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard, ModelCardData, SpaceCard, SpaceCardData
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from torchvision.transforms.functional import resize, to_pil_image
from torchvision.utils import make_grid

from ..backbones import is_ours
from ..data import ImageSplits, build_store, collate, decode
from ..data.columns import label_array, some
from ..errors import InputError, check_range, one_line
from ..files import write_json
from ..markup import visible
from ..models import VipriorsForImageClassification
from ..views import EvaluationView
from .model_card import render
from .native_export import load_native
from .preprocessing import evaluation_geometry
from .repository_files import check_repo_id
from .whole_folder import temporary_folder

GRADIO = "6.31.0"
PYTHON = "3.11"
"""The versions that ``app.py`` was tested with; the Space installs them."""
NEIGHBOURS, MOST_NEIGHBOURS = 1000, 5000
EXAMPLES = 6
_TEMPLATES = Path(__file__).parent / "templates"
_TILE, _EXAMPLE_SIDE = 96, 512
_IMPORTED_BY_APP = ("numpy", "pillow", "safetensors", "timm", "torch", "torchvision", "transformers")


def write_space(
    student_dir: str | Path,
    directory: str | Path,
    *,
    repo_id: str,
    data: ImageSplits,
    title: str | None = None,
    licence: str | None = None,
    neighbours: int = NEIGHBOURS,
    on_bad_image: str = "error",
) -> Path:
    """Write a Space in which anyone can try the student of ``student_dir``.

    The training images become part of it, as small thumbnails: publish only what you may. What the card beside the
    student (``README.md``) says of accuracy, data set and licence is said by the Space as well.

    Args:
        student_dir: folder of an exported student, see :func:`~hf_vipriors.hub.native_export.export_native`.
        directory: the new folder; :func:`~hf_vipriors.hub.repository_files.space_files` gathers it for the Hub.
        repo_id: where the student itself is on the Hub, ``"someone/student"``.
        data: what it was trained on. ``splits["train"]`` gives the neighbours; up to 6 images of ``"test"``, else
            of ``"validation"``, are offered as examples.
        title: of the page; None (default): the model's name and the number of training images.
        licence: of the Space, a Hub licence id; None (default): that of the student's card, if it names one.
        neighbours: at most so many training images are compared with, spread evenly over the classes, so that a
            large data set does not make a large repository. Default 1000, some 18 MB of photographs; 5000 at most.
            The page says how many they are.
        on_bad_image: ``"error"`` or ``"skip"``, as in training.

    Returns:
        The path of ``directory``.

    Raises:
        InputError: no student there or one that needs this package, a folder that is not empty, a repository id that
            cannot be, no labelled training images, classes that are not the student's, an unreadable image.

    Example:
        >>> import tempfile
        >>> from hf_vipriors.data import load_splits
        >>> from hf_vipriors.hub.native_export import export_native
        >>> from hf_vipriors.models import VipriorsConfig
        >>> data = load_splits("fashion-vipriors")
        >>> config = VipriorsConfig.for_backbone("test_convnext", image_size=32, class_names=data.class_names)
        >>> with tempfile.TemporaryDirectory() as outputs:
        ...     student = export_native(VipriorsForImageClassification(config), f"{outputs}/student")
        ...     space = write_space(student, f"{outputs}/space", repo_id="someone/student", data=data, neighbours=50)
        ...     sorted(path.name for path in space.iterdir())
        ['README.md', 'app.py', 'examples', 'neighbours.safetensors', 'requirements.txt', 'settings.json',
         'thumbnails.png']
    """
    student_dir, directory = Path(student_dir), Path(directory)
    check_range(neighbours, "neighbours", 1, MOST_NEIGHBOURS)
    check_repo_id(repo_id)
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InputError(f"{str(directory)!r} exists already: give a new folder for the Space, or remove that one")
    model = _load_student(student_dir)
    labels = _train_labels(data, model)
    card = _student_card(student_dir)
    kept = _spread(labels)[:neighbours]
    kept.sort()
    bank, thumbnails = _neighbours(model, data.splits["train"].select(kept), on_bad_image)
    with temporary_folder(directory.parent, directory.name) as folder:
        safetensors.torch.save_file(bank, folder / "neighbours.safetensors")
        sheet = make_grid(thumbnails, nrow=math.ceil(math.sqrt(len(thumbnails))), padding=0)
        to_pil_image(sheet[: thumbnails.shape[1]]).save(folder / "thumbnails.png", optimize=True)
        shutil.copyfile(_TEMPLATES / "space_app.py", folder / "app.py")
        (folder / "requirements.txt").write_text(_requirements(), encoding="utf-8")
        title = visible(title or f"{repo_id.split('/')[-1]}, trained on {len(labels):,} images")
        settings = {
            "model": repo_id,
            "title": title,
            **_page_text(repo_id, title, labels, len(thumbnails), model, card),
            "tile": thumbnails.shape[-1],
            "examples": _write_examples(data, folder, on_bad_image, model.config.full_scale),
        }
        write_json(folder / "settings.json", settings)
        _space_card(settings, len(thumbnails), card, licence).save(folder / "README.md")
        if directory.exists():
            directory.rmdir()
        folder.rename(directory)
    return directory


def _load_student(student_dir: Path) -> VipriorsForImageClassification:
    model = load_native(student_dir)
    if not isinstance(model, VipriorsForImageClassification):
        raise InputError(f"{str(student_dir)!r} extracts features and knows no classes: give the folder of a student")
    if is_ours(model.config.backbone):
        raise InputError(
            f"the Space cannot run {model.config.backbone!r} of {str(student_dir)!r}, an architecture that timm knows "
            "only with hf_vipriors: train a student with one of timm's own"
        )
    return model


def _train_labels(data: ImageSplits, model: VipriorsForImageClassification) -> np.ndarray:
    names = model.config.class_names
    if list(data.class_names) != names:
        raise InputError(
            f"the classes of the data set ({len(data.class_names)}: {some(data.class_names)}) are not the student's "
            f"({len(names)}: {some(names)}): give the data that it was trained on, its classes in the same order"
        )
    train = data.splits.get("train")
    if train is None or not len(train) or "label" not in train.column_names:
        raise InputError("no labelled training images: the Space shows those that are most like a visitor's")
    labels = label_array(train)
    if labels.min() < 0:
        raise InputError(f"{(labels < 0).sum()} training images have no label: leave them out of the train split")
    return labels


def _student_card(student_dir: Path) -> ModelCardData:
    path = student_dir / "README.md"
    if not path.is_file():
        return ModelCardData()
    try:
        return ModelCard.load(path).data
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{str(path)!r} is damaged: {one_line(error)}") from error


def _spread(labels: np.ndarray) -> np.ndarray:
    """All positions, so ordered that any number of the first ones holds the classes as evenly as there are images.

    Example:
        >>> _spread(np.array([7, 7, 7, 8, 9, 9])).tolist()
        [0, 3, 4, 1, 5, 2]
    """
    order = np.argsort(labels, kind="stable")
    classes, first = np.unique(labels[order], return_index=True)
    turn = np.empty(len(labels), dtype=np.int64)
    turn[order] = np.arange(len(labels)) - first[np.searchsorted(classes, labels[order])]
    return np.argsort(turn, kind="stable")


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


def _write_examples(data: ImageSplits, folder: Path, on_bad_image: str, full_scale: float | None) -> list[str]:
    """Save some images that were not trained on, of different classes; their places inside the folder."""
    held_out = data.splits.get("test", data.splits.get("validation"))
    names: list[str] = []
    if held_out is None:
        return names
    (folder / "examples").mkdir()
    for image in _readable(held_out, on_bad_image, full_scale):
        image.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
        names.append(f"examples/{len(names) + 1}.png")
        image.save(folder / names[-1])
        if len(names) == EXAMPLES:
            break
    return names


def _readable(dataset: Dataset, on_bad_image: str, full_scale: float | None) -> Iterator[Image.Image]:
    for row in _spread(label_array(dataset)).tolist():
        try:
            yield decode(dataset[row]["image"], full_scale)
        except InputError:
            if on_bad_image == "error":
                raise


def _requirements() -> str:
    """What app.py imports, within the bounds of this package; gradio itself is installed by the Space."""
    lines = {re.match(r"[\w.-]+", line)[0].lower(): line for line in requires("hf-vipriors") if "extra ==" not in line}
    return "".join(f"{lines[name]}\n" for name in _IMPORTED_BY_APP)


def _page_text(
    repo_id: str, title: str, labels: np.ndarray, held: int, model: VipriorsForImageClassification, card: ModelCardData
) -> dict[str, str]:
    counts = np.bincount(labels)
    accuracies = [
        result
        for result in card.eval_results or []
        if result.metric_type == "accuracy" and result.metric_name.startswith("Top-1")
    ]
    facts = {
        "repo_id": repo_id,
        "title": title,
        "names": model.config.class_names,
        "trained_on": len(labels),
        "held": held,
        "least": counts[counts > 0].min(),
        "most": counts.max(),
        "measured": accuracies[0] if accuracies else None,
    }
    return {name: render(f"space_{name}.md.j2", **facts) for name in ("description", "how_to_read")}


def _space_card(settings: dict[str, Any], held: int, card: ModelCardData, licence: str | None) -> SpaceCard:
    data = SpaceCardData(
        title=settings["title"],
        emoji="🔎",
        colorFrom="yellow",
        colorTo="red",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version=PYTHON,
        app_file="app.py",
        license=licence or card.license,
        models=[settings["model"]],
        datasets=card.datasets,
        tags=["image-classification", "few-images", "vipriors"],
    )
    text = render("space_readme.md.j2", **settings, held=held, gradio=GRADIO)
    return SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")
