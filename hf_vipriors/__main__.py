"""``python -m hf_vipriors JOB``, and ``accelerate launch -m hf_vipriors JOB``."""

from .cli.main import main

if __name__ == "__main__":
    main()
