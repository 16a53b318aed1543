"""Run a whole table, several seeds of every run in it, as one job that can be stopped and started again.

    python scripts/reproduce.py --table relatives                  every run of scripts/recipes/tables/relatives.yaml
    python scripts/reproduce.py --table chain --length 0.1         a tenth of the epochs, to see whether it works
    python scripts/reproduce.py --table chain --dataset photos     the same on your own images (train/CLASS/*.jpg)
    python scripts/reproduce.py --render                           every measured table into README.md and the cards

A table is a YAML file: runs (a job, a recipe, options) that may use each other's results, and groups of rows, each
compared with its own baseline. A finished run is never run again; one that was made with other settings is refused.
OUTPUT_DIR gets results.json, .md and .csv, report.html and plots/*.png. All but the first are drawn from it, and drawn
again by --results FILE --output_dir DIR without any run. Files there that are not of this table are never overwritten.
(--help lists the options)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from ..cli import process
from ..cli.parser import Parser
from ..errors import InputError
from ..files import check_can_write, read_json, write_file, write_json
from ..options import SEED, check_options, option
from ..reports.figure_files import to_png
from ..reports.page import Section
from ..reports.table_figures import all_figures
from ..shipped import recipes
from ..terminal import Console
from .side_by_side import AT_ONCE
from .table_files import check_marks, draw, made_otherwise, read_results, render, results_csv, results_markdown
from .table_jobs import JOBS
from .table_report import run_sections, table_page
from .table_request import TableRequest
from .table_results import results
from .table_runs import Reproduction
from .tables import read_table

RESULTS, PARTIAL = "results", "results-partial"


@dataclass
class ReproduceArguments:
    """Which table, and how much of it."""

    table: str = option("relatives", "Name of a table that ships with the package, or a YAML file.")
    output_dir: str | None = option(None, "Where the runs and the results go; not given: outputs/tables/NAME.")
    dataset: str | None = option(
        None, "Another data set for every run: a folder with train/CLASS/*.jpg, or any --dataset_name."
    )
    runs: list[str] = field(
        default_factory=list,
        metadata={"help": "Only these runs, what they use, and the rows they fill; all if not given."},
    )
    seeds: list[int] = option([0, 1, 2], "Seeds of every run.", bounds=SEED)
    length: float = option(
        1.0, "Multiply all epochs by this, and max_steps where a run counts steps.", low=0, open_low=True
    )
    trials: int | None = option(
        None, "Trials of every run that searches its settings; not given: as the table says.", low=1
    )
    at_once: int | None = option(None, AT_ONCE, low=1)
    draw: list[str] = field(
        default_factory=list,
        metadata={"help": "Files between whose '<!-- NAME -->' marks the tables are drawn, e.g. README.md."},
    )
    results: str | None = option(None, "Draw from this results.json instead of running anything.")
    render: bool = option(False, "Draw all of model_cards/results/*.json into README.md and model_cards/*.md.")
    recipes: str | None = option(None, "Folder of the recipes; not given: those that ship with the package.")

    def __post_init__(self) -> None:
        check_options(self)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds must be given, each once, got {self.seeds}")

    def folder(self, table: str) -> Path:
        """Where a table's runs go; those on another data set have a place of their own."""
        of = "" if self.dataset is None else f"-{Path(self.dataset).name}"
        return Path(self.output_dir or Path("outputs") / "tables" / f"{table}{of}")

    def request(self, table: str) -> TableRequest:
        folder, recipes = self.folder(table), Path(self.recipes)
        return TableRequest(folder, recipes, self.seeds, self.length, self.dataset, self.trials)


def is_part(args: ReproduceArguments, folder: Path) -> bool:
    """Whether this is less than what results.json holds or is to hold: that stays as it is."""
    whole = folder / f"{RESULTS}.json"
    return bool(args.runs) or (whole.is_file() and not set(read_json(whole)["seeds"]) <= set(args.seeds))


def check_own(folder: Path, table: str, names: Sequence[str]) -> None:
    """Refuse to draw over files that are not of this table: nobody could have them back.

    Args:
        folder: where the files go.
        table: name of the table.
        names: of its results; the JSON of each is the first of its files to be written.

    Raises:
        InputError: naming the file that would be lost.
    """
    for name in names:
        kept = folder / f"{name}.json"
        if not kept.exists():
            foreign = next((path for path in drawn_files(folder, name) if path.exists()), None)
        else:
            foreign = None if _table_of(kept) == table else kept
        if foreign is not None:
            raise InputError(
                f"--output_dir {folder}: {foreign.name} there is not known to be of table {table}, and would be "
                "overwritten: choose another --output_dir"
            )


def _table_of(path: Path) -> str | None:
    """The table whose results a file holds, if it holds any."""
    try:
        return read_results(path)["table"]
    except InputError:
        return None


def reproduce(args: ReproduceArguments, console: Console) -> None:
    """Run what is not finished, then write the results; see :func:`main` for the command."""
    table = read_table(args.table, Path(args.recipes) / "tables", list(JOBS))
    table = table.only(args.runs) if args.runs else table
    check_marks(table.name, args.draw)
    reproduction = Reproduction(table, args.request(table.name))
    folder = reproduction.folder
    check_can_write(folder, "output_dir")
    check_own(folder, table.name, (RESULTS, PARTIAL))
    part = is_part(args, folder)
    if args.draw and part:
        raise InputError("--draw takes a whole table: leave --runs out, and give all --seeds that were run")
    reproduction.run(console, args.at_once)
    found = results(table, args.seeds, reproduction.folder_of)
    if args.dataset is not None:
        found["title"] += f", on {Path(args.dataset).name}"
    # Where they are not the table's own, every reader is told.
    found |= {} if args.length == 1 else {"length": args.length}
    found |= {} if args.dataset is None else {"dataset": args.dataset}
    name = PARTIAL if part else RESULTS
    # The numbers come first and the images last: should drawing fail after hours of training, they are on disk.
    write_json(folder / f"{name}.json", found)
    write_drawn(found, folder, name, run_sections(table, found, args.seeds[0], reproduction.folder_of))
    console.print(
        f"{len(reproduction.cells)} runs: {folder / name}.md, .json, .csv; report.html and plots beside them"
    )
    for line in made_otherwise(found):
        console.print(line)
    if args.draw:
        draw(found["table"], results_markdown(found), args.draw)


def redraw(args: ReproduceArguments) -> None:
    """Everything that is drawn, from an earlier run's figures alone."""
    if not args.draw and args.output_dir is None:
        raise InputError("--results: say where it is to be drawn, with --output_dir DIR or --draw FILE")
    if args.output_dir is not None:
        check_can_write(args.output_dir, "output_dir")
    found = read_results(args.results)
    name = Path(args.results).stem
    if args.output_dir is not None:
        check_own(Path(args.output_dir), found["table"], [name])
        kept = Path(args.output_dir) / f"{name}.json"  # it tells whose the other files are
        if kept.exists() and read_json(kept) != read_json(Path(args.results)):
            raise InputError(f"--output_dir: {kept} holds other figures of the table: choose another --output_dir")
    check_marks(found["table"], args.draw)
    if args.output_dir is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            write_json(kept, read_json(Path(args.results)))
        write_drawn(found, kept.parent, name, [])
    if args.draw:
        draw(found["table"], results_markdown(found), args.draw)


def drawn_files(folder: Path, name: str) -> tuple[Path, Path, Path, Path]:
    """NAME.md, NAME.csv, the folder of the plots and report.html."""
    part = "-partial" if name == PARTIAL else ""
    return folder / f"{name}.md", folder / f"{name}.csv", folder / f"plots{part}", folder / f"report{part}.html"


def write_drawn(found: dict[str, Any], folder: Path, name: str, images: list[Section]) -> None:
    """The files of :func:`drawn_files`, of what results.json holds."""
    text, lines, plots, page = drawn_files(folder, name)
    write_file(text, results_markdown(found, verdict=True))
    write_file(lines, results_csv(found))
    plots.mkdir(exist_ok=True)
    for plot, figure in all_figures(found).items():
        write_file(plots / f"{plot}.png", to_png(figure))
    write_file(page, table_page(found, images))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/reproduce.py`` and of ``-m hf_vipriors.experiments.reproduce``."""

    def job() -> None:
        (args,) = Parser([ReproduceArguments], __doc__).parse(argv)
        args.recipes = args.recipes or str(recipes())
        console = Console()
        if args.render:
            # The recipes lie in the project's scripts.
            for name, page in render(Path(args.recipes).parent.parent):
                console.print(f"{name}: {page}")
        elif args.results:
            redraw(args)
        else:
            transformers_logging.disable_progress_bar()
            reproduce(args, console)

    process.run(job, resume=[])  # what is finished is not run again


if __name__ == "__main__":
    main()
