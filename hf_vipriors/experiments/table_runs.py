"""The runs of one table: what each is to be, which are finished, and running the others."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from ..cli.parser import Parser
from ..data.cifair import listed_duplicates
from ..errors import InputError, nearest, one_line
from ..evaluation.without_duplicates import WITHOUT
from ..files import read_json, write_json
from ..logs import quiet
from ..options import with_defaults
from ..reports.report_text import duration
from ..search.space import SearchSpace
from ..terminal import Console
from ..training import DataArguments, RunArguments, StudentArguments
from ..training.load_images import load_images
from ..training.resolve import complete
from ..training.results import summary
from ..training.run_files import RUN_FILE, SEARCH_FILE, read_run
from ..training.run_identity import influences
from .progress import Clock, Kind
from .side_by_side import Training, processes_for, train_all
from .table_jobs import JOBS, Settings, scale_epochs, scores_of
from .table_request import TableRequest, on_dataset, place, plain
from .table_results import own_seconds
from .tables import Table, TableRun

# They follow from other options, which are compared.
_FOLLOWS = {"batch_size", "accelerator_config"}
# In a run's folder: digests of the runs it used.
USES_FILE = "uses.json"
# Where the runs lie that are made once for all seeds.
ONCE = "once"
# Options of a run that the table sets, and what is there in their place.
_OF_TABLE = {
    "seed": "give --seeds, and for other luck with the same settings the run's seed_offset",
    "output_dir": "the runs lie in the table's own --output_dir",
    "save_strategy": "a run of a table keeps no checkpoints",
}


class Reproduction:
    """The runs of one table: one folder a run and seed, or one folder a run that is made once."""

    def __init__(self, table: Table, request: TableRequest):
        self.table, self.request = table, request
        self.folder = request.folder
        self.once = {run.name for run in table.runs if run.once}
        first = request.seeds[0]
        self.cells = [
            (self.seed_of(seed, run.name), run)
            for seed in request.seeds
            for run in table.runs
            if not run.once or seed == first
        ]
        self._recipes: dict[tuple[type, str], dict[str, Any]] = {}
        self._read: dict[tuple[int, str], tuple[DataArguments, Settings]] = {}
        # Every option of every run is read before the first one starts.
        for seed, run in self.cells:
            self.settings(seed, run.name)
        self._check_scores()

    def __getstate__(self) -> dict[str, Any]:
        """For another process: settings, which know the devices of this one, are made there from the same recipes."""
        return vars(self) | {"_read": {}}

    def folder_of(self, seed: int, name: str) -> Path:
        return self.folder / (ONCE if name in self.once else f"seed{seed}") / name

    def seed_of(self, seed: int, name: str) -> int:
        """The seed of a run; of one that is made once that of the first, or what it was finished with."""
        if name not in self.once:
            return seed
        folder = self.folder_of(seed, name)
        if all((folder / file).is_file() for file in ("metrics.json", RUN_FILE)):
            return read_run(folder).arguments["seed"]
        return self.request.seeds[0]

    def settings(self, seed: int, name: str) -> tuple[DataArguments, Settings]:
        """What a run is to be."""
        seed = self.seed_of(seed, name)
        if (seed, name) not in self._read:
            self._read[seed, name] = self._settings(seed, self.table.run(name))
        return self._read[seed, name]

    def _settings(self, seed: int, run: TableRun) -> tuple[DataArguments, Settings]:
        kind, _ = JOBS[run.job]
        trains = issubclass(kind, RunArguments)
        parser = Parser([DataArguments, kind] if trains else [kind], "")
        where = f"{self.table.name}: {run.name}"
        if run.recipe and (kind, run.recipe) not in self._recipes:
            self._recipes[kind, run.recipe] = parser.recipe(self.request.recipes / run.recipe)
        recipe = self._recipes[kind, run.recipe] if run.recipe else {}
        folders = {name: str(self.folder_of(seed, name)) for name in run.uses}
        options = parser.checked(run.options_with(folders), where)
        if own := sorted(options.keys() & _OF_TABLE.keys()):
            raise InputError(f"{where}: {own[0]} is for the table to set: {_OF_TABLE[own[0]]}")
        options |= {"seed": seed + run.seed_offset, "output_dir": str(self.folder_of(seed, run.name))}
        options |= {"save_strategy": "no"} if trains else {}
        if run.own_labels:
            own_seeds = {"subset_seed": seed, "validation_seed": 0}
            if given := sorted((options | recipe).keys() & own_seeds.keys()):
                raise InputError(f"{where}: own_labels sets {given[0]}: leave one of the two out")
            options |= own_seeds
        try:
            *data, settings = parser.parse([], recipe | options)
        except InputError as error:
            raise InputError(f"{where}: {one_line(error, None)}") from None
        if not trains:
            return self._data_of_students(seed, run), settings
        if self.request.length != 1:
            scale_epochs(settings, self.request.length)
        if self.request.trials is not None and isinstance(settings, StudentArguments) and settings.trials:
            settings.trials = self.request.trials
        if isinstance(settings, StudentArguments) and settings.trials:
            SearchSpace.read(settings.search_space)  # refused now, and not after hours of other runs
        return on_dataset(data[0], self.request.dataset), settings

    def _data_of_students(self, seed: int, run: TableRun) -> DataArguments:
        found = [self.settings(seed, name) for name in run.uses]
        if not found or any(not isinstance(settings, JOBS["train_student"][0]) for _, settings in found):
            raise InputError(f"{self.table.name}: {run.name}: students must be runs of train_student in this table")
        if len({place(data) for data, _ in found}) > 1:
            raise InputError(f"{self.table.name}: {run.name}: its students learnt from different data sets")
        return found[0][0]

    def _check_scores(self) -> None:
        for row in (row for group in self.table.groups for row in group["rows"]):
            _, settings = self.settings(self.request.seeds[0], row["run"])
            known = scores_of(settings)
            where = f"table {self.table.name}: row {row['name']!r} has the score {row['score']!r}"
            if row["score"] not in known:
                raise InputError(f"{where}: {nearest(str(row['score']), known)}")
            if row["score"] == "corrupted" and row.get("metric", "top1") != "top1":
                raise InputError(f"{where}, of which only top1 is measured: leave metric out")

    def _check_listed(self, waiting: Sequence[str]) -> None:
        """Refuse now, and not after hours, a score of images that are not there, or without duplicates that are not.

        Args:
            waiting: names of the runs that are not finished.
        """
        looked: set[tuple] = set()
        for row in (row for group in self.table.groups for row in group["rows"]):
            data, _ = self.settings(self.request.seeds[0], row["run"])
            apart, listed = data.validation_share == 0, row["score"] == WITHOUT
            images = (*place(data), apart, listed)
            if not (apart or listed) or row["run"] not in waiting or images in looked:
                continue
            looked.add(images)
            splits = load_images(replace(data, choose_with=None)).splits
            if "test" not in splits or (row["score"] in ("knn", "linear") and "validation" not in splits):
                raise InputError(
                    f"table {self.table.name}: row {row['name']!r} has the score {row['score']!r}, and with "
                    "validation_share 0 no images are set apart for it: leave that out, or add a test split"
                )
            if listed and listed_duplicates(splits["test"], "test") is None:
                raise InputError(
                    f"table {self.table.name}: row {row['name']!r} has the score {WITHOUT!r}, and the test images of "
                    f"{data.data_dir or data.dataset_name} hold none of ciFAIR's list of CIFAR-10: use the score test"
                )

    def finished(self, seed: int, run: TableRun) -> bool:
        """Whether its figures lie there.

        Raises:
            InputError: they were made with other settings.
        """
        folder = self.folder_of(seed, run.name)
        if not all((folder / name).is_file() for name in ("metrics.json", RUN_FILE)):
            return False
        made = read_run(folder)
        data, settings = self.settings(seed, run.name)
        wanted = plain(data, settings)
        # Options that were added after the run was made have their defaults.
        had = {**self._defaults(data, settings), **made.data, **made.arguments}
        # An earlier version wrote what follows from the method among what was given.
        early = made.filled_among_given and isinstance(settings, RunArguments)
        filled = plain(data, complete(settings).args) if early else wanted
        compared = {name for name in wanted if influences(name)} - _FOLLOWS - made.unknown_if_given(filled)
        other = [
            name
            for name in compared
            if not self._same(wanted[name], had[name]) and not self._same(filled[name], had[name])
        ]
        if other:
            name = min(other)
            raise InputError(
                f"{folder} was run with {name} {had[name]}, the table has {wanted[name]}: remove the folder to run it "
                "again, or choose another --output_dir"
            )
        self._check_space(folder, settings)
        self._check_uses(seed, run)
        return True

    def _check_space(self, folder: Path, settings: Settings) -> None:
        """The file of a search space may have changed under its name."""
        file = folder / SEARCH_FILE
        if not (isinstance(settings, StudentArguments) and settings.trials and file.is_file()):
            return
        now = json.loads(json.dumps(SearchSpace.read(settings.search_space).describe(), default=str))
        if read_json(file)["space"] != now:
            raise InputError(
                f"{folder} searched another space than {settings.search_space} is now: remove the folder to run it "
                "again, or choose another --output_dir"
            )

    def _defaults(self, data: DataArguments, settings: Settings) -> dict[str, Any]:
        """What options are when they are not given, in a run that is as long as the table's."""
        likewise = with_defaults(settings)
        if self.request.length != 1 and isinstance(likewise, RunArguments):
            scale_epochs(likewise, self.request.length)
        return plain(with_defaults(data), likewise)

    def _digests(self, seed: int, run: TableRun) -> dict[str, str]:
        """What the runs that ``run`` uses are now."""
        files = {name: self.folder_of(seed, name) / "model.safetensors" for name in run.uses}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.is_file()}

    def _check_uses(self, seed: int, run: TableRun) -> None:
        """A run that used another run which has been made again since is no longer of this table."""
        folder = self.folder_of(seed, run.name)
        if not (folder / USES_FILE).is_file():
            return
        now, then = self._digests(seed, run), read_json(folder / USES_FILE)
        for name in run.uses:
            if now.get(name) != then.get(name):
                raise InputError(
                    f"{folder} was made from another {name} than lies there now: remove it to run it again, or choose "
                    "another --output_dir"
                )

    def _same(self, wanted: Any, had: Any) -> bool:
        """Equal, or the same run of this table, wherever its folder lay and however it was written."""
        if isinstance(wanted, list) and isinstance(had, list) and len(wanted) == len(had):
            return all(map(self._same, wanted, had))
        if isinstance(wanted, str) and isinstance(had, str) and Path(wanted).is_relative_to(self.folder):
            tail = Path(wanted).relative_to(self.folder).parts
            return Path(had).parts[-len(tail) :] == tail
        return wanted == had

    def run(self, console: Console, at_once: int | None = None) -> None:
        """Make every run that is not finished, so many at once as :func:`.side_by_side.processes_for` has it."""
        finished = {(seed, run.name): self.finished(seed, run) for seed, run in self.cells}
        waiting = [cell for cell in self.cells if not finished[cell[0], cell[1].name]]
        self._check_listed([run.name for _, run in waiting])
        self.folder.mkdir(parents=True, exist_ok=True)
        processes = processes_for(len(waiting), self._device(), at_once)
        trainings = [self._training(seed, run, waiting, alone=processes == 1) for seed, run in waiting]
        times = [
            (_kind(run), seconds)
            for seed, run in self.cells
            if finished[seed, run.name]
            and (seconds := own_seconds(run, read_json(self.folder_of(seed, run.name) / "metrics.json"))) is not None
        ]
        train_all(trainings, processes, console, done=len(self.cells) - len(waiting), clock=Clock(times))

    def _device(self) -> torch.device:
        """An accelerator, where any run of the table uses one."""
        found = [self.settings(seed, run.name)[1] for seed, run in self.cells]
        devices = [settings.device for settings in found if isinstance(settings, RunArguments)]
        return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))

    def _training(self, seed: int, run: TableRun, waiting: Sequence[tuple[int, TableRun]], *, alone: bool) -> Training:
        """Of a run that has its lines in the log for itself, or shares the terminal with others."""
        used = {(self.seed_of(seed, name), name) for name in run.uses}
        return Training(
            self._title(seed, run),
            _kind(run),
            self._make,
            (logging.INFO if alone else logging.WARNING, seed, run),
            told=lambda _: "" if alone else self._told(seed, run),
            after=tuple(self._title(*cell) for cell in waiting if (cell[0], cell[1].name) in used),
        )

    @staticmethod
    def _title(seed: int, run: TableRun) -> str:
        return f"{run.name}, once" if run.once else f"{run.name}, seed {seed}"

    def _make(self, level: int, seed: int, run: TableRun) -> None:
        """Of its log come the lines from ``level`` on."""
        if self.finished(seed, run):
            return  # by another process since this one began
        data, settings = self.settings(seed, run.name)
        folder = self.folder_of(seed, run.name)
        # What a killed run left behind is a start and no result.
        settings.overwrite_output_dir = (folder / RUN_FILE).is_file()
        # Accelerate has one precision for a whole process, unless it forgets the run before.
        AcceleratorState._reset_state()
        with quiet(level):
            JOBS[run.job][1](data, settings)
        write_json(folder / USES_FILE, self._digests(seed, run))

    def _told(self, seed: int, run: TableRun) -> str:
        metrics = read_json(self.folder_of(seed, run.name) / "metrics.json")
        return f"{summary(metrics)}, {duration(own_seconds(run, metrics) or 0.0)}"


def _kind(run: TableRun) -> Kind:
    """How long a run takes is best known from others of the same name, else of the same matrix, else of the job."""
    return run.name, run.base, run.job
