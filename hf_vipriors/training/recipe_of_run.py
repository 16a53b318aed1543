"""The recipe that repeats a finished run, for whoever has its card and not its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from ..invocation import TRAININGS, command
from ..markup import visible
from .cards import is_local, teacher_name
from .data_arguments import DataArguments
from .pretrain_arguments import PretrainArguments
from .run_files import RunRecord
from .run_identity import IN_EPOCHS, LENGTH
from .student_arguments import StudentArguments
from .teacher_arguments import TeacherArguments

KINDS = {
    "train_student": StudentArguments,
    "train_teacher": TeacherArguments,
    "pretrain_student": PretrainArguments,
}
# Where a run happened and how it was shown: no part of what it computes.
NOT_IN_RECIPE = (
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "disable_tqdm", "report_to", "run_name",
    "save_strategy", "save_steps", "save_total_limit", "use_cpu", "local_rank", "log_level", "settings_of",
    "search_space", "trials", "time_limit", "project", "trackio_space_id", "trackio_bucket_id",
    "trackio_static_space_id",
)  # fmt: skip
NETWORKS = ("teacher", "student_init", "more_teachers", "choose_with")


def recipe_text(run: RunRecord, searched: Mapping[str, Any]) -> str | None:
    """The recipe that repeats a run; None for a command that takes none.

    It holds what differs from the defaults. Paths of this machine are named in a comment and left out.

    Args:
        run: from its ``run.json``.
        searched: the settings that a search found for it.
    """
    if run.command not in KINDS:
        return None
    # By a time limit, or by what the network that was found costs.
    lengths = (*LENGTH, *IN_EPOCHS, "warmup_steps")
    settled = {name: run.resolved[name] for name in lengths if name in run.resolved}
    if "base_learning_rate" in searched:
        settled["learning_rate"] = None  # a recipe's, which the one that was found has replaced
    settings = _changed(DataArguments, run.data) | _changed(
        KINDS[run.command], {**run.arguments, **searched, **settled}
    )
    settings = {name: value for name, value in settings.items() if name not in NOT_IN_RECIPE and "hub" not in name}
    comments = [f"{command(TRAININGS[run.command])} --config recipe.yaml --output_dir outputs/again"]
    for name in ("dataset_name", "data_dir", "labels"):
        # A Hub data set may have folders: only what is there, or was given as a whole path, is one of this machine.
        if settings.get(name) and (Path(settings[name]).is_absolute() or Path(settings[name]).exists()):
            comments.append(f"--{name}: your own copy of {Path(settings.pop(name)).name}")
    for name in NETWORKS:
        given = settings.get(name)
        names = given if isinstance(given, list) else [given] if given else []
        if any(is_local(each) for each in names):
            del settings[name]
            teachers = ", ".join(teacher_name(each) for each in names)
            comments.append(f"--{name}: {teachers}, a folder of a training before this one")
    if searched:
        comments.append(f"chosen on validation by a search: {', '.join(searched)}")
    head = "".join(f"# {visible(line)}\n" for line in comments)
    return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _changed(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for each in fields(kind):
        made = None if each.default_factory is MISSING else each.default_factory()
        value, default = values.get(each.name), made if each.default is MISSING else each.default
        # An empty value of an option that is empty anyway: transformers writes [] for "".
        if each.init and value not in (default, None, "<HUB_TOKEN>") and (value or default):
            found[each.name] = value
    return found
