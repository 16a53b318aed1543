"""The README's line for a rented GPU: read by the parser of ``hf``, and what it would run there is run here."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from hf_vipriors.cli.main import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SMALL = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
QUICK = ["--max_steps", "2", "--use_cpu", "--disable_tqdm", "true", "--image_size", "32", "--save_strategy", "no"]


def test_the_job_trains_in_an_empty_folder_and_pushes(logged_in, photos, tmp_path, monkeypatch):
    (line,) = re.findall(r"^hf (jobs uv run .*)$", README, flags=re.MULTILINE)
    words = shlex.split(line.replace(" me/", " owner/"))
    program = [sys.executable, "-m", "huggingface_hub.cli.hf", *words[:3], "--dry-run", *words[3:]]
    environment = logged_in.environment(tmp_path / "home", logged_in.write_token) | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    job = dict(re.findall(r"^ +(\w+) +(.*)$", done.stdout, flags=re.MULTILINE))
    assert job["script"] == "hf-vipriors" and job["with"].startswith("git+https://")
    assert job["secrets"] == "HF_TOKEN=***" and job["timeout"] == "4h" and job["flavor"] != "cpu-basic"
    # A local folder wins over a name on the Hub, and is all that lies here.
    (tmp_path / "job" / "owner").mkdir(parents=True)
    (tmp_path / "job" / "owner" / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path / "job")
    main([*shlex.split(job["args"]), *QUICK, "--backbone_args", str(SMALL).replace("'", '"')])
    files = logged_in.repository("owner/photos-student").files()
    assert {"model.safetensors", "README.md", "recipe.yaml"} <= set(files)
    assert files["model.safetensors"] == Path("student/model.safetensors").read_bytes()
