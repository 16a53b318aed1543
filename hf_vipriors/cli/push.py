"""Push a trained student or teacher to the Hub, with its card, recipe, curves and images to try; in one commit.

    python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --dry_run
    python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --private
    python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --baseline outputs/baseline
    python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --onnx --notebook
    python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --space me/my-flowers-demo
    python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --space me/demo --space_kind static

--dry_run prints the exact files and the card and sends nothing. Log in first: `hf auth login`, or set HF_TOKEN.
What others then write: `pipeline("image-classification", model="me/my-flowers")`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from rich.filesize import decimal
from rich.markdown import Markdown
from rich.table import Table

from ..errors import InputError
from ..hub.card_facts import read_facts
from ..hub.failures import as_input_error
from ..hub.repository_files import CARD, RepositoryFiles, check_repo_id, space_files
from ..hub.space import KINDS, NEIGHBOURS, write_space
from ..hub.static_space import at_commit
from ..hub.upload import upload
from ..options import check_options, option
from ..terminal import Console
from ..training.finished_run import baseline_rows, run_files
from ..training.images_of_run import ImagesOfRun
from . import process
from .parser import Parser

logger = logging.getLogger(__name__)


@dataclass
class PushArguments:
    """What to push, and where to."""

    model: str | None = option(None, "Folder of a trained student or teacher (the --output_dir of its training).")
    repo_id: str | None = option(None, "Where to: org/name. Made where it does not exist.")
    private: bool = option(False, "Make a new repository private.")
    revision: str | None = option(None, "Branch to push to; made where it does not exist. Not given: main.")
    message: str | None = option(None, "Message of the commit.")
    dry_run: bool = option(False, "Print the files and the card, send nothing.")
    license: str | None = option(None, "Licence of the weights, as the Hub calls it: apache-2.0, mit, cc-by-4.0, ...")
    baseline: str | None = option(None, "Folder of a supervised baseline: the card compares the student with it.")
    examples: int | None = option(
        None,
        "Publish so many test images for the widget to try. Not given: 3 of the embedded data set, none of yours.",
        low=0,
    )
    onnx: bool = option(False, "Write and check onnx/model.onnx (transformers.js), and push it too.")
    notebook: bool = option(
        False, "Push a notebook too that loads the student, predicts an image and draws the scores."
    )
    space: str | None = option(None, "Push a demo of the student too, as this Space (org/name).")
    space_kind: str = option(
        "gradio",
        "What the Space is. gradio: a program on the Hub, with nearest training images and a heat map. static: a page "
        "whose visitors' browsers run the ONNX file (so --onnx too), free to host; the model must be public.",
        choices=KINDS,
    )

    def __post_init__(self) -> None:
        if not self.model or not self.repo_id:
            missing = "--model DIR" if not self.model else "--repo_id org/name"
            raise InputError(f"{missing} is missing: what is to be pushed, and where to?")
        check_repo_id(self.repo_id)
        check_options(self)
        static = self.space_kind == "static"
        if self.space in KINDS:
            raise InputError(
                f"--space {self.space} is no name: write --space me/my-flowers-demo --space_kind {self.space}"
            )
        if self.space is not None:
            check_repo_id(self.space, "space")
        elif static:
            raise InputError("--space_kind static does nothing without --space: add the name of the Space (org/name)")
        if static and self.private:
            raise InputError(
                "--private: the visitors of a static Space cannot read a private model; leave one of the two out, or "
                "use --space_kind gradio"
            )
        self.onnx = self.onnx or static


def _changes(args: PushArguments, directory: Path) -> dict[str, Any]:
    """What the card gets beside what the training knew."""
    facts = read_facts(directory)
    changes: dict[str, Any] = {} if args.license is None else {"licence": args.license}
    if args.baseline is not None:
        if facts is None or facts.kind != "student":
            raise InputError(f"--baseline: {directory} is no student with a card.json, there is nothing to compare")
        row, sentence = baseline_rows(directory, Path(args.baseline))
        others = [each for each in facts.scores if each.role != "baseline"]
        changes |= {"scores": [*others, row], "verdict": [sentence]}
    return changes


def show(files: RepositoryFiles, console: Console) -> None:
    """The files and the card, as they would be pushed."""
    table = Table(title=f"{files.repo_id} ({files.kind})", title_justify="left", title_style="bold")
    table.add_column("file")
    table.add_column("size", justify="right")
    sizes = files.sizes()
    for path, size in sizes.items():
        table.add_row(path, decimal(size))
    table.add_section()
    table.add_row(f"{len(sizes)} files", decimal(sum(sizes.values())))
    console.print(table)
    if CARD in files.files:
        text = files.content(CARD).decode("utf-8")
        metadata, _, body = text.removeprefix("---\n").partition("\n---\n")
        console.rule("metadata of the card", align="left")
        console.print(metadata, highlight=False, markup=False)
        console.rule("card", align="left")
        console.print(Markdown(body))


def demo(args: PushArguments, images: ImagesOfRun, folder: Path) -> RepositoryFiles:
    """A Space for the student of ``args``, written to ``folder``.

    Raises:
        InputError: no ``run.json``, which tells where the training images lie, or no student.
    """
    splits = images.splits
    write_space(
        args.model,
        folder,
        repo_id=args.repo_id,
        data=splits,
        kind=args.space_kind,
        licence=args.license,
        on_bad_image=images.data.on_bad_image,
    )
    shown = ["some test images to try"] if {"test", "validation"} & splits.splits.keys() else []
    if args.space_kind == "gradio":
        shown.insert(0, f"small copies of {min(NEIGHBOURS, len(splits.splits['train']))} training images")
    if shown:
        logger.warning("%s will show %s: publish only what you may", args.space, ", and ".join(shown))
    return space_files(folder, args.space)


def push(args: PushArguments, console: Console, api: HfApi | None = None) -> None:
    """Gather, and print or send.

    Raises:
        InputError: on whatever cannot work.
    """
    directory = Path(args.model)
    images = ImagesOfRun(directory)
    repositories = [
        run_files(
            directory,
            args.repo_id,
            images=images,
            examples=args.examples,
            onnx=args.onnx,
            notebook=args.notebook,
            changes=_changes(args, directory),
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        if args.space is not None:
            repositories.append(demo(args, images, Path(folder) / "space"))
        commit = ""
        for each in repositories:  # the model's first
            for note in each.notes:
                logger.warning("%s", note)
            if args.dry_run:
                show(each, console)
                continue
            if each.kind == "space" and args.space_kind == "static":
                each = at_commit(each, commit)
                with as_input_error(f"cannot look at {args.repo_id} on the Hub"):
                    hidden = (api or HfApi()).repo_info(args.repo_id).private
                if hidden:
                    logger.warning(
                        "%s is private, the visitors of %s cannot read it: make it public in its settings",
                        *(args.repo_id, args.space),
                    )
            address = upload(each, private=args.private, revision=args.revision, message=args.message, api=api)
            commit = address.rpartition("/")[2]
            console.print(f"pushed {len(each.files)} files: {address}", soft_wrap=True, highlight=False)
    if args.dry_run:
        console.print("\n--dry_run: nothing was sent.")
    elif repositories[0].kind == "student":
        console.print(f'\n    pipeline("image-classification", model="{args.repo_id}")("image.png")', highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/push_to_hub.py``."""

    def job() -> None:
        (args,) = Parser([PushArguments], __doc__).parse(argv)
        push(args, Console(soft_wrap=False))

    process.run(job)


if __name__ == "__main__":
    main()
