import os
import signal
import subprocess
import sys
import tempfile

import pytest

from hf_vipriors.errors import InputError
from hf_vipriors.training import guard_output_dir
from hf_vipriors.training.run_folder import LOCK_FILE, lock_folder, locked_folders, unlock_folders

HOLDER = """
import os, sys
from filelock import FileLock
with FileLock(sys.argv[1], on_acquired=lambda descriptor: os.write(descriptor, b" 4711")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run():
    """``other_run(folder)``: another process that writes there; it ends when the test does, or is killed."""
    running = []

    def start(folder):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", HOLDER, str(folder / LOCK_FILE)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def free():
    before = locked_folders()
    yield
    unlock_folders(locked_folders() - before)


def test_second_run_is_refused_and_the_kernel_frees_the_folder_of_one_that_was_killed(tmp_path, other_run):
    process = other_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"another run \(process 4711\) is writing there"):
        lock_folder(str(tmp_path / "run"))
    process.kill()
    process.wait()
    assert (tmp_path / "run" / LOCK_FILE).is_file()
    lock_folder(str(tmp_path / "run"))


def test_folder_is_as_it_was_when_the_lock_is_given_back(tmp_path):
    lock_folder(str(tmp_path / "run"))
    lock_folder(str(tmp_path / "run"))  # by the same process
    assert (tmp_path / "run" / LOCK_FILE).read_text() == f" {os.getpid()}"
    unlock_folders({(tmp_path / "run").resolve()})
    assert not list((tmp_path / "run").iterdir())


def test_worker_that_outlives_a_killed_run_holds_no_lock(tmp_path):
    ready, ready_to_read = reversed(os.pipe())
    stay, release = os.pipe()
    run = os.fork()
    if run == 0:
        lock_folder(str(tmp_path))
        if os.fork() == 0:
            os.write(ready, f"{os.getpid()} {len(locked_folders())}".encode())
        os.read(stay, 1)
        os._exit(0)
    worker, held_by_worker = map(int, os.read(ready_to_read, 20).split())
    assert held_by_worker == 0
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    os.kill(worker, 0)  # it lives
    try:
        lock_folder(str(tmp_path))
    finally:
        os.write(release, b"x")  # to the worker


def test_lock_of_a_run_that_was_killed_before_it_wrote_is_no_content(tmp_path):
    (tmp_path / LOCK_FILE).touch()
    guard_output_dir(str(tmp_path), overwrite=False, resume=False)


@pytest.mark.skipif(sys.platform == "win32", reason="has no rights of this kind")
@pytest.mark.parametrize("inside", ["", "new", "new/deeper"])
def test_a_folder_without_rights_is_refused_before_anything_is_done(inside, tmp_path):
    # root may write anywhere: become nobody while it is asked.
    for folder in [tmp_path, *list(tmp_path.parents)[:3]]:  # pytest's own are closed to others, with xdist one more
        if folder.stat().st_uid == os.getuid() and not folder.samefile(tempfile.gettempdir()):
            folder.chmod(0o755)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=r"output_dir .* cannot be written: Permission denied in .*locked;"):
            guard_output_dir(str(locked / inside), overwrite=False, resume=False)
    finally:
        os.seteuid(before)
    assert not list(locked.iterdir())


def test_a_folder_that_no_weights_can_be_written_to_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"output_dir b'.*caf\\xe9' is not UTF-8"):
        guard_output_dir(os.path.join(tmp_path, os.fsdecode(b"caf\xe9")), overwrite=False, resume=False)
