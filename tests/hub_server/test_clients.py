"""Whoever downloads through huggingface_hub finds the Hub on loopback: another process, transformers, timm."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from transformers import AutoModelForImageClassification, pipeline

from hf_vipriors.hub.native_export import export_native
from hf_vipriors.models import VipriorsForImageClassification
from hub_server import Status

NAME = "owner/student"
SCRIPT = """
import json, os, sys
from huggingface_hub import HfApi, constants, snapshot_download
oid = HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2]).oid
folder = snapshot_download(sys.argv[1])
print(json.dumps([oid, sorted(os.listdir(folder)), folder.startswith(constants.HF_HOME), sorted(os.environ)]))
"""


@pytest.fixture
def student(hub_here, tiny_config, tmp_path):
    """A student pushed to the Hub; its folder is gone."""
    torch.manual_seed(0)
    student = VipriorsForImageClassification(tiny_config()).eval()
    folder = export_native(student, tmp_path / "student")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    hub_here.add(NAME, private=True).push(files)
    return student


def test_another_process(hub, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/nowhere")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"w" * 1000)
    repository = hub.add("owner/m", private=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "owner/m", str(folder)],
        env=hub.environment(tmp_path / "home", hub.write_token),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    oid, names, at_home, variables = json.loads(done.stdout.splitlines()[-1])
    assert oid == repository.resolve("main").oid and names == [".gitattributes", "w.bin"] and at_home
    assert "HTTP_PROXY" not in variables and "HF_HUB_OFFLINE" not in variables
    assert {access.token for access in hub.log if not access.path.startswith(("/lfs/", "/cdn/"))} == {"write"}


@torch.no_grad()
def test_transformers_and_timm(hub_here, student, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_here.read_token)
    image = torch.rand(1, 3, 32, 32)
    expected = student(image).logits
    torch.testing.assert_close(AutoModelForImageClassification.from_pretrained(NAME)(image).logits, expected)
    torch.testing.assert_close(timm.create_model(f"hf-hub:{NAME}", pretrained=True).eval()(image), expected)
    assert pipeline("image-classification", model=NAME).model.config.num_labels == 4
    assert len(hub_here.requests("GET", "^/cdn/")) == 1
    unknown = [access.path for access in hub_here.log if access.status == 404 and "/resolve/" not in access.path]
    assert not unknown


def test_transformers_without_a_token(hub_here, student):
    with pytest.raises(OSError, match="owner/student is not a local folder|private|gated"):
        AutoModelForImageClassification.from_pretrained(NAME)
    with pytest.raises(Exception, match="Repository Not Found"):
        timm.create_model(f"hf-hub:{NAME}", pretrained=True)


def test_a_hub_that_is_down(hub_here, student, monkeypatch, waits):
    monkeypatch.setenv("HF_TOKEN", hub_here.read_token)
    hub_here.order(Status(503), "HEAD", "/resolve/", times=None)
    with pytest.raises(OSError, match="couldn't connect|load the files|error happened"):
        AutoModelForImageClassification.from_pretrained(NAME)
    assert waits
