"""The static Space of a student: a page on which the visitor's own browser runs the ONNX file, by transformers.js.

No machine runs it, and no image leaves the browser. ``page.js`` and ``preprocessing.js`` are those of
``templates/static_space`` as they stand; ``settings.json`` says which model, at which commit, and from where the
library comes. The model must be public: a page has no token.

The page resizes and crops by ``preprocessing.js`` and leaves the rest to transformers.js 4.3.2. Seen in Chromium on 68
images (1 x 1 to 5000 x 4000 pixels; gray, transparent, turned by EXIF, with colour profiles; PNG, JPEG, WebP, GIF and
BMP), with a student trained on Fashion-VIPriors at 48 x 48 pixels: no probability differed from that of ``pipeline()``
by more than 6e-7. With the preprocessing of transformers.js itself they differed by up to 0.04 on images of that data
set and up to 0.59 on fine textures. What Pillow knows and a browser does not (TIFF, gray of 16 bits) is refused in
words.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from markdown_it import MarkdownIt
from rich.filesize import decimal

from ..files import json_text, write_json
from .model_card import TEMPLATES, render
from .onnx_export import FLOAT_FILE, ONNX_FOLDER, check_onnx
from .repository_files import GENERATOR, PAGE, RepositoryFiles
from .space_parts import SpaceFacts

LIBRARY = "https://cdn.jsdelivr.net/npm/@huggingface/transformers@4.3.2/dist/transformers.min.js"
"""The version that the page was tested with; the page gets it, and what it needs in turn, from there alone."""
SETTINGS = "settings.json"
_SCRIPTS = ("page.js", "preprocessing.js")


def write_static(facts: SpaceFacts, folder: Path) -> None:
    """Fill a folder.

    Raises:
        InputError: no ONNX file of these very weights beside them, or an unreadable image.
    """
    check_onnx(facts.student_dir)
    size = (facts.student_dir / ONNX_FOLDER / FLOAT_FILE).stat().st_size
    description = facts.text("space_description.md.j2")
    for name in _SCRIPTS:
        shutil.copyfile(TEMPLATES / "static_space" / name, folder / name)
    page = render(
        "static_space/index.html.j2",
        title=facts.title,
        description=MarkdownIt("commonmark", {"html": False}).render(description),
        side=facts.model.config.image_size,
        size=decimal(size),
        licence=facts.licence,
        generator=GENERATOR,
    )
    (folder / PAGE).write_text(page + "\n", encoding="utf-8")
    examples = facts.write_examples(folder)
    settings = {"model": facts.repo_id, "revision": "main", "library": LIBRARY, "examples": examples}
    write_json(folder / SETTINGS, settings)
    body = render("static_space/readme.md.j2", description=description, examples=examples)
    facts.write_card(folder, body, sdk="static", app_file=PAGE)


def at_commit(files: RepositoryFiles, commit: str) -> RepositoryFiles:
    """The Space with the model as it is at ``commit``: a browser keeps what it once got under the name of a branch."""
    settings = json.loads(files.content(SETTINGS)) | {"revision": commit}
    return replace(files, files={**files.files, SETTINGS: json_text(settings).encode()})
