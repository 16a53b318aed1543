"""Phase 1: a self-supervised teacher.

accelerate launch scripts/train_teacher.py --output_dir outputs/teacher      (--help lists the options)
"""

import sys
from pathlib import Path

# Not from this folder: its evaluate.py would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

from hf_vipriors.commands.train_teacher import main  # noqa: E402

if __name__ == "__main__":
    main()
