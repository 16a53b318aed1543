"""A student without labels: SEED from a teacher, or DoGo with a peer.

accelerate launch scripts/pretrain_student.py --method seed --teacher outputs/teacher      (--help lists the options)
"""

import sys
from pathlib import Path

# Not from this folder: its evaluate.py would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

from hf_vipriors.commands.pretrain_student import main  # noqa: E402

if __name__ == "__main__":
    main()
