"""The files that a repository on the Hub will hold, gathered and checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import get_token, validate_repo_id
from transformers import TimmWrapperConfig
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, SAFE_WEIGHTS_NAME

from ..errors import InputError, one_line
from ..files import file_stem, json_text, read_json
from .card_facts import CardFacts, read_facts
from .model_card import PLACE, model_card, why_kept
from .notebook import NOTEBOOK, notebook
from .preprocessing import processor_words
from .remote_code import AUTO_MAP, remote_files
from .teachers import load_ours

CARD = "README.md"
CURVES = "training_curves.png"
SPACE_MARK = "neighbours.safetensors"
"""A file that no Gradio Space but ours has."""
PAGE, GENERATOR = "index.html", "hf_vipriors static Space"
"""A static Space, and what no page but ours has in it."""
TEXT = (".json", ".md", ".yaml", ".py", ".txt", ".ipynb", ".html", ".js")
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class RepositoryFiles:
    """Files for one repository; nothing of it is sent yet.

    Attributes:
        repo_id: ``"org/name"``.
        files: path in the repository -> where its content lies, or the content itself.
        identity: what must not differ from a model that the repository already holds.
        kind: "student", "teacher" or "space".
        notes: lines on what was left out and why.
    """

    repo_id: str
    files: Mapping[str, Path | bytes]
    identity: dict[str, Any]
    kind: str
    notes: list[str] = field(default_factory=list)

    @property
    def repo_type(self) -> str:
        return "space" if self.kind == "space" else "model"

    def content(self, path: str) -> bytes:
        value = self.files[path]
        return value if isinstance(value, bytes) else value.read_bytes()

    def sizes(self) -> dict[str, int]:
        """Path in the repository -> bytes, in order."""
        return {
            path: len(value) if isinstance(value, bytes) else value.stat().st_size
            for path, value in sorted(self.files.items())
        }


def check_repo_id(repo_id: str, flag: str = "repo_id") -> None:
    """Refuse what the Hub would refuse, and a name without its owner: the card's snippets need both.

    Raises:
        InputError: it is not "org/name"; ``flag`` is the option that gave it.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"--{flag} {repo_id!r}: {one_line(error)}") from None
    if repo_id.count("/") != 1:
        raise InputError(f"--{flag} {repo_id!r} has no owner: write it as org/name, such as me/my-flowers")


def model_files(
    directory: Path,
    repo_id: str,
    *,
    examples: Mapping[str, bytes] | None = None,
    curves: bytes | None = None,
    recipe: str | None = None,
    onnx: Path | None = None,
    with_notebook: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> RepositoryFiles:
    """Gather a trained student or teacher.

    The model is loaded first: a damaged one is not published. The card is rendered again with what is only known now
    (the repository, images, curves); one that was edited by hand goes as it is.

    Args:
        directory: the ``--output_dir`` of its training.
        repo_id: ``"org/name"``.
        examples: title -> PNG of an image that the widget offers; published with the model.
        curves: PNG of the training curves.
        recipe: text of the recipe that trains it.
        onnx: folder that :func:`hf_vipriors.hub.onnx_export.export_onnx` wrote.
        with_notebook: a notebook that tries a student.
        changes: fields of :class:`CardFacts` that the card gets beside these, such as ``licence``.

    Raises:
        InputError: no whole model, a file with a token in it, or a name that cannot be.

    Example:
        >>> import tempfile
        >>> from hf_vipriors.hub.native_export import export_native
        >>> from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification
        >>> config = VipriorsConfig.for_backbone("test_convnext", image_size=32, class_names=["cat", "dog"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = export_native(VipriorsForImageClassification(config), folder)
        ...     found = model_files(Path(folder), "me/cats")
        >>> sorted(found.files), found.identity["num_classes"]
        (['config.json', 'model.safetensors', 'preprocessor_config.json'], 2)
    """
    check_repo_id(repo_id)
    if not directory.is_dir():
        raise InputError(f"no model in {directory} (--model): give the --output_dir of a finished training")
    model = load_ours(str(directory), "model")
    config = read_json(directory / CONFIG_NAME)
    student = config["model_type"] == TimmWrapperConfig.model_type
    files: dict[str, Path | bytes] = _native(directory)
    if student and not files:
        raise InputError(
            f"no {IMAGE_PROCESSOR_NAME} in {directory} (--model): pipeline() needs it, train or export again"
        )
    if not student:
        files = {SAFE_WEIGHTS_NAME: directory / SAFE_WEIGHTS_NAME, **remote_files(), **_native(directory, "native")}
        files[CONFIG_NAME] = json_text(config | {"auto_map": AUTO_MAP}).encode()
        # Of transformers, so that it needs no code of ours.
        processor = processor_words(model.config, "BitImageProcessor", do_convert_rgb=True, rescale_factor=1 / 255)
        files[IMAGE_PROCESSOR_NAME] = json_text(processor).encode()
    metrics = directory / "metrics.json"
    files |= {metrics.name: metrics} if metrics.is_file() else {}
    files |= {f"onnx/{path.name}": path for path in sorted(onnx.iterdir())} if onnx is not None else {}
    titles: dict[str, str] = {}  # by the path in the repository
    for title, png in (examples or {}).items():
        path = f"examples/{file_stem(title, [Path(each).stem for each in titles])}.png"
        titles[path], files[path] = title, png
    files |= {CURVES: curves} if curves is not None else {}
    files |= {"recipe.yaml": recipe.encode()} if recipe is not None else {}
    known = {
        "repo_id": repo_id,
        "model_name": repo_id.split("/")[1],
        "examples": titles,
        "curves": CURVES if curves is not None else None,
        "notebook": NOTEBOOK if with_notebook else None,
    }
    facts = read_facts(directory)
    shown = None if facts is None else replace(facts, **(known | dict(changes or {})))
    if with_notebook:
        if shown is None or not student:
            raise InputError(f"{directory} is no student with a card.json: leave out --notebook")
        files[NOTEBOOK] = notebook(shown).encode()
    card, notes = _card(directory, shown)
    files |= {CARD: card.encode()} if card is not None else {}
    found = RepositoryFiles(repo_id, files, identity_of(config), "student" if student else "teacher", notes)
    check_no_secrets(found)
    return found


def space_files(folder: Path, repo_id: str) -> RepositoryFiles:
    """Gather a demo that :func:`hf_vipriors.hub.space.write_space` wrote."""
    check_repo_id(repo_id, "space")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    found = RepositoryFiles(repo_id, files, space_identity(SpaceCard.load(folder / CARD).data.sdk), "space")
    check_no_secrets(found)
    return found


def space_identity(sdk: str) -> dict[str, Any]:
    """Of one of our Spaces: files of another kind would be left beside its own."""
    return {"space": "a demo by hf_vipriors", "sdk": sdk}


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a ``config.json`` what makes another architecture: model type, network, its arguments, classes."""
    arguments = config.get("model_args") or config.get("backbone_args") or {}
    return {
        "model_type": config.get("model_type"),
        "architecture": config.get("architecture") or config.get("backbone"),
        "arguments": {name: value for name, value in arguments.items() if name not in ("in_chans", "img_size")},
        "num_classes": config.get("num_classes"),
    }


def check_no_secrets(files: RepositoryFiles) -> None:
    """Refuse to publish a file that holds a Hub token.

    Raises:
        InputError: which file; the token itself is not shown.
    """
    own = get_token()
    for path in (path for path in files.files if path.endswith(TEXT)):
        text = files.content(path).decode("utf-8", errors="replace")
        if TOKEN.search(text) or (own and own in text):
            raise InputError(f"{path} holds what looks like a Hub token: remove it there, and revoke the token")


def _native(directory: Path, inside: str = "") -> dict[str, Path | bytes]:
    """The files of a native checkpoint by their path in the repository; empty where one is missing."""
    paths = [Path(inside, name) for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, IMAGE_PROCESSOR_NAME)]
    whole = all((directory / path).is_file() for path in paths)
    return {path.as_posix(): directory / path for path in paths} if whole else {}


def _card(directory: Path, shown: CardFacts | None) -> tuple[str | None, list[str]]:
    """The text of the card of ``shown``, and what to say of it; ``shown`` is None where there is no ``card.json``."""
    file = directory / CARD
    written = file.read_text(encoding="utf-8") if file.is_file() else None
    if written is None:
        if shown is not None:
            return str(model_card(shown)), []
        return None, [f"no card.json in {directory}, from which the card is rendered: there is no {CARD}"]
    as_it_is = f"{CARD} goes as it is"
    if PLACE in written:
        as_it_is += f", with {PLACE!r} where the name of the model belongs"
    if shown is None:
        return written, [f"no card.json in {directory}, from which the card is rendered: {as_it_is}"]
    kept = why_kept(written, directory)
    if kept is None:
        return str(model_card(shown)), []
    return written, [f"{as_it_is}: {kept}; remove it for a new one"]
