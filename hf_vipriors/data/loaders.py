"""From a name, a file or a folder to raw splits: whatever ``datasets`` loads, parquet, or a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from ..disk_errors import CACHE, explain_disk_error
from ..errors import InputError, nearest, one_line
from .columns import some
from .fashion import FASHION_VIPRIORS, fashion_files
from .image_files import walk
from .image_folder import list_image_folder
from .label_table import METADATA
from .split_names import SPLITS, canonical_split, split_of_file

_BUILT_IN = (FASHION_VIPRIORS, "imagefolder", "parquet")


def _loaded(load: Callable[[], Dataset | DatasetDict], what: str, mend: str) -> Dataset | DatasetDict:
    """Call a loader of ``datasets``; whatever it raises (network, schema, script, file errors) becomes one line."""
    try:
        return load()
    except Exception as error:
        full = explain_disk_error(error, unnamed=CACHE)
        reason = full or f"{one_line(error)}; {mend}"
        raise InputError(f"cannot load {what} (--dataset_name): {reason}") from error


def _named(loaded: Dataset | DatasetDict) -> tuple[dict[str, Dataset], list[str]]:
    """Translate split names; the first of two names for the same split wins, and others are passed over."""
    if isinstance(loaded, Dataset):
        return {"train": loaded}, ["a single split: it is taken as train"]
    splits: dict[str, Dataset] = {}
    passed_over = []
    for name, dataset in loaded.items():
        split = canonical_split(name)
        if split is None or split in splits:
            passed_over.append(name)
        else:
            splits[split] = dataset
    if not splits:
        raise InputError(f"none of the splits {some(loaded)} is called {some(SPLITS)}: rename one, or save it alone")
    return splits, [f"splits passed over: {', '.join(passed_over)}"] if passed_over else []


def _load_fashion() -> dict[str, Dataset]:
    # Read into memory: at 4 MiB no copy in the datasets cache is needed, and a read-only home does not matter.
    return {split: Dataset(pq.read_table(path)) for split, path in fashion_files().items()}


def _parquet_below(folder: Path) -> list[Path]:
    return sorted(Path(place, name) for place, names in walk(folder) for name in names if name.endswith(".parquet"))


def _parquet_files(path: Path) -> dict[str, list[str]]:
    """Sort parquet files into splits: by the beginning of the file name, else by a folder above it, else train."""
    if path.is_file():
        return {"train": [str(path)]}
    by_split: dict[str, list[str]] = {}
    for file in _parquet_below(path):
        inside = file.relative_to(path)
        folders = [canonical_split(part) for part in reversed(inside.parts[:-1])]
        split = next(filter(None, [split_of_file(file.stem), *folders]), "train")
        by_split.setdefault(split, []).append(str(file))
    return by_split


def _load_parquet(path: Path) -> dict[str, Dataset]:
    files = _parquet_files(path) if path.exists() else {}
    if not files:
        raise InputError(f"no parquet file at {str(path)!r}: give a .parquet file or a folder that holds some")

    # One call a split: an unlabelled split has other columns than the rest, which one call would refuse.
    def load(split: str) -> Dataset:
        return load_dataset("parquet", data_files={split: files[split]}, split=split)

    mend = "the files of one split must be readable and share their columns"
    return {split: _loaded(partial(load, split), f"{split} of {str(path)!r}", mend) for split in files}


def _load_path(path: Path, label_column: str | None) -> tuple[dict[str, Dataset], list[str]]:
    """A saved dataset, parquet, or an image folder that was named directly."""
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        return _named(_loaded(lambda: load_from_disk(str(path)), repr(str(path)), "save it again with save_to_disk"))
    if path.is_file() and path.suffix != ".parquet":
        raise InputError(
            f"{str(path)!r} (--dataset_name) is no .parquet file: give parquet, a folder saved by save_to_disk, "
            "or a folder of images by --data_dir"
        )
    if path.is_file() or any(file.name not in METADATA for file in _parquet_below(path)):
        return _load_parquet(path), []
    return list_image_folder(path, label_column=label_column)


def _load_hub(
    name: str, config_name: str | None, data_dir: str | None, revision: str | None
) -> tuple[dict[str, Dataset], list[str]]:
    close = nearest(name, _BUILT_IN)
    mend = close if close.startswith("did you mean") else "check the name, --dataset_config and the network"
    # No trust_remote_code: a data set that needs its own program is refused by datasets itself.
    return _named(
        _loaded(
            lambda: load_dataset(name, config_name, data_dir=data_dir, revision=revision), f"data set {name!r}", mend
        )
    )


def _refuse(source: str, **options: str | None) -> None:
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{' and '.join(given)} cannot go with {source} (--dataset_name): leave it out")


def load_raw(
    name: str,
    config_name: str | None,
    data_dir: str | None,
    revision: str | None,
    labels: str | None,
    label_column: str | None,
) -> tuple[dict[str, Dataset], list[str]]:
    """Split name -> data set as it was loaded, and log lines; the loader is chosen by the name.

    The arguments are those of :func:`hf_vipriors.data.load_splits`.

    Raises:
        InputError: nothing to load there.
    """
    if name != "imagefolder":
        _refuse(repr(name), labels=labels)
    if name in ("imagefolder", "parquet"):
        _refuse(name, dataset_config=config_name, dataset_revision=revision)
        if data_dir is None:
            raise InputError(f"--dataset_name {name} needs --data_dir: the folder that holds the data")
        if name == "imagefolder":
            return list_image_folder(data_dir, labels, label_column)
        return _load_parquet(Path(data_dir).expanduser()), []
    path = Path(name).expanduser()
    looks_like_path = path.is_absolute() or name.startswith(("./", "../", "~")) or path.suffix == ".parquet"
    if name == FASHION_VIPRIORS:
        _refuse(name, dataset_config=config_name, data_dir=data_dir, dataset_revision=revision)
        return _load_fashion(), []
    if name and path.exists():
        _refuse(f"the local path {name!r}", dataset_config=config_name, data_dir=data_dir, dataset_revision=revision)
        return _load_path(path, label_column)
    if looks_like_path or not name:
        raise InputError(f"no such file or folder {name!r} (--dataset_name): check the path")
    return _load_hub(name, config_name, data_dir, revision)
