"""Score students and teachers.

python scripts/evaluate.py --model outputs/student outputs/baseline
"""

from hf_vipriors.commands.evaluate import main

if __name__ == "__main__":
    main()
