"""A whole table, several seeds of every run in it.

python scripts/reproduce.py --table relatives      (--help lists the options)
"""

import sys
from pathlib import Path

# Not from this folder: its evaluate.py would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

from hf_vipriors.commands.reproduce import main  # noqa: E402

if __name__ == "__main__":
    main(recipes=Path(__file__).parent / "recipes")
