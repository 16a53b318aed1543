"""Phase 2: a classifier distilled from a teacher.

accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
"""

import sys
from pathlib import Path

# Not from this folder: its evaluate.py would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

from hf_vipriors.commands.train_student import main  # noqa: E402

if __name__ == "__main__":
    main()
