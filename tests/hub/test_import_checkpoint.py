"""Published checkpoint layouts, written here as their programs write them, and what must be refused."""

import argparse
import functools
import logging
import os
import pickle

import pytest
import torch
from torch import nn
from torchvision.models import (
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    resnext101_32x8d,
    wide_resnet50_2,
)

from hf_vipriors.errors import InputError
from hf_vipriors.hub import import_checkpoint as room
from hf_vipriors.hub.import_checkpoint import import_checkpoint, listed
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel


def published(network: nn.Module, head: nn.Module) -> nn.Module:
    """A torchvision ResNet with a projector as its last layer; its batch norms are not as they were initialised."""
    network.fc = head
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.5)
                module.num_batches_tracked.add_(7)
    return network.eval()


def linear_head() -> nn.Module:
    return nn.Linear(512, 16)


def hidden_head() -> nn.Module:
    return nn.Sequential(nn.Linear(512, 24), nn.ReLU(), nn.Linear(24, 16))


def norm_head() -> nn.Module:
    return nn.Sequential(nn.Linear(512, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 16))


def moco(network: nn.Module) -> dict:
    query = {f"module.encoder_q.{name}": tensor for name, tensor in network.state_dict().items()}
    key = {f"module.encoder_k.{name}": tensor + 1 for name, tensor in network.state_dict().items()}
    queue = {"module.queue": torch.rand(16, 32), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    momentum = {0: {"momentum_buffer": torch.rand(3)}}
    optimizer = {"state": momentum, "param_groups": [{"lr": 0.03, "nesterov": False, "params": [0]}]}
    return {"epoch": 200, "arch": "resnet18", "state_dict": query | key | queue, "optimizer": optimizer}


def simclr(network: nn.Module) -> dict:
    state = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    return {"epoch": 100, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def swav(network: nn.Module) -> dict:
    """The published file is the bare state_dict."""
    state = {
        "module." + (name.replace("fc.", "projection_head.", 1) if name.startswith("fc.") else name): tensor
        for name, tensor in network.state_dict().items()
    }
    return state | {"module.prototypes.weight": torch.rand(30, 16)}


@functools.cache
def simclr_file() -> dict:
    """One for all tests that spoil it; they copy what they change."""
    return simclr(published(resnet18(), hidden_head()))


def images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def written(content: object, folder, name: str = "file.pth.tar"):
    torch.save(content, folder / name)
    return folder / name


@torch.no_grad()
def assert_same(model: VipriorsModel, network: nn.Module) -> None:
    output, head = model(images()), network.fc
    network.fc = nn.Identity()
    features = network(images())
    network.fc = head
    torch.testing.assert_close(output.pooled, features, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.projection, head(features), rtol=1e-5, atol=1e-5)
    assert not model.training


@pytest.mark.parametrize(
    ("layout", "head", "left_out", "mean_of_red"),
    [
        (moco, linear_head, ["encoder_k (122 tensors)", "queue", "queue_ptr", "optimizer"], 0.485),
        (moco, hidden_head, ["encoder_k (124 tensors)", "queue", "queue_ptr", "optimizer"], 0.485),
        (simclr, hidden_head, ["optimizer"], 0.0),
        (swav, norm_head, ["prototypes"], 0.485),
        (swav, linear_head, ["prototypes"], 0.485),
    ],
    ids=["moco_v1", "moco_v2", "simclr", "swav", "swav_linear"],
)
def test_features_and_projections_of_each_layout(layout, head, left_out, mean_of_red, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_vipriors"), "propagate", True)  # a command may have switched it off
    network = published(resnet18(), head())
    path = written(layout(network), tmp_path)
    with caplog.at_level(logging.INFO, logger=room.logger.name):
        model = import_checkpoint(path)
    assert_same(model, network)
    assert model.config.backbone == "resnet18" and model.config.backbone_args is None
    assert model.config.image_mean[0] == mean_of_red
    (line,) = set(caplog.messages)  # pytest hears it twice where a command has switched propagation off before
    assert all(words in line.split("left out:")[1] for words in left_out) and "\n" not in line


def test_the_converted_teacher_is_saved_and_starts_a_student(tmp_path):
    network = published(resnet18(), linear_head())
    import_checkpoint(written(moco(network), tmp_path)).save_pretrained(tmp_path / "teacher")
    teacher = VipriorsModel.from_pretrained(tmp_path / "teacher")
    assert_same(teacher, network)
    config = VipriorsConfig.for_backbone("resnet18", image_size=64, class_names=["cat", "dog"])
    student = VipriorsForImageClassification(config).eval()
    student.load_backbone_from(teacher)
    with torch.no_grad():
        assert torch.equal(student.features(images()), teacher.features(images()))


def test_swav_without_projector(tmp_path):
    network = published(resnet18(), nn.Identity())
    path = written({f"module.{name}": each for name, each in network.state_dict().items()}, tmp_path, "converted.pth")
    model = import_checkpoint(path)
    assert model.projector is None
    with torch.no_grad():
        torch.testing.assert_close(model(images()).pooled, network(images()), rtol=1e-5, atol=1e-5)


def test_prefixes_are_optional(tmp_path):
    network = published(resnet18(), hidden_head())
    content = moco(network)
    content["state_dict"] = {k.removeprefix("module."): v for k, v in content["state_dict"].items()}
    assert_same(import_checkpoint(written(content, tmp_path)), network)
    content = simclr(network)
    content["state_dict"] = {"module." + k: v for k, v in content["state_dict"].items()}
    assert_same(import_checkpoint(written(content, tmp_path)), network)


def test_a_network_of_bottlenecks(tmp_path):
    network = published(resnet50(), nn.Linear(2048, 8))
    model = import_checkpoint(written(moco(network), tmp_path), image_size=64)
    assert (model.config.backbone, model.config.image_size) == ("resnet50", 64)
    assert_same(model, network)


@pytest.mark.parametrize(
    ("build", "name", "arguments"),
    [
        (resnet34, "resnet34", None),
        (resnet101, "resnet101", None),
        (resnet152, "resnet152", None),
        (resnext50_32x4d, "resnet50", {"cardinality": 32, "base_width": 4}),
        (resnext101_32x8d, "resnet101", {"cardinality": 32, "base_width": 8}),
        (wide_resnet50_2, "resnet50", {"cardinality": 1, "base_width": 128}),
    ],
)
def test_networks_are_recognised_from_their_shapes(build, name, arguments, tmp_path):
    with torch.device("meta"):
        theirs = {k: each for k, each in build().state_dict().items() if not k.startswith("fc.")}
        assert room._network(theirs, room.SWAV, tmp_path) == (name, arguments)
        ours = VipriorsModel(VipriorsConfig(backbone=name, backbone_args=arguments, image_size=64)).backbone
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.items()}


def test_our_narrow_resnets_are_recognised(tmp_path):
    config = VipriorsConfig.for_backbone(
        "resnet18", image_size=32, backbone_args={"channels": [8, 8, 16, 16]}, projector_dim=4
    )
    ours = VipriorsModel(config).eval()
    names = {"backbone.": "encoder_q.", "projector.": "encoder_q.fc."}
    state = {}
    for name, tensor in ours.state_dict().items():
        part = name.partition(".")[0] + "."
        state[names[part] + name.removeprefix(part)] = tensor
    model = import_checkpoint(written({"state_dict": state}, tmp_path))
    assert model.config.backbone_args == {"channels": [8, 8, 16, 16]}
    with torch.no_grad():
        assert torch.equal(model(images()).projection, ours(images()).projection)


def test_wide_swav_is_recognised_from_its_shapes(tmp_path):
    with torch.device("meta"):
        wide = VipriorsModel(VipriorsConfig(backbone="resnet50w2", image_size=64))
    state = {name.removeprefix("backbone."): tensor for name, tensor in wide.state_dict().items()}
    assert room._network(state, room.SWAV, tmp_path) == ("resnet50w2", None)


def test_random_numbers_are_not_spent(tmp_path):
    path = written(simclr_file(), tmp_path)
    torch.manual_seed(3)
    import_checkpoint(path)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)


def changed(content: dict, change) -> dict:
    state = dict(content["state_dict"])
    change(state)
    return content | {"state_dict": state}


FIRST = "backbone.layer1.0.bn1.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(FIRST), f"1 missing ({FIRST})"),
        (lambda s: s.update({"backbone.layer1.0.bn9.weight": torch.ones(1)}), "1 left over"),
        (lambda s: s.update({"ema.weight": torch.ones(1)}), "1 left over (ema.weight)"),
        (lambda s: s.update({FIRST: torch.ones(3)}), f"1 of another shape ({FIRST} is (3,), not (64,))"),
        (lambda s: s.update({FIRST: torch.full((64,), float("nan"))}), "not finite"),
        (lambda s: s.pop("backbone.conv1.weight"), "lacks backbone.conv1.weight"),
        (lambda s: s.pop("backbone.fc.0.weight"), "lacks backbone.fc.0.weight"),
        (lambda s: s.pop("backbone.fc.0.bias"), "1 missing (backbone.fc.0.bias)"),
        (lambda s: s.update({"backbone.fc.3.weight": torch.ones(1)}), "projector"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("backbone.layer4.1.")], "(2, 2, 2, 1) basic blocks"),
    ],
)
def test_every_key_is_accounted_for(change, words, tmp_path):
    path = written(changed(simclr_file(), change), tmp_path)
    with pytest.raises(InputError) as error:
        import_checkpoint(path)
    assert words in error.value.on_command_line and str(path) in error.value.on_command_line
    assert "\n" not in error.value.on_command_line and len(error.value.on_command_line) < 500


def test_long_lists_are_cut_short(tmp_path):
    def change(state):
        for number in range(40):
            state[f"extra{number:02}.weight"] = torch.ones(1)

    path = written(changed(simclr_file(), change), tmp_path)
    with pytest.raises(InputError, match=r"40 left over \(extra00.weight, .*extra04.weight and 35 more\)"):
        import_checkpoint(path)


def test_a_supervised_classifier_is_not_taken_for_a_teacher(tmp_path):
    with pytest.raises(InputError, match=r"2 left over \(fc.bias, fc.weight\)"):
        import_checkpoint(written(resnet18().state_dict(), tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {"blocks.0.weight": torch.ones(1)}}, "no MoCo, SimCLR or SwAV"),
        ({"state_dict": {}}, "no state_dict"),
        ({"epoch": 3, "loss": 0.5}, "fields are epoch, loss"),
        ([torch.ones(1)], "holds a list"),
    ],
)
def test_another_kind_of_file(content, words, tmp_path):
    with pytest.raises(InputError, match=words):
        import_checkpoint(written(content, tmp_path))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_not_run(legacy, tmp_path):
    trace = tmp_path / "it_ran"
    path = tmp_path / "evil.pth.tar"
    content = {"state_dict": {"conv1.weight": torch.ones(1)}, "extra": Malicious(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"posix.system|nt.system"):
        import_checkpoint(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(content))
    assert trace.exists(), "what the file holds must be such as would have run"


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    trace, path = tmp_path / "it_ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(InputError):
        import_checkpoint(path)
    assert not trace.exists()


def test_settings_of_an_old_program_are_named_and_not_unpickled(tmp_path):
    content = simclr_file() | {"args": argparse.Namespace(lr=0.1)}
    with pytest.raises(InputError, match=r"argparse.Namespace is refused.*save its state_dict alone"):
        import_checkpoint(written(content, tmp_path))


@pytest.mark.parametrize("keep", [0, 10, 2000, 0.5, 0.99])
def test_a_truncated_file(keep, tmp_path):
    path = written(simclr_file(), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match="damaged") as error:
        import_checkpoint(path)
    assert "\n" not in error.value.on_command_line


def test_a_text_file_and_no_file(tmp_path):
    (tmp_path / "notes.pt").write_text("hello")
    with pytest.raises(InputError, match="damaged"):
        import_checkpoint(tmp_path / "notes.pt")
    with pytest.raises(InputError, match="no such file"):
        import_checkpoint(tmp_path / "nothing.pth")


def test_listed():
    assert listed(["b", "a"]) == "a, b" and listed(list("gfedcba")) == "a, b, c, d, e and 2 more"
