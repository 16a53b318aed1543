"""Models from the Hub whose every byte is what the Hub says it is.

``huggingface_hub`` compares sizes only. It names a file in its cache after the checksum that the server announced, so
the content can be held against the name at any time, also offline.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from ..errors import InputError
from ..files import waits_for_ever

logger = logging.getLogger(__name__)
# What a model is loaded from: never a pickle, never a program.
MODEL_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")
CHUNK = 1 << 20


def verified_snapshot(repo_id: str, *, subfolder: str = "", **options: Any) -> Path:
    """Download what a model is loaded from (or find it in the cache) and compare it with the Hub's checksums.

    Args:
        repo_id: ``"org/name"``.
        subfolder: folder in the repository that holds the model.
        options: of :func:`huggingface_hub.snapshot_download`, such as ``revision``, ``token``, ``cache_dir`` or
            ``local_files_only``.

    Returns:
        The folder of the revision in the cache.

    Raises:
        InputError: a file is not the one that the Hub announced; it is removed from the cache, to be downloaded anew.
        OSError: not found, no access, not reachable; as ``snapshot_download`` raises it.
    """
    prefix = f"{subfolder}/" if subfolder else ""
    folder = Path(snapshot_download(repo_id, allow_patterns=[prefix + name for name in MODEL_FILES], **options))
    for path in sorted((folder / subfolder).glob("*")):
        if path.is_file() and not matches_its_name(path.resolve()):
            blob = path.resolve()
            path.unlink()
            blob.unlink(missing_ok=True)
            raise InputError(
                f"{prefix}{path.name} of {repo_id} was damaged on its way or in the cache, its checksum is not the "
                "Hub's: it was removed, run the same again to download it anew"
            )
    return folder


def check_files(folder: Path) -> None:
    """Refuse a folder where a FIFO or a device stands for a file of the model: whoever reads it would wait for ever.

    Raises:
        InputError: naming it.
    """
    for path in sorted((*folder.glob("*.json"), *folder.glob("*.safetensors"))):
        if waits_for_ever(path):
            raise InputError(f"{path} is a FIFO or a device: put a file there")


def check_shards(folder: Path) -> None:
    """Refuse an index of sharded weights that names anything but files beside it: it could name any file of a disk.

    Raises:
        InputError: a name with a folder in it, or an index that is none.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        strange = sorted(name for name in names if Path(name).name != name or not name.endswith(".safetensors"))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{index} is damaged ({type(error).__name__}): download it again") from None
    if strange:
        raise InputError(f"{index} names {strange[0]!r} as weights, which lies elsewhere: do not trust it")


def matches_its_name(blob: Path) -> bool:
    """Whether a file of the cache has the content whose checksum is its name.

    A large file bears its SHA-256, a small one its git object id, SHA-1 of ``"blob SIZE\\0"`` and the content. A name
    that is neither (a file system without links) tells nothing: True.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as cache:
        ...     blob = Path(cache, hashlib.sha256(b"weights").hexdigest())
        ...     _ = blob.write_bytes(b"weights")
        ...     whole = matches_its_name(blob)
        ...     _ = blob.write_bytes(b"Weights")
        ...     whole, matches_its_name(blob)
        (True, False)
    """
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(blob), usedforsecurity=False)
    else:
        logger.debug("%s is not named after a checksum: its content was not compared", blob)
        return True
    with blob.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == blob.name
