"""Run by test_scripts.py under torchrun: several scripts one after the other in the same processes.

    torchrun --nproc_per_node 2 several_jobs.py JOBS.json

Each job is a name, a script and its command line. What a process says about a job goes to NAME.RANK.err beside the
file; a script that fails ends all.
"""

import gc
import json
import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    jobs, terminal = Path(sys.argv[1]), os.dup(2)
    for name, script, options in json.loads(jobs.read_text()):
        said = jobs.with_name(f"{name}.{os.environ['RANK']}.err")
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 2)
        sys.argv = [script, *options]
        try:
            runpy.run_path(script, run_name="__main__")
        except BaseException as stop:
            if not isinstance(stop, SystemExit) or stop.code:
                os.write(terminal, f"{name}: {said.read_text()[-2000:]}\n".encode())
                raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
        gc.collect()
        gc.freeze()  # what it leaves is not searched for garbage by the next ones
