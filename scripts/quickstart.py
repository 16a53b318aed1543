"""Everything once, on the photographs that ship with the package, in about seven minutes on two cores.

accelerate launch scripts/quickstart.py            one seed
accelerate launch scripts/quickstart.py --full     three seeds, longer
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("quickstart")
