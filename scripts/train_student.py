"""Phase 2: a classifier distilled from a teacher.

accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("student")
