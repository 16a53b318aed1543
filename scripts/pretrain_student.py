"""A student without labels: SEED from a teacher, or DoGo with a peer.

accelerate launch scripts/pretrain_student.py --method seed --teacher outputs/teacher      (--help lists the options)
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("pretrain")
