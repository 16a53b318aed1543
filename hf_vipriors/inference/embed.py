"""The features of images as parquet, for whoever has tools of their own.

    hf-vipriors embed --model outputs/teacher --data_dir photos --output features.parquet
    python -c "import pandas; print(pandas.read_parquet('features.parquet').vector[0].shape)"

Folders without classes are taken too; options that choose images (--images_per_class, ...) need class folders.
Each row has the image's path (of a data set without files its split and row), its split, its label where it has one,
and the pooled features of the backbone, before any projector or classifier, as float32.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from ..backbones import feature_dim
from ..cli import process
from ..cli.parser import Parser
from ..data.image_records import Records, Unreadable
from ..errors import InputError
from ..hub.teachers import Teacher, load_teacher
from ..machine import best_device, to_device
from ..options import check_options, option
from ..training import DataArguments
from ..training.stores import full_scale
from .any_layout import every_split
from .streaming import outputs_of
from .tables import check_output, write_table

logger = logging.getLogger(__name__)


@dataclass
class EmbedArguments:
    """What embeds, and where the features go."""

    model: str | None = option(None, "Teacher or student: a folder, or a name on the Hub (timm:NAME for timm's).")
    output: str = option("features.parquet", "Table to write.")
    batch_size: int = option(128, "Images at once.", low=1)
    device: str | None = option(None, "cpu, cuda, ...; None: the accelerator if there is one.")

    def __post_init__(self) -> None:
        if self.model is None:
            raise InputError("--model DIR is missing: whose features?")
        check_output(self.output, (".parquet",))
        check_options(self)
        self.device = self.device or best_device()


def embed(data: DataArguments, args: EmbedArguments) -> Counter:
    """Write the features of all splits and return how many images each had; unreadable ones are named in the log.

    Raises:
        InputError: on whatever cannot work; nothing is written then.
    """
    model = load_teacher(args.model, flag="model")
    to_device(model, args.device)
    model.config.full_scale = full_scale(model.config, data)
    splits = every_split(data)
    counts: Counter = Counter()

    def pooled(each: Teacher, images: torch.Tensor) -> torch.Tensor:
        return each.features(images)

    def rows() -> Iterator[dict[str, Any]]:
        for split, images in splits.distinct.items():
            records = Records(images, split)
            found_of = outputs_of(
                [model], records, pooled, batch_size=args.batch_size, device=args.device, any_depth=False
            )
            for row, found in found_of:
                if isinstance(found, Unreadable):
                    counts["unreadable"] += 1
                    logger.warning("%s; left out", records.complaint(row, found.reason))
                    continue
                counts[split] += 1
                label = int(records.labels[row])
                name = splits.class_names[label] if label >= 0 else None
                yield {"path": _path(images[row]), "split": split, "label": name, "vector": found[0].numpy()}

    vector = pa.list_(pa.float32(), feature_dim(model.backbone))
    kinds = {"path": pa.string(), "split": pa.string(), "label": pa.string(), "vector": vector}
    write_table(args.output, pa.schema(kinds), rows())
    return counts


def _path(image: dict[str, Any]) -> str:
    return image["image"]["path"] or image["origin"]


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors embed``."""

    def job() -> None:
        data, args = Parser([DataArguments, EmbedArguments], __doc__).parse(argv)
        counts = embed(data, args)
        words = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        logger.info("features in %s: %s", Path(args.output), words)

    process.run(job)


if __name__ == "__main__":
    main()
