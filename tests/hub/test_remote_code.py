"""The files that lie beside a teacher on the Hub give our numbers where hf_vipriors is not installed."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from transformers import AutoModel

from hf_vipriors.data import ResizeCrop
from hf_vipriors.hub.repository_files import model_files
from hf_vipriors.hub.upload import upload
from hf_vipriors.models import VipriorsModel
from hf_vipriors.views import EvaluationView

# Arguments: name on the Hub, file to write. Whoever runs this allows the repository's code to run; we never do.
STRANGER = """
import sys
sys.modules["hf_vipriors"] = None
import torch
from transformers import AutoImageProcessor, AutoModel
from PIL import Image
for name in sys.argv[2:]:
    model = AutoModel.from_pretrained(name, trust_remote_code=True).eval()
    side = model.config.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(images)
    processor = AutoImageProcessor.from_pretrained(name)
    pixels = processor(Image.open(f"{sys.argv[1]}/photo.png"), return_tensors="pt")["pixel_values"][0]
    torch.save((output.pooled, output.projection, pixels), f"{sys.argv[1]}/{name.split('/')[1]}.pt")
"""
TEACHERS = {
    "moco": {"projector_dim": 8},
    "simclr": {"projector_dim": 8, "projector_hidden_dim": 12, "projector_batch_norm": True},
    "linear": {"projector_dim": 8, "projector_hidden_dim": 0},
    "bare": {},
    "vit": {"backbone": "test_vit", "projector_dim": 4},
}


@pytest.mark.slow
def test_strangers_get_our_features(hub_here, tmp_path, tiny_config, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_here.write_token)
    teachers = {}
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((110, 90)).save(tmp_path / "photo.png")
    for name, options in TEACHERS.items():
        torch.manual_seed(0)
        teachers[name] = VipriorsModel(tiny_config(**options)).eval()
        teachers[name].save_pretrained(tmp_path / name)
        upload(model_files(tmp_path / name, f"owner/{name}"))
    command = [sys.executable, "-I", "-c", STRANGER, str(tmp_path), *(f"owner/{name}" for name in TEACHERS)]
    environment = hub_here.environment(tmp_path / "another_home")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, teacher in teachers.items():
        side = teacher.config.image_size
        images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours = teacher(images)
        pooled, projection, pixels = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        torch.testing.assert_close(pooled, ours.pooled)
        config = teacher.config
        geometry = ResizeCrop(math.floor(side / config.crop_pct), side, config.interpolation)
        cropped = pil_to_tensor(geometry(Image.open(tmp_path / "photo.png")))
        wanted = EvaluationView(config.image_mean, config.image_std)(cropped[None])
        assert pixels.shape == (3, side, side)
        torch.testing.assert_close(pixels, wanted[0], rtol=0, atol=0.05)  # theirs rounds in another place
        assert (projection is None) == (ours.projection is None)
        if projection is not None:
            torch.testing.assert_close(projection, ours.projection)


def test_our_own_class_runs_none_of_it(hub_here, tmp_path, tiny_config, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_here.write_token)
    teacher = VipriorsModel(tiny_config(projector_dim=8)).eval()
    teacher.save_pretrained(tmp_path / "teacher")
    upload(model_files(tmp_path / "teacher", "owner/teacher"))
    again = AutoModel.from_pretrained("owner/teacher")
    assert type(again) is VipriorsModel
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(images).projection, teacher(images).projection)
    again.save_pretrained(tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "config.json").read_text()), "its files are not there"
