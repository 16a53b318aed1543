"""A model from the Hub is the one that was pushed, or an error: never another one silently."""

import pytest
import torch
from hub_server import Alter, CutReply, Truncate
from huggingface_hub.errors import RepositoryNotFoundError

from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.hub.teachers import load_teacher
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel
from hf_vipriors.models.download import verified_snapshot

NAME = "owner/teacher"


@pytest.fixture
def pushed(hub_here, tmp_path, tiny_config):
    """Put a teacher, or with ``classes`` a student, into a repository; returns the model."""

    def put(seed: int = 0, *, student: bool = False, branch: str = "main", private: bool = False):
        torch.manual_seed(seed)
        kind = VipriorsForImageClassification if student else VipriorsModel
        model, folder = kind(tiny_config(projector_dim=8)).eval(), tmp_path / f"{branch}{seed}"
        if student:
            export_native(model, folder)
        else:
            model.save_pretrained(folder)
        repository = hub_here.repositories.get(("model", NAME)) or hub_here.add(NAME, private=private)
        repository.push({path.name: path.read_bytes() for path in folder.iterdir()}, branch=branch)
        return model

    return put


def same(one, other) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_by_name_by_revision_and_from_the_cache(hub_here, pushed, monkeypatch):
    first = pushed(0)
    old = hub_here.repository(NAME).history()[0].oid
    second = pushed(1)
    assert same(VipriorsModel.from_pretrained(NAME), second)
    assert same(VipriorsModel.from_pretrained(NAME, revision=old), first)
    assert same(load_teacher(NAME, revision=old), first)
    hub_here.stop()
    assert same(VipriorsModel.from_pretrained(NAME, local_files_only=True), second)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(VipriorsModel.from_pretrained(NAME), second) and same(load_teacher(NAME), second)


def test_private(hub_here, pushed, monkeypatch):
    model = pushed(private=True)
    with pytest.raises(RepositoryNotFoundError):
        VipriorsModel.from_pretrained(NAME)
    with pytest.raises(InputError, match="hf auth login"):
        load_teacher(NAME)
    assert same(VipriorsModel.from_pretrained(NAME, token=hub_here.read_token), model)
    monkeypatch.setenv("HF_TOKEN", hub_here.read_token)
    assert same(load_teacher(NAME), model)


@pytest.mark.parametrize("student", [False, True])
@pytest.mark.parametrize("path", ["^/cdn/", "resolve/.*/config.json"])
def test_altered_on_the_way(hub_here, pushed, student, path):
    model = pushed(student=student)
    hub_here.order(Alter(), "GET", path)
    with pytest.raises(InputError, match="checksum is not the Hub's"):
        load_teacher(NAME)
    assert same(load_teacher(NAME), model), "what was damaged is downloaded anew"


@pytest.mark.parametrize("fault", [Truncate(to=1000), CutReply(after=1000)])
def test_truncated_on_the_way(hub_here, pushed, fault):
    model = pushed()
    hub_here.order(fault, "GET", "^/cdn/")
    try:
        found = VipriorsModel.from_pretrained(NAME)
    except (InputError, OSError):
        found = VipriorsModel.from_pretrained(NAME)
    assert same(found, model)


def test_damaged_in_the_cache(hub_here, pushed):
    model = pushed()
    folder = verified_snapshot(NAME)
    weights = folder / "model.safetensors"
    blob = weights.resolve()
    content = bytearray(blob.read_bytes())
    content[-3] ^= 1  # a weight, not the header: safetensors would load it
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(InputError, match="model.safetensors of owner/teacher was damaged") as error:
        load_teacher(NAME)
    assert "\n" not in error.value.on_command_line and not weights.exists()
    assert same(load_teacher(NAME), model)


def test_pickles_are_not_read(hub_here, pushed, tmp_path):
    model = pushed()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    repository = hub_here.repository(NAME)
    pickled = {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()}
    repository.push(pickled, delete=["model.safetensors"])
    with pytest.raises(InputError, match="no weights as safetensors"):
        load_teacher(NAME)
    with pytest.raises(OSError, match="safetensors"):
        VipriorsModel.from_pretrained(NAME)
    assert not hub_here.requests("GET", "pytorch_model.bin"), "it is not even downloaded"
