"""Write a demo of a student as a Hugging Face Space: a Gradio program, or a page that runs in the browser alone.

The folder is complete and needs nothing of this package. ``gradio_space.py`` and ``static_space.py`` say what lies in
each kind, ``space_parts.py`` holds what both are made of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from huggingface_hub import ModelCard, ModelCardData

from ..data import ImageSplits
from ..data.columns import label_array, some
from ..errors import InputError, check_choice, check_range, one_line
from ..markup import visible
from ..models import VipriorsForImageClassification
from .gradio_space import write_gradio
from .native_export import load_native
from .repository_files import check_repo_id
from .space_parts import SpaceFacts
from .static_space import write_static
from .whole_folder import temporary_folder

KINDS = ("gradio", "static")
NEIGHBOURS, MOST_NEIGHBOURS = 1000, 5000


def write_space(
    student_dir: str | Path,
    directory: str | Path,
    *,
    repo_id: str,
    data: ImageSplits,
    kind: str = "gradio",
    title: str | None = None,
    licence: str | None = None,
    neighbours: int = NEIGHBOURS,
    on_bad_image: str = "error",
) -> Path:
    """Write a Space in which anyone can try the student of ``student_dir``.

    Of a Gradio Space the training images become part, as small thumbnails: publish only what you may. What the card
    beside the student (``README.md``) says of accuracy, data set and licence is said by the Space as well.

    Args:
        student_dir: folder of an exported student, see :func:`~hf_vipriors.hub.native_export.export_native`.
        directory: the new folder; :func:`~hf_vipriors.hub.repository_files.space_files` gathers it for the Hub.
        repo_id: where the student itself is on the Hub, ``"someone/student"``.
        data: what it was trained on. ``splits["train"]`` gives the neighbours; up to 6 images of ``"test"``, else
            of ``"validation"``, are offered as examples.
        kind: ``"gradio"`` (default): a program on the Hub's machine, which shows nearest training images and a
            saliency map too. ``"static"``: a page whose visitors' browsers run ``onnx/model.onnx``, from
            :func:`~hf_vipriors.hub.onnx_export.export_onnx`, of a model that is public on the Hub.
        title: of the page; None (default): the model's name and the number of training images.
        licence: of the Space, a Hub licence id; None (default): that of the student's card, if it names one.
        neighbours: at most so many training images are compared with, spread evenly over the classes, so that a
            large data set does not make a large repository. Default 1000, some 18 MB of photographs; 5000 at most.
            The page says how many they are. A static Space has none.
        on_bad_image: ``"error"`` or ``"skip"``, as in training.

    Returns:
        The path of ``directory``.

    Raises:
        InputError: no student there, for Gradio one that needs this package, for a static Space one without an ONNX
            file of these weights; a folder that is not empty, a repository id that cannot be, no labelled training
            images, classes that are not the student's, an unreadable image.

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
    check_choice(kind, KINDS, "kind")
    check_range(neighbours, "neighbours", 1, MOST_NEIGHBOURS)
    check_repo_id(repo_id)
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InputError(f"{str(directory)!r} exists already: give a new folder for the Space, or remove that one")
    model = _load_student(student_dir)
    labels = _train_labels(data, model)
    card = _student_card(student_dir)
    title = visible(title or f"{repo_id.split('/')[-1]}, trained on {len(labels):,} images")
    facts = SpaceFacts(student_dir, repo_id, title, licence or card.license, model, card, data, labels, on_bad_image)
    with temporary_folder(directory.parent, directory.name) as folder:
        if kind == "static":
            write_static(facts, folder)
        else:
            write_gradio(facts, folder, neighbours)
        if directory.exists():
            directory.rmdir()
        folder.rename(directory)
    return directory


def _load_student(student_dir: Path) -> VipriorsForImageClassification:
    model = load_native(student_dir)
    if not isinstance(model, VipriorsForImageClassification):
        raise InputError(f"{str(student_dir)!r} extracts features and knows no classes: give the folder of a student")
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
        raise InputError("no labelled training images: the Space says how many there are of each class")
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
