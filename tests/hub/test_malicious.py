"""Checkpoints made to do harm are refused with one line, and do none."""

import json
import pickle
import struct

import pytest
import torch

from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.hub.teachers import load_teacher
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel

HUGE = {
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 200 MB that is not there": struct.pack("<Q", 200_000_000) + b"{}",
    "a header longer than the file": struct.pack("<Q", 90_000_000) + b"{}",
    "offsets beyond the end": struct.pack("<Q", 64)
    + b'{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,9999999999]}}'.ljust(64),
    "a shape of 2^60 numbers": struct.pack("<Q", 72)
    + b'{"x":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}'.ljust(72)
    + b"1234",
}


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.fixture
def teacher(tmp_path, tiny_config):
    VipriorsModel(tiny_config(projector_dim=8)).save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def refused(load, name, *words: str) -> None:
    with pytest.raises(InputError) as error:
        load(str(name))
    line = error.value.on_command_line
    assert "\n" not in line and len(line) < 700 and all(word in line for word in words), line


@pytest.mark.parametrize("content", HUGE.values(), ids=HUGE)
def test_headers_that_lie(teacher, tmp_path, tiny_config, content):
    (teacher / "model.safetensors").write_bytes(content)
    refused(load_teacher, teacher, str(teacher))
    student = export_native(VipriorsForImageClassification(tiny_config()), tmp_path / "student")
    (student / "model.safetensors").write_bytes(content)
    refused(load_native, student, "model.safetensors")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "teacher.pth.tar", "teacher.pt"])
def test_pickles_do_not_explode(teacher, tmp_path, name):
    mark, weights = tmp_path / "mark", teacher / name
    (teacher / "model.safetensors").unlink()
    weights.write_bytes(pickle.dumps(Bomb(mark)))
    refused(load_teacher, weights if name.startswith("teacher") else teacher)
    torch.save({"state_dict": Bomb(mark)}, weights)
    refused(load_teacher, weights if name.startswith("teacher") else teacher)
    assert not mark.exists()


@pytest.mark.parametrize("elsewhere", ["../secret.safetensors", "/etc/passwd", "part/../../secret.safetensors", 3])
def test_weights_that_lie_elsewhere(teacher, elsewhere):
    (teacher / "model.safetensors").rename(teacher.parent / "secret.safetensors")
    index = {"metadata": {}, "weight_map": {"projector.0.weight": elsewhere}}
    (teacher / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="lies elsewhere|damaged"):
        VipriorsModel.from_pretrained(teacher)


@pytest.mark.parametrize("name", ["model/../../../../../evil.safetensors", "model/../../evil.safetensors"])
def test_file_names_that_climb(hub_here, teacher, tmp_path, name):
    files = {path.name: path.read_bytes() for path in teacher.iterdir()}
    hub_here.add("owner/climber").push(files | {name: b"evil"})
    refused(load_teacher, "owner/climber", "owner/climber")
    assert not list(tmp_path.rglob("evil*"))


def test_code_in_a_repository_is_not_run(hub_here, teacher, tmp_path):
    mark = tmp_path / "mark"
    program = f"open({str(mark)!r}, 'w')\nclass VipriorsConfig: pass\nclass VipriorsModel: pass\n".encode()
    files = {path.name: path.read_bytes() for path in teacher.iterdir()}
    config = json.loads(files["config.json"])
    config["auto_map"] = {"AutoConfig": "evil.VipriorsConfig", "AutoModel": "evil.VipriorsModel"}
    hub_here.add("owner/ours").push(files | {"config.json": json.dumps(config).encode(), "evil.py": program})
    assert type(load_teacher("owner/ours")) is VipriorsModel
    config["model_type"] = "something_new"
    hub_here.add("owner/new").push(files | {"config.json": json.dumps(config).encode(), "evil.py": program})
    refused(load_teacher, "owner/new", "needs code from its repository, which is never run here")
    assert not mark.exists() and not hub_here.requests("GET", "evil.py")
