"""How close does a real training come to what this machine can do?

python scripts/benchmark.py      (--help lists the options)
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("benchmark")
