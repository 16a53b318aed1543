import os
from pathlib import Path

import pytest
import torch

from hf_vipriors.errors import InputError, one_line
from hf_vipriors.files import check_new, read_json, replacing, save_tensors, write_file, write_json
from hf_vipriors.models import VipriorsModel


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    file = write_file(tmp_path / "notes.txt", "old")
    with pytest.raises(ZeroDivisionError), replacing(file) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["notes.txt"]


def test_a_disk_that_is_full_names_the_file_and_leaves_the_old_one(tmp_path, small_files):
    file = write_file(tmp_path / "notes.txt", "old")
    with pytest.raises(OSError) as error:
        write_file(file, "x" * 2**17)
    assert error.value.filename == str(file)
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["notes.txt"]


def test_json_is_readable_and_plain(tmp_path):
    file = write_json(tmp_path / "facts.json", {"name": "Käfer", "folder": tmp_path})
    assert "Käfer" in file.read_text(encoding="utf-8") and file.read_bytes().endswith(b"}\n")
    assert read_json(file) == {"name": "Käfer", "folder": str(tmp_path)}


def test_numbers_that_json_does_not_know_are_refused_where_asked(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "report.json", [float("nan")], allow_nan=False)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no umask")
def test_others_may_read_what_the_umask_lets_them(tmp_path, tiny_config):
    before = os.umask(0o022)
    try:
        write_file(tmp_path / "report.md", b"#")
        save_tensors({"a": torch.ones(2)}, tmp_path / "new.safetensors", {"format": "pt"})
        VipriorsModel(tiny_config(projector_dim=8)).save_pretrained(tmp_path / "teacher")
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 4 and {path.stat().st_mode & 0o777 for path in files} == {0o644}
    finally:
        os.umask(before)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged: "):
        read_json(tmp_path / "run.json")
    (tmp_path / "run.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"run\.json is damaged: "):
        read_json(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("error", "options", "line"),
    [
        (ValueError("a\n  b"), {}, "a b"),
        (ValueError(), {}, "ValueError"),
        (ValueError(), {"kind": True}, "ValueError"),
        (InputError("no such folder"), {"kind": True}, "no such folder"),
        (KeyError("x " * 400), {"limit": 10}, "'x x x ..."),
        (ValueError("\x1b[96mstep 1/3\x1b[0m\n- advice"), {"limit": None}, "step 1/3 - advice"),
        (ValueError(f"no image in {'iVBOR' * 100}: look"), {"limit": None}, f"no image in {'iVBOR' * 4}...: look"),
        (ValueError(f"/data/{'long-name/' * 30}x"), {"limit": None}, f"/data/{'long-name/' * 30}x"),
        (InputError(f"what {'a ' * 999}: mend it"), {"limit": None}, f"what {'a ' * 347}a ... {'a ' * 143}: mend it"),
    ],
)
def test_one_line(error, options, line):
    assert one_line(error, **options) == line


def test_a_path_of_other_bytes_is_kept_in_json(tmp_path):
    folder = os.fsdecode(b"caf\xe9")
    assert read_json(write_json(tmp_path / "run.json", {"data_dir": folder})) == {"data_dir": folder}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is empty: give a name"),
        ("notes.txt", "exists: choose another name"),
        ("link", "exists: choose another name"),
        ("notes.txt/x.csv", "cannot be written: .*notes.txt is no folder; choose another place"),
        ("notes.txt/deep/er/x.csv", "cannot be written: .*notes.txt is no folder; choose another place"),
        ("link/x.csv", "cannot be written: .*link is no folder; choose another place"),
        pytest.param(
            "/proc/x.csv", "cannot be written: .* in /proc; choose another place",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="no Linux"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_before_any_work(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("mine")
    Path("link").symlink_to("nowhere")
    with pytest.raises(InputError, match=rf"^output {path}\s*{words}$|^output {words}$"):
        check_new(path, "output")
    for good in ("x.csv", "new/deeper/x.csv", "new/../x.csv"):
        check_new(good, "output")
    assert sorted(os.listdir()) == ["link", "notes.txt"]
