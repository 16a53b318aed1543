"""A whole table, several seeds of every run in it.

python scripts/reproduce.py --table relatives      (--help lists the options)
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("reproduce")
