"""Everything once, on the photographs that ship with the package, in eight to eleven minutes on two cores.

accelerate launch scripts/quickstart.py                          5 labels a class, four choices of them
accelerate launch scripts/quickstart.py --images_per_class 50    50 labels a class
accelerate launch scripts/quickstart.py --full                   three times as long
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("quickstart")
