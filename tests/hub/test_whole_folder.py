"""A folder is there whole or not at all; what a killed process left is swept, and nothing else is."""

import os
import subprocess
import sys

from hf_vipriors.hub.whole_folder import whole_folder


def test_what_a_dead_process_left_is_swept_and_nothing_else(tmp_path):
    for name in ("out-1a2b3c4d", ".out-1a2b3c4d", ".out-notes", ".out-1A2B3C4D", ".out-1a2b3c4d5", ".output-1a2b3c4d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".out-00000000").write_text("a file")
    (tmp_path / ".out-11111111").symlink_to(tmp_path / ".out-notes")
    before = set(os.listdir(tmp_path))
    with whole_folder(tmp_path / "out") as folder:
        (folder / "config.json").write_text("{}")
    assert set(os.listdir(tmp_path)) == before - {".out-1a2b3c4d"} | {"out"}
    assert all(os.listdir(tmp_path / name) for name in (".out-notes", ".output-1a2b3c4d"))


def test_what_a_living_process_writes_stays_until_it_is_killed(tmp_path):
    code = (
        "import sys, time\nfrom hf_vipriors.hub.whole_folder import whole_folder\n"
        "with whole_folder(sys.argv[1]) as folder:\n    print(folder, flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        left = other.stdout.readline().strip()
        with whole_folder(tmp_path / "out") as mine, whole_folder(tmp_path / "out") as again:
            assert {left, str(mine), str(again)} == {str(path) for path in tmp_path.iterdir()}
        other.kill()
    assert os.path.isdir(left)
    with whole_folder(tmp_path / "out"):
        assert not os.path.exists(left)
    assert os.listdir(tmp_path) == ["out"]
