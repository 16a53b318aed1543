"""The files that a run leaves in its folder, by name, and how they are read and written."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.predictions import PREDICTIONS_FILE
from ..files import read_json, read_mapping, write_json
from ..hub.card_facts import FACTS_FILE
from .arguments import RunArguments
from .data_arguments import DataArguments
from .resolve import Resolved

RUN_FILE, METRICS_FILE, SEARCH_FILE = "run.json", "metrics.json", "search.json"
STATE_FILE = "trainer_state.json"
TRAINED_FILE = "trained_images.safetensors"
SEARCH_JOURNAL = "search/journal.log"  # of trials that are not all finished
# What a run writes beside RUN_FILE; of a run that is replaced these are removed, and nothing else.
RUN_FILES = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "README.md",
    FACTS_FILE,
    METRICS_FILE,
    STATE_FILE,
    PREDICTIONS_FILE,
    SEARCH_FILE,
    TRAINED_FILE,
)
# What runs of an earlier version filled by the data, or for methods that do not read it.
FILLED_UNSEEN = ("learning_rate", "base_learning_rate", "mutual_weight", "peer_backbone_args")
# Folders inside a run's own: the backbone for other programs, the other of two peers.
PARTS = ("native", "peer")


def log_history(folder: Path) -> list[dict[str, Any]]:
    """What the Trainer logged while the run of this folder trained; nothing where the folder does not tell."""
    state = folder / STATE_FILE
    if not state.is_file():
        return []
    found = read_mapping(state).get("log_history")
    if not isinstance(found, list):
        raise InputError(f"{state} is damaged: it has no log_history")
    return found


@dataclass(frozen=True)
class RunRecord:
    """What ``run.json`` says of a run.

    Attributes:
        command: the job.
        data, arguments: as they were given.
        resolved: option -> value, of those that were filled.
        versions: of what decides a number.
        fingerprint: see :mod:`hf_vipriors.training.fingerprint`.
        filled_among_given: an earlier version wrote it, whose ``arguments`` also hold what was filled.
    """

    command: str
    data: dict[str, Any]
    arguments: dict[str, Any]
    resolved: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: dict[str, str] = field(default_factory=dict)
    filled_among_given: bool = False

    def unknown_if_given(self, wanted: Mapping[str, Any]) -> set[str]:
        """Options of which a run of an earlier version does not say whether they were given or filled.

        Args:
            wanted: options that are complete by the method.
        """
        if not self.filled_among_given:
            return set()
        names = {name for name in FILLED_UNSEEN if wanted.get(name) is None}
        automatic = wanted.get("per_device_train_batch_size") == 0
        return names | {"dataloader_drop_last"} | ({"per_device_train_batch_size"} if automatic else set())

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was trained with, given and filled."""
        return {**self.arguments, **self.resolved}


def write_run(
    command: str, data: DataArguments, given: RunArguments, resolved: Resolved | None, fingerprint: Mapping[str, str]
) -> None:
    """Write ``run.json``: what was given, what followed from it and from where, versions and fingerprint."""
    content = {
        "command": command,
        "data": asdict(data),
        "arguments": given.to_dict(),
        "resolved": {} if resolved is None else resolved.to_dict(),
        "versions": versions(),
        "fingerprint": dict(fingerprint),
    }
    write_json(Path(given.output_dir) / RUN_FILE, content)


def read_run(folder: Path) -> RunRecord:
    """What a run of this version or of an earlier one wrote; those had filled values among the given ones.

    Raises:
        InputError: the file is missing or damaged.
    """
    file = folder / RUN_FILE
    if not file.is_file():
        raise InputError(f"no {RUN_FILE} in {folder}: give the folder of a run")
    content = read_json(file)
    try:
        resolved = {name: entry["value"] for name, entry in content.get("resolved", {}).items()}
        parts = {name: content.get(name, {}) for name in ("data", "arguments", "versions", "fingerprint")}
        return RunRecord(content["command"], resolved=resolved, filled_among_given="resolved" not in content, **parts)
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{file} was not written by a run of ours") from None


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    names = ("hf-vipriors", "torch", "transformers", "accelerate", "timm", "kornia", "numba", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
