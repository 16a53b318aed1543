"""Everything once, on the photographs that ship with the package, in about eight minutes on two cores.

accelerate launch scripts/quickstart.py            one seed
accelerate launch scripts/quickstart.py --full     three seeds, longer
"""

from pathlib import Path

from hf_vipriors.commands.quickstart import main

if __name__ == "__main__":
    main(recipes=Path(__file__).parent / "recipes")
