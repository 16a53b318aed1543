import os
import subprocess
import sys
import time

import pytest

from hf_vipriors.machine import seconds_waiting_for_cores

BUSY = "while True: pass"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a thread waits for a core")
def test_waiting_for_a_core_that_another_process_uses_is_counted():
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    other = subprocess.Popen([sys.executable, "-c", BUSY])  # on the same core, as its parent
    try:
        before, end = seconds_waiting_for_cores(), time.perf_counter() + 1.5
        while time.perf_counter() < end:
            pass
        assert seconds_waiting_for_cores() - before > 0.1
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, cores)
