"""Push a trained student or teacher to the Hub.

python scripts/push_to_hub.py --model outputs/student --repo_id me/my-flowers --dry_run
"""

from hf_vipriors.cli.main import run_script

if __name__ == "__main__":
    run_script("push")
