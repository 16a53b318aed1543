"""Classify every image of a folder: class, confidence and what came next, as a table.

    hf-vipriors predict --model outputs/student --data_dir new_photos --output predictions.csv
    hf-vipriors predict --model outputs/student --data_dir new_photos --copy_into sorted
    hf-vipriors predict --model outputs/student_1 outputs/student_2 --data_dir new_photos --output both.parquet

Folders of any layout and any number of images; several models are averaged. A row has the image's path below the
folder, its class, the confidence (the probability of that class) and the margin (how far the next class is below it):
those with a small margin are worth a look. --copy_into sorts copies into a folder for each class; the originals stay.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.table import Table
from rich.text import Text

from ..cli import process
from ..cli.parser import Parser
from ..data.columns import class_name, match_classes, some
from ..data.image_folder import every_image
from ..data.image_records import Records, Unreadable
from ..errors import InputError
from ..files import check_new, file_names
from ..hub.teachers import Teacher, load_teacher
from ..hub.whole_folder import whole_folder
from ..machine import best_device, to_device
from ..models import VipriorsForImageClassification
from ..options import check_options, option
from ..terminal import Console
from .streaming import outputs_of
from .tables import check_output, write_table

logger = logging.getLogger(__name__)


@dataclass
class PredictArguments:
    """What classifies, what is classified, and where the classes go."""

    model: list[str] = field(
        default_factory=list, metadata={"help": "Classifiers: folders, or names on the Hub; several are averaged."}
    )
    data_dir: str | None = option(None, "Folder of images, in any layout.")
    output: str = option("predictions.csv", "Table to write: .csv, .jsonl or .parquet.")
    top_k: int = option(3, "How many classes a row names, the most probable first.", low=1)
    copy_into: str | None = option(None, "Copy every image into a folder of its class below this new folder.")
    batch_size: int = option(128, "Images at once.", low=1)
    device: str | None = option(None, "cpu, cuda, ...; None: the accelerator if there is one.")

    def __post_init__(self) -> None:
        if not self.model or self.data_dir is None:
            missing = "--model DIR" if not self.model else "--data_dir DIR"
            raise InputError(f"{missing} is missing: what classifies, and which images?")
        check_output(self.output)
        check_options(self)
        if self.copy_into is not None:
            check_new(self.copy_into, "copy_into")
            table, folder = (Path(place).expanduser().resolve() for place in (self.output, self.copy_into))
            if table.is_relative_to(folder) or folder.is_relative_to(table):
                raise InputError(
                    f"one of --output {self.output} and --copy_into {self.copy_into} lies in the other: choose "
                    "another place for one of them"
                )
        self.device = self.device or best_device()


def load_classifier(name: str, device: str) -> VipriorsForImageClassification:
    """A classifier from a folder or from the Hub, ready to be used.

    Raises:
        InputError: it cannot be loaded, or has no classifier.
    """
    model = load_teacher(name, flag="model")
    if not isinstance(model, VipriorsForImageClassification):
        raise InputError(f"{name} (--model) has no classifier: give a student, or `embed` its features")
    to_device(model, device)
    return model


def class_names(model: VipriorsForImageClassification) -> list[str]:
    """Of the outputs, in their order, as they are compared."""
    return list(map(class_name, model.config.class_names))


def predictions(
    models: dict[str, VipriorsForImageClassification],
    records: Records,
    *,
    top_k: int = 3,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The classes of some images, one after the other.

    Args:
        models: by name, of the same classes in any order; their probabilities are averaged.
        records: the images.
        top_k: classes named for each, the most probable first.
        batch_size, device: of a pass.

    Yields:
        (row number, ``class``, ``confidence``, ``margin``, ``class_2``, ``confidence_2``, ...); of an image that
        cannot be read ``error`` alone.

    Raises:
        InputError: the models know different classes.
    """
    names = class_names(next(iter(models.values())))
    orders = [_order(model, names, name) for name, model in models.items()]

    def probabilities(model: Teacher, images: torch.Tensor) -> torch.Tensor:
        return model(images).logits.float().softmax(dim=1)

    found = outputs_of(list(models.values()), records, probabilities, batch_size=batch_size, device=device)
    for row, each in found:
        if isinstance(each, Unreadable):
            yield row, {"error": each.reason}
            continue
        mean = torch.stack([values[order] for values, order in zip(each, orders, strict=True)]).mean(dim=0)
        values, numbers = mean.topk(min(max(2, top_k), len(names)))
        best = [(names[number], value) for value, number in zip(values.tolist(), numbers.tolist(), strict=True)]
        margin = best[0][1] - (best[1][1] if len(best) > 1 else 0.0)
        ranked = {f"{key}_{rank}": value for rank, pair in enumerate(best[1:top_k], 2) for key, value in _pair(*pair)}
        yield row, {**dict(_pair(*best[0])), "margin": round(margin, 6), **ranked}


def _order(model: VipriorsForImageClassification, names: list[str], name: str) -> list[int]:
    """Which output of the model is which class."""
    problem = f"{name} (--model) knows other classes than the first model"
    return match_classes(class_names(model), names, problem, "average those of one task")


def _pair(name: str, value: float) -> list[tuple[str, Any]]:
    return [("class", name), ("confidence", round(value, 6))]


def schema_of(top_k: int, classes: int) -> pa.Schema:
    """The columns of a table of predictions."""
    more = [(f"{key}_{rank}", kind) for rank in range(2, min(top_k, classes) + 1) for key, kind in _KINDS]
    return pa.schema([("path", pa.string()), *_KINDS, ("margin", pa.float64()), *more, ("error", pa.string())])


_KINDS = [("class", pa.string()), ("confidence", pa.float64())]


def predict(args: PredictArguments) -> Counter:
    """Classify a folder, write the table and, where asked for, the sorted copies; returns the images of each class.

    Raises:
        InputError: on whatever cannot work; nothing is written then.
    """
    models = {name: load_classifier(name, args.device) for name in args.model}
    root = Path(args.data_dir)
    images = every_image(root)
    records, paths = Records(images, "new"), [record["path"] for record in images["image"]]
    counts: Counter = Counter()
    folders = file_names(class_names(next(iter(models.values()))))
    if args.copy_into is not None and (
        renamed := {name: folder for name, folder in folders.items() if name != folder}
    ):
        logger.info("no folder can be called %s: it is called %s", some(renamed, 5), some(renamed.values(), 5))
    sorting = nullcontext() if args.copy_into is None else whole_folder(args.copy_into)
    with sorting as sorted_into:

        def rows() -> Iterator[dict[str, Any]]:
            for row, found in predictions(
                models, records, top_k=args.top_k, batch_size=args.batch_size, device=args.device
            ):
                inside = os.path.relpath(paths[row], root)
                counts[found.get("class")] += 1
                if sorted_into is not None and "class" in found:
                    _copy(paths[row], sorted_into / folders[found["class"]] / inside)
                yield {"path": Path(inside).as_posix(), **found}

        write_table(args.output, schema_of(args.top_k, len(folders)), rows())
    return counts


def _copy(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def show(counts: Counter, console: Console) -> None:
    """How many images each class got, on stdout."""
    table = Table()
    table.add_column("class")
    table.add_column("images", justify="right")
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        if name is not None:
            table.add_row(Text(name), f"{count:,}")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors predict``."""

    def job() -> None:
        (args,) = Parser([PredictArguments], __doc__).parse(argv)
        counts = predict(args)
        show(counts, Console())
        if counts[None]:
            logger.warning("cannot be read: %d of the images; the column error says why", counts[None])
        logger.info("%d images: %s", sum(counts.values()), args.output)
        if args.copy_into is not None:
            logger.info("copies, sorted: %s", args.copy_into)

    process.run(job)


if __name__ == "__main__":
    main()
