"""The README's Python block is run as it stands, on a small folder, with a small network and few steps."""

import re
import shutil
from pathlib import Path

import torch
from transformers import pipeline

from hf_vipriors.models import VipriorsModel

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
QUICK = "max_steps=2, logging_steps=1, use_cpu=True, report_to='none', disable_tqdm=True"
SMALL = "image_size=32, backbone_args={'channels': [8, 8, 16, 16], 'stem_type': 'deep', 'stem_width': 4}"


def test_the_python_block_runs_and_leaves_what_it_says(photos, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"## In Python.*?```python\n(.*?)```", README, flags=re.S)
    for given, more in (('TeacherArguments("teacher"', f"{QUICK}, {SMALL}"), ('method="fixmatch"', QUICK)):
        assert code.count(given) == 1
        code = code.replace(given, f"{given}, {more}")
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation", "test"):
        shutil.copytree(photos / split, tmp_path / "photos" / split)
    shutil.copytree(photos / "unlabelled", tmp_path / "more_photos")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "eval_top1" in capsys.readouterr().out
    assert names["logits"].shape == (12, 3)
    assert VipriorsModel.from_pretrained("teacher").config.backbone == "resnet18"
    found = pipeline("image-classification", model="student")(str(photos / "test" / "red" / "0.png"))
    assert {each["label"] for each in found} == {"red", "green", "blue"}
    kept = names["student"].model.deployable().backbone.state_dict()
    served = pipeline("image-classification", model="student").model.timm_model.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in served.items())
    assert "fixmatch" in (tmp_path / "student" / "README.md").read_text()
