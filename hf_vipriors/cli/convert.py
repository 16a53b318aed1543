"""Convert a published self-supervised ResNet (MoCo v1 and v2, SimCLR in PyTorch, SwAV) into a teacher folder.

    hf-vipriors import --checkpoint moco_v2_800ep.pth.tar --output_dir outputs/moco_v2

Every --teacher option takes the file itself, too; the folder loads faster and needs no pickle.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import check_new
from ..hub.import_checkpoint import import_checkpoint
from ..hub.whole_folder import whole_folder
from ..options import check_options, option
from . import process
from .parser import Parser

logger = logging.getLogger(__name__)


@dataclass
class ImportArguments:
    """What to convert, and where to."""

    checkpoint: str | None = option(None, "Published file: *.pth.tar, *.pth or *.pt.")
    output_dir: str | None = option(None, "Folder to write; it must not exist yet.")
    image_size: int | None = option(None, "Side of the images it is meant for; None: what it was trained on.", low=1)

    def __post_init__(self) -> None:
        if self.checkpoint is None or self.output_dir is None:
            raise InputError("--checkpoint FILE and --output_dir DIR are needed: what to convert, and where to")
        check_options(self)


def convert(args: ImportArguments) -> Path:
    """Write the teacher folder, whole or not at all, and return its path.

    Raises:
        InputError: the folder exists, or the file cannot be converted.
    """
    check_new(args.output_dir, "output_dir")
    directory = Path(args.output_dir)
    model = import_checkpoint(args.checkpoint, image_size=args.image_size)
    with whole_folder(directory) as folder:
        model.save_pretrained(folder)
    logger.info("teacher saved to %s: use it with --teacher %s", directory, directory)
    return directory


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``-m hf_vipriors.cli.convert``."""

    def job() -> None:
        (args,) = Parser([ImportArguments], __doc__).parse(argv)
        convert(args)

    process.run(job)


if __name__ == "__main__":
    main()
