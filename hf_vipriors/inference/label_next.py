"""Which images to label next, as a table and as a page to label them on, with keys, in a browser.

    hf-vipriors label-next --model outputs/student --data_dir photos/unlabelled --count 50
    hf-vipriors label-next --model outputs/teacher --data_dir photos --count 100 --clusters 20

The images that the student is least sure of, no two of a kind. Where nothing is labelled yet, a teacher, which knows
no classes, chooses the most typical image of each of --count clusters: with few labels that is worth several points
over labels drawn at random (model_cards/RESULTS.md). What looks alike stands together: type a class for the first, and
Enter gives it to the next. next.html shows the choice, exports labels.csv, and needs nothing but a browser: nothing
is sent anywhere.
Train on them with --data_dir photos --labels labels.csv: its rows come on top of the class folders in photos, and
images that neither labels are unlabelled. --validation_share 0 learns from all labels, where a fifth is set apart to
measure on without it. Files in a folder that is called unlabelled are named from the folder above.
With --labels labels.csv the next choice is among the other images, and what its page exports holds the old rows too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from ..cli import process
from ..cli.parser import Parser
from ..data import decode
from ..data.columns import HIDDEN
from ..data.folder_labels import class_folders, in_class_folders
from ..data.image_folder import every_image, labelled_by
from ..data.image_records import Records, Unreadable
from ..data.label_table import LabelledFiles, split_of_path
from ..data.split_names import canonical_split
from ..errors import InputError
from ..evaluation.choosing import choose, in_groups, most_typical
from ..files import write_file
from ..hub.teachers import Teacher, load_teacher
from ..invocation import command
from ..machine import best_device, to_device
from ..models import VipriorsForImageClassification
from ..options import SEED, check_options, option
from ..reports.page import render
from ..reports.report_page import data_uri
from .predict import class_names
from .streaming import outputs_of
from .tables import check_output, write_table

logger = logging.getLogger(__name__)
GROUPS = 10
_SIDE = 240  # pixels of an image on the page
_CLUSTERED = (
    "Each image is the most typical one of many that look alike to the model, and what looks alike stands together. "
    "Type a class for the first; Enter gives it to the next."
)


@dataclass
class LabelNextArguments:
    """What is unsure, of which images, and where the choice goes."""

    model: str | None = option(None, "Student or teacher: a folder, or a name on the Hub.")
    data_dir: str | None = option(
        None,
        "Folder of images without labels, in any layout; those in class folders of a split (test/CLASS/) are not "
        "chosen.",
    )
    labels: str | None = option(
        None,
        "Table of earlier labels, as --labels of a training: its images are not chosen again, and the labels.csv that "
        "the page exports holds its rows too.",
    )
    count: int = option(50, "How many images to choose.", low=1)
    clusters: int | None = option(
        None,
        "Of a teacher: groups in which the page shows the --count images, to name many at once. Not given: 10.",
        low=1,
    )
    output: str = option("next.csv", "Table of the choice: .csv, .jsonl or .parquet. The page lies beside it.")
    classes: list[str] = option([], "Classes to choose from on the page, where the model knows none, or others too.")
    seed: int = option(0, "Another seed, another choice among images that are alike.", bounds=SEED)
    batch_size: int = option(128, "Images at once.", low=1)
    device: str | None = option(None, "cpu, cuda, ...; None: the accelerator if there is one.")

    def __post_init__(self) -> None:
        if self.model is None or self.data_dir is None:
            missing = "--model DIR" if self.model is None else "--data_dir DIR"
            raise InputError(f"{missing} is missing: who chooses, and among which images?")
        check_output(self.output)
        if self.page.exists():
            raise InputError(f"{self.page}, the page beside --output, exists: choose another name")
        check_options(self)
        self.device = self.device or best_device()

    @property
    def page(self) -> Path:
        return Path(self.output).with_suffix(".html")


@dataclass(frozen=True)
class Looks:
    """What a model sees in the images that can be read: features (N, D), and probabilities (N, K) or None."""

    rows: list[int]
    features: torch.Tensor
    probabilities: torch.Tensor | None
    unreadable: int


def look(model: Teacher, records: Records, *, batch_size: int = 128, device: torch.device | str = "cpu") -> Looks:
    """One pass over the images.

    Raises:
        InputError: none can be read.
    """
    classifies = isinstance(model, VipriorsForImageClassification)

    def both(each: Teacher, images: torch.Tensor) -> torch.Tensor:
        features = each.features(images)
        return torch.cat([features, each(images).logits.softmax(dim=1)], dim=1) if classifies else features

    found = list(outputs_of([model], records, both, batch_size=batch_size, device=device))
    good = [(row, values[0]) for row, values in found if not isinstance(values, Unreadable)]
    if not good:
        first = next(values.reason for _, values in found if isinstance(values, Unreadable))
        raise InputError(f"none of the {len(records)} images can be read, the first since {first}: check --data_dir")
    values = torch.stack([each for _, each in good])
    classes = model.config.num_labels if classifies else 0
    width = values.shape[1] - classes
    probabilities = values[:, width:] if classifies else None
    return Looks([row for row, _ in good], values[:, :width], probabilities, len(found) - len(good))


def label_next(args: LabelNextArguments) -> int:
    """Choose, and write table and page; returns how many were chosen.

    Raises:
        InputError: on whatever cannot work.
    """
    model = load_teacher(args.model, flag="model")
    if args.clusters is not None and isinstance(model, VipriorsForImageClassification):
        raise InputError(f"--clusters is for a model without classes, and {args.model} knows some: leave it out")
    to_device(model, args.device)
    root = Path(os.path.abspath(args.data_dir))
    images = every_image(root)
    if canonical_split(root.name) == "unlabelled":  # the table is for the folder with the labelled images
        root = root.parent
    names = class_names(model) if isinstance(model, VipriorsForImageClassification) else []
    earlier = LabelledFiles({}, [], [])
    folders = class_folders(root)
    _check_names(names, folders, args)
    if args.labels is not None:
        earlier = labelled_by(args.labels, images, root, {*names, *folders, *args.classes})
    whole = root == Path(os.path.abspath(args.data_dir))  # the pool alone holds no class folders
    images = _left(images, earlier, in_class_folders(root, earlier) if whole else set(), args)
    looks = look(model, Records(images, "unlabelled"), batch_size=args.batch_size, device=args.device)
    if looks.unreadable:
        logger.warning("cannot be read: %d of the images; %s lists them", looks.unreadable, command("predict"))
    clusters, sizes = {}, []
    if names:
        chosen = choose(looks.features, looks.probabilities, args.count, seed=args.seed)
    else:
        typical = most_typical(looks.features, args.count, seed=args.seed)
        found = in_groups(looks.features, *typical, args.clusters or GROUPS)
        clusters = {int(at): {"cluster": number} for number, (each, _) in enumerate(found) for at in each}
        chosen, sizes = np.array(list(clusters)), [size for _, size in found]
    rows = [_row(images, looks, int(at), names, root) | clusters.get(int(at), {}) for at in chosen]
    kinds = {"file_name": pa.string(), "suggested": pa.string(), "confidence": pa.float64(), "margin": pa.float64()}
    kinds |= {"cluster": pa.int64()} if clusters else {}
    known = list(dict.fromkeys([*names, *earlier.names, *args.classes]))
    scale, before = model.config.full_scale, _exported(earlier, root)
    hidden = [each for each in HIDDEN if each not in folders]
    page = labelling_page(known, images, looks, chosen, rows, scale, sizes=sizes, before=before, hidden=hidden)
    write_table(args.output, pa.schema(kinds), rows)
    write_file(args.page, page)
    return len(rows)


def _check_names(names: Sequence[str], folders: Collection[str], args: LabelNextArguments) -> None:
    """Tell of classes of the model that a table would read as missing, and refuse such new ones."""
    for name in names:
        if name.lower() in HIDDEN and name not in folders:
            logger.warning("class %r reads as a missing label in a table, unless its folder lies beside it", name)
    for name in args.classes:
        if name.lower() in HIDDEN and name not in {*names, *folders}:
            raise InputError(f"--classes {name!r}: in a table this is a missing label: choose another name")


def _left(images: Dataset, earlier: LabelledFiles, labelled: Collection[str], args: LabelNextArguments) -> Dataset:
    """The images that neither a row nor a class folder of a split labels."""
    paths = [image["path"] for image in images["image"]]
    left = [at for at, path in enumerate(paths) if path not in earlier.rows and path not in labelled]
    if not left:
        told = f"--labels {args.labels} and class folders label" if args.labels else "class folders of splits label"
        raise InputError(f"{told} every image in {args.data_dir}: there is none left to choose")
    if len(left) < len(images):
        logger.info(
            "%d of the images have a label already (%d by class folders), %d are to choose from",
            *(len(images) - len(left), len(set(paths) & set(labelled) - earlier.rows.keys()), len(left)),
        )
    return images.select(left)


def _exported(earlier: LabelledFiles, root: Path) -> list[dict[str, Any]]:
    """The rows that the page exports beside those of its own images; with splits where folders do not tell them."""
    told = all(given.split == split_of_path(path, root) for path, given in earlier.rows.items())
    return [
        {"file": _name(path, root), "label": earlier.names[given.code], "split": None if told else given.split}
        for path, given in earlier.rows.items()
    ]


def _name(path: str, root: Path) -> str:
    """How tables name a file."""
    return Path(os.path.relpath(path, root)).as_posix()


def _row(images: Dataset, looks: Looks, at: int, names: list[str], root: Path) -> dict[str, Any]:
    path = images[looks.rows[at]]["image"]["path"]
    row = {"file_name": _name(path, root), "split": split_of_path(path, root)}  # the page's, not the table's
    if looks.probabilities is None:
        return row
    values, numbers = looks.probabilities[at].topk(min(2, len(names)))
    margin = float(values[0] - values[1]) if len(values) > 1 else 1.0
    confidence = round(float(values[0]), 6)
    return row | {
        "suggested": names[int(numbers[0])],
        "confidence": confidence,
        "margin": round(margin, 6),
    }


def labelling_page(
    names: Sequence[str], images: Dataset, looks: Looks, chosen: np.ndarray, rows: Sequence[dict[str, Any]],
    full_scale: float | None = None, *, sizes: Sequence[int] = (), before: Sequence[dict[str, Any]] = (),
    hidden: Sequence[str] = HIDDEN,
) -> str:  # fmt: skip
    """The images with keys for their classes; what is labelled is exported as CSV (file_name, label).

    ``sizes`` are those of the clusters that ``rows`` name, where they do; ``before`` are labels of other images, which
    are exported too; what is in ``hidden`` is no name for a class.
    """
    shown: list[dict[str, Any]] = []
    for at, row in zip(chosen, rows, strict=True):
        pixels = np.asarray(decode(images[looks.rows[int(at)]]["image"], full_scale))
        given = {name: row.get(name) for name in ("split", "suggested", "cluster")}
        shown.append({"file": row["file_name"], "src": data_uri(pixels, _SIDE), **given})
    subtitle = _CLUSTERED if sizes else "The least certain first, no two of a kind."
    data = {
        "classes": list(names),
        "images": shown,
        "sizes": list(sizes),
        "before": list(before),
        "hidden": list(hidden),
    }
    return render("label.html.j2", title="Which images to label next", subtitle=subtitle, data=data)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors label-next``."""

    def job() -> None:
        (args,) = Parser([LabelNextArguments], __doc__).parse(argv)
        count = label_next(args)
        logger.info("%d images to label: open %s in a browser; the same as a table: %s", count, args.page, args.output)

    process.run(job)


if __name__ == "__main__":
    main()
