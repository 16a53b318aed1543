"""Phase 1: a self-supervised teacher.

accelerate launch scripts/train_teacher.py --output_dir outputs/teacher      (--help lists the options)
"""

from hf_vipriors.commands.train_teacher import main

if __name__ == "__main__":
    main()
