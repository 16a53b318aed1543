"""Score students and teachers.

python scripts/evaluate.py --model outputs/student outputs/baseline
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("evaluate")
