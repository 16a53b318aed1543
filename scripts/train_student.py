"""Phase 2: a classifier distilled from a teacher.

accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
"""

from hf_vipriors.commands.train_student import main

if __name__ == "__main__":
    main()
