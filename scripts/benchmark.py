"""How close does a real training come to what this machine can do?

python scripts/benchmark.py      (--help lists the options)
"""

import sys
from pathlib import Path

# Not from this folder: its evaluate.py would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

from hf_vipriors.commands.benchmark import main  # noqa: E402

if __name__ == "__main__":
    main()
