import errno
import tempfile
from pathlib import Path

import pytest
from datasets import config
from huggingface_hub import constants

from hf_vipriors.disk_errors import explain_disk_error

SPACE = "No space left on device"


def in_place(place):
    return {
        "output": "runs/out/model.safetensors",
        "cache": f"{constants.HF_HUB_CACHE}/models--me--net/blobs/1",
        "datasets": f"{config.HF_DATASETS_CACHE}/parquet/1.arrow",
        "above the cache": str(Path(constants.HF_HOME).parent),
        "temporary": f"{tempfile.gettempdir()}/half",
        "elsewhere": "/srv/photos/cat.jpg",
    }[place]


@pytest.mark.parametrize(
    ("code", "place", "end"),
    [
        (errno.ENOSPC, "output", "; free some space there, or choose another --output_dir"),
        (errno.ENOSPC, "cache", "; free some space there, or set HF_HOME to another folder"),
        (errno.EDQUOT, "datasets", "; free some space there, or set HF_HOME to another folder"),
        (errno.EFBIG, "output", "; raise the limit on the size of files (ulimit -f), or choose another --output_dir"),
        (errno.EROFS, "above the cache", "; set HF_HOME to another folder"),
        (errno.ENOTDIR, "output", "; choose another --output_dir"),
        (errno.ENOSPC, "temporary", "; free some space there, or set TMPDIR to another"),
        (errno.EACCES, "elsewhere", "; give files that you may read and folders that you may write to"),
        (errno.ENOSPC, "elsewhere", "; free some space there"),
    ],
)
def test_the_advice_is_for_the_path_that_failed(code, place, end, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home" / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hf" / "hub"))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "home" / "hf" / "datasets")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    path = in_place(place)
    assert explain_disk_error(OSError(code, "refused", path), [Path("runs/out")]) == f"refused: {path!r}{end}"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, SPACE),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        RuntimeError(f"Data processing error: I/O error: {SPACE} (os error 28)"),
    ],
)
def test_without_a_path_every_disk_is_named(error):
    line = explain_disk_error(error, [Path("runs/out")])
    assert all(name in line for name in ("--output_dir", "HF_HOME", "TMPDIR")) and "\n" not in line


def test_what_a_library_wrapped_is_found_and_what_merely_came_before_is_not():
    inner, wrapped, defect = OSError(errno.ENOSPC, SPACE, "/srv/x"), RuntimeError("generation failed"), KeyError("x")
    wrapped.__cause__, defect.__context__ = inner, inner
    assert explain_disk_error(wrapped).startswith(f"{SPACE}: '/srv/x'")
    assert explain_disk_error(defect) is None
