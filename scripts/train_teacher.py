"""Phase 1: a self-supervised teacher.

accelerate launch scripts/train_teacher.py --output_dir outputs/teacher      (--help lists the options)
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("teacher")
