"""Run a whole table, several seeds of every run in it, as one job that can be stopped and started again.

    python scripts/reproduce.py --table relatives                  every run of scripts/recipes/tables/relatives.yaml
    python scripts/reproduce.py --table chain --length 0.1         a tenth of the epochs, to see whether it works

A table is a YAML file: runs (a job, a recipe, options) that may use each other's results, and groups of rows, each
compared with its own baseline. A finished run is never run again; one that was made with other settings is refused.
The figures go to OUTPUT_DIR/results.json, the tables to OUTPUT_DIR/results.md. (--help lists the options)
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils import logging as transformers_logging

from ..errors import InputError, check_range, nearest
from ..training import DataArguments, PretrainArguments, StudentArguments, TeacherArguments
from ..training.arguments import option
from . import cli, wiring
from .pretrain_student import pretrain_student
from .tables import Table, TableRun, read_table, results, results_markdown
from .train_student import train_student
from .train_teacher import train_teacher

# Job -> its arguments and what runs it.
JOBS: dict[str, tuple[type, Callable]] = {
    "train_teacher": (TeacherArguments, train_teacher),
    "pretrain_student": (PretrainArguments, pretrain_student),
    "train_student": (StudentArguments, train_student),
}
# Of no influence on what is measured.
NOT_COMPARED = {
    "output_dir", "overwrite_output_dir", "run_name", "logging_dir", "disable_tqdm", "report_to", "do_eval",
    "dataloader_num_workers", "eval_strategy", "eval_steps", "save_strategy", "save_steps", "logging_steps",
    "dataloader_drop_last",
}  # fmt: skip
RESULTS, PARTIAL = "results", "results-partial"
# In a run's folder: digests of the runs it used.
USES_FILE = "uses.json"
# Filled in while a run starts, where they were not given.
SETTLED = ("learning_rate", "base_learning_rate")


@dataclass
class ReproduceArguments:
    """Which table, and how much of it."""

    table: str = option("relatives", "Name of a table in scripts/recipes/tables, or a YAML file.")
    output_dir: str | None = option(None, "Where the runs and the results go; not given: outputs/tables/NAME.")
    runs: list[str] = field(
        default_factory=list,
        metadata={"help": "Only these runs, what they use, and the rows they fill; all if not given."},
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of every run."})
    length: float = option(1.0, "Multiply all epochs by this.")
    draw: list[str] = field(
        default_factory=list,
        metadata={"help": "Files between whose '<!-- NAME -->' marks the tables are drawn, e.g. README.md."},
    )
    results: str | None = option(None, "Draw from this results.json instead of running anything.")
    recipes: str | None = option(None, "Folder of the recipes; not given: scripts/recipes.")

    def __post_init__(self) -> None:
        check_range(self.length, "length", 0, open_low=True)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds must be given, each once, got {self.seeds}")


class Reproduction:
    """The runs of one table: one folder a run and seed."""

    def __init__(self, table: Table, args: ReproduceArguments, console: Console):
        self.table, self.args, self.console = table, args, console
        self.folder = Path(args.output_dir or Path("outputs") / "tables" / table.name)
        self.cells = [(seed, run) for seed in args.seeds for run in table.runs]
        # Every option of every run is read before the first one starts.
        self.settings = {(seed, run.name): self._settings(seed, run) for seed, run in self.cells}
        self._check_scores()

    def folder_of(self, seed: int, name: str) -> Path:
        return self.folder / f"seed{seed}" / name

    def _settings(self, seed: int, run: TableRun) -> tuple[DataArguments, Any]:
        kind, _ = JOBS[run.job]
        parser = cli.Parser([DataArguments, kind], "")
        command = parser.recipe_arguments(str(Path(self.args.recipes) / run.recipe)) if run.recipe else []
        folders = {name: str(self.folder_of(seed, name)) for name in run.uses}
        command += parser.mapping_arguments(run.options_with(folders), f"{self.table.name}: {run.name}")
        command += ["--seed", str(seed), "--output_dir", str(self.folder_of(seed, run.name)), "--save_strategy", "no"]
        try:
            data, settings = parser.parse(command)
        except InputError as error:
            raise InputError(f"{self.table.name}: {run.name}: {error}") from None
        if self.args.length != 1:
            scale_epochs(settings, self.args.length)
        return data, settings

    def _check_scores(self) -> None:
        for row in (row for group in self.table.groups for row in group["rows"]):
            _, settings = self.settings[self.args.seeds[0], row["run"]]
            known = scores_of(settings)
            if row["score"] not in known:
                raise InputError(
                    f"table {self.table.name}: row {row['name']!r} has the score {row['score']!r}: "
                    f"{nearest(str(row['score']), known)}"
                )

    def finished(self, seed: int, run: TableRun) -> bool:
        """Whether its figures lie there.

        Raises:
            InputError: they were made with other settings.
        """
        folder = self.folder_of(seed, run.name)
        if not all((folder / name).is_file() for name in ("metrics.json", wiring.RUN_FILE)):
            return False
        made = wiring.read_json(folder / wiring.RUN_FILE)
        data, settings = self.settings[seed, run.name]
        wanted = json.loads(json.dumps({**vars(data), **settings.to_dict()}, default=str))
        had = {**made["data"], **made["arguments"]}
        settled = {name for name in SETTLED if wanted[name] is None}
        if settings.batch_is_automatic:
            settled.add("per_device_train_batch_size")
        compared = (wanted.keys() & had.keys()) - NOT_COMPARED - settled
        other = [name for name in compared if not self._same(wanted[name], had[name])]
        if other:
            name = min(other)
            raise InputError(
                f"{folder} was run with {name} {had[name]}, the table has {wanted[name]}: remove the folder to run it "
                "again, or choose another --output_dir"
            )
        self._check_uses(seed, run)
        return True

    def _digests(self, seed: int, run: TableRun) -> dict[str, str]:
        """What the runs that ``run`` uses are now."""
        files = {name: self.folder_of(seed, name) / "model.safetensors" for name in run.uses}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.is_file()}

    def _check_uses(self, seed: int, run: TableRun) -> None:
        """A run that used another run which has been made again since is no longer of this table."""
        folder = self.folder_of(seed, run.name)
        if not (folder / USES_FILE).is_file():
            return
        now, then = self._digests(seed, run), wiring.read_json(folder / USES_FILE)
        for name in run.uses:
            if now.get(name) != then.get(name):
                raise InputError(
                    f"{folder} was made from another {name} than lies there now: remove it to run it again, or choose "
                    "another --output_dir"
                )

    def _same(self, wanted: Any, had: Any) -> bool:
        """Equal, or the same run of this table, wherever its folder lay and however it was written."""
        if isinstance(wanted, str) and isinstance(had, str) and Path(wanted).is_relative_to(self.folder):
            tail = Path(wanted).relative_to(self.folder).parts
            return Path(had).parts[-len(tail) :] == tail
        return wanted == had

    def run(self) -> None:
        waiting = [(seed, run) for seed, run in self.cells if not self.finished(seed, run)]
        done, spent = len(self.cells) - len(waiting), 0.0
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, (seed, run) in enumerate(waiting):
            left = f", about {spent / number * (len(waiting) - number) / 60:.0f} minutes left" if number else ""
            self.console.rule(f"[bold]{done + number + 1} of {len(self.cells)}[/]  {run.name}, seed {seed}{left}")
            start = time.perf_counter()
            data, settings = self.settings[seed, run.name]
            # What a killed run left behind is a start and no result.
            settings.overwrite_output_dir = (self.folder_of(seed, run.name) / wiring.RUN_FILE).is_file()
            JOBS[run.job][1](data, settings)
            wiring.write_json(self.folder_of(seed, run.name) / USES_FILE, self._digests(seed, run))
            spent += time.perf_counter() - start
        found = results(self.table, self.args.seeds, self.folder_of)
        name = PARTIAL if self.is_part() else RESULTS
        wiring.write_json(self.folder / f"{name}.json", found)
        (self.folder / f"{name}.md").write_text(results_markdown(found, verdict=True), encoding="utf-8")
        self.console.print(f"{len(self.cells)} runs: {self.folder / name}.md, {self.folder / name}.json")

    def is_part(self) -> bool:
        """Whether this is less than what results.json holds or is to hold: that stays as it is."""
        whole = self.folder / f"{RESULTS}.json"
        return bool(self.args.runs) or (
            whole.is_file() and not set(wiring.read_json(whole)["seeds"]) <= set(self.args.seeds)
        )


def scale_epochs(settings: TeacherArguments | StudentArguments, length: float) -> None:
    """Multiply the epochs of a run, and those at which something happens in it."""
    settings.num_train_epochs = max(1.0, round(settings.num_train_epochs * length))
    settings.lr_milestones = [epoch * length for epoch in settings.lr_milestones]
    if isinstance(settings, StudentArguments):
        settings.head_epochs = max(1.0, round(settings.head_epochs * length))
        settings.distil_from_epoch *= length


def scores_of(settings: TeacherArguments | StudentArguments) -> tuple[str, ...]:
    """Names of the scores in ``metrics.json`` of such a run."""
    if isinstance(settings, StudentArguments):
        return ("test",)
    peer = ("peer.knn", "peer.linear") if settings.method == "dogo" else ()
    return ("knn", "linear", *peer)


def marks(table: str, files: Sequence[str]) -> tuple[str, str]:
    """The two lines between which a table is drawn.

    Raises:
        InputError: a file without them.
    """
    first, last = f"<!-- {table} -->", f"<!-- /{table} -->"
    for name in files:
        text = Path(name).read_text(encoding="utf-8") if Path(name).is_file() else ""
        if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
            raise InputError(f"--draw {name}: it needs one line {first} and, below it, one line {last}")
    return first, last


def draw(found: dict[str, Any], files: Sequence[str]) -> None:
    """Replace what stands between the table's marks in each file.

    Raises:
        InputError: a file without the marks; then none is touched.
    """
    first, last = marks(found["table"], files)
    for name in files:
        text = Path(name).read_text(encoding="utf-8")
        head, tail = text.split(first)[0], text.split(last)[1]
        Path(name).write_text(f"{head}{first}\n{results_markdown(found)}{last}{tail}", encoding="utf-8")


def read_results(path: str) -> dict[str, Any]:
    """The figures of an earlier run.

    Raises:
        InputError: no such file, or not one that this command wrote.
    """
    try:
        found = wiring.read_json(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(f"--results {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not {"table", "groups"} <= found.keys():
        raise InputError(f"--results {path} is no results.json of this command")
    return found


def main(argv: Sequence[str] | None = None, recipes: Path | None = None) -> None:
    """Entry point of ``scripts/reproduce.py`` and of ``-m hf_vipriors.commands.reproduce``."""

    def job() -> None:
        (args,) = cli.Parser([ReproduceArguments], __doc__).parse(argv)
        args.recipes = args.recipes or str(recipes or Path("scripts") / "recipes")
        if args.results:
            if not args.draw:
                raise InputError("--results is drawn into the files of --draw: name them")
            draw(read_results(args.results), args.draw)
            return
        transformers_logging.disable_progress_bar()
        table = read_table(args.table, Path(args.recipes) / "tables", list(JOBS))
        table = table.only(args.runs) if args.runs else table
        marks(table.name, args.draw)
        reproduction = Reproduction(table, args, Console())
        if args.draw and reproduction.is_part():
            raise InputError("--draw takes a whole table: leave --runs out, and give all --seeds that were run")
        reproduction.run()
        if args.draw:
            draw(wiring.read_json(reproduction.folder / f"{RESULTS}.json"), args.draw)

    cli.run(job)


if __name__ == "__main__":
    main()
