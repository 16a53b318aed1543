"""Every kind of name that --teacher takes, and one clear line for every name that it does not."""

import json
import shutil

import pytest
import timm
import torch
import transformers as t
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from hf_vipriors.backbones import StageTaps
from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.hub.teachers import load_ours, load_teacher
from hf_vipriors.models import (
    ExternalForImageClassification,
    ExternalModel,
    VipriorsConfig,
    VipriorsForImageClassification,
    VipriorsModel,
)

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
NAMES = {0: "cat", 1: "dog", 2: "owl"}
CONFIGS = {
    "ViT": t.ViTConfig(intermediate_size=32, id2label=NAMES, **VIT),
    "Dinov2": t.Dinov2Config(mlp_ratio=2, id2label=NAMES, **VIT),
    "Swin": t.SwinConfig(
        embed_dim=8, depths=[1, 1], num_heads=[1, 2], image_size=32, patch_size=2, window_size=4, id2label=NAMES
    ),
    "ConvNext": t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, id2label=NAMES),
}


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def transformers_folder(folder, family: str, *, classifies: bool = False, processor: bool = True):
    torch.manual_seed(0)
    kinds = t.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING if classifies else t.MODEL_MAPPING
    model = kinds[type(CONFIGS[family])](CONFIGS[family]).eval()
    model.save_pretrained(folder)
    if processor:
        t.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4] * 3).save_pretrained(folder)
    return model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hub cache; ``cache("owner/name", folder)`` puts a folder there as if it had been downloaded."""
    root = tmp_path / "cache"
    root.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))

    def add(name: str, folder, revision: str = "main") -> None:
        repository, commit = (
            root / f"models--{name.replace('/', '--')}",
            "0" * 39 + str(len(list(root.glob("*/refs/*")))),
        )
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)

    return add


def refused(name, *words: str, **options) -> str:
    with pytest.raises(InputError) as error:
        load_teacher(str(name), **options)
    line = error.value.on_command_line
    assert "\n" not in line and len(line) < 700 and all(word in line for word in words), line
    return line


# Ours


@torch.no_grad()
def test_our_folders(tiny_config, tmp_path):
    torch.manual_seed(1)
    ssl = VipriorsModel(tiny_config(projector_dim=8)).eval()
    student = VipriorsForImageClassification(tiny_config()).eval()
    ssl.save_pretrained(tmp_path / "ssl")
    student.save_pretrained(tmp_path / "checkpoint")
    export_native(student, tmp_path / "student")
    assert torch.equal(load_teacher(str(tmp_path / "ssl"))(images()).projection, ssl(images()).projection)
    for name in ("checkpoint", "student"):
        again = load_teacher(str(tmp_path / name))
        assert isinstance(again, VipriorsForImageClassification) and not again.training
        assert torch.equal(again(images()).logits, student(images()).logits)
        assert torch.equal(load_ours(str(tmp_path / name), "model")(images()).logits, student(images()).logits)


@pytest.mark.parametrize("save", [VipriorsForImageClassification.save_pretrained, export_native])
def test_weights_that_are_no_numbers(save, tiny_config, tmp_path):
    student = VipriorsForImageClassification(tiny_config())
    next(student.parameters()).data[0] = torch.inf
    save(student, tmp_path / "student")
    refused(tmp_path / "student", "holds NaN or infinity, in backbone.", "--learning_rate")
    with pytest.raises(InputError, match="student \\(model\\) holds NaN or infinity"):
        load_ours(str(tmp_path / "student"), "model")


def test_a_folder_of_ours_that_is_not_whole(tiny_config, tmp_path):
    VipriorsModel(tiny_config(projector_dim=8)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("projector.0.bias")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    refused(tmp_path, str(tmp_path), "lacks projector.0.bias", "--start", flag="start")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    refused(tmp_path, str(tmp_path), "--teacher", "cannot be read")
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "no model.safetensors")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "damaged")
    (tmp_path / "config.json").unlink()
    refused(tmp_path, "no model in", "--teacher")


def test_a_published_file(tmp_path):
    network = resnet18(num_classes=8)
    state = {f"module.encoder_q.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "moco.pth.tar")
    teacher = load_teacher(str(tmp_path / "moco.pth.tar"))
    assert teacher.config.projector_dim == 8 and not teacher.fixed_size
    refused(tmp_path / "moco.pth.tar", "revision", revision="main")
    refused(tmp_path / "mocco.pth.tar", "no such folder or file")


# transformers


@pytest.mark.parametrize("classifies", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_transformers_folders(family, classifies, tmp_path):
    model = transformers_folder(tmp_path, family, classifies=classifies)
    teacher = load_teacher(str(tmp_path))
    assert isinstance(teacher, ExternalForImageClassification if classifies else ExternalModel)
    assert teacher.fixed_size and not teacher.training
    config = teacher.config
    assert (config.image_size, config.image_mean, config.image_std) == (32, [0.4] * 3, [0.5] * 3)
    assert config.backbone == str(tmp_path) and teacher.dtype == torch.float32
    maps, final = StageTaps(teacher.backbone, 32)(images())
    assert all(each.ndim == 4 for each in maps)
    torch.testing.assert_close(teacher.backbone.forward_head(final, pre_logits=True), teacher.features(images()))
    if classifies:
        assert config.num_labels == 3 and config.id2label == NAMES
        torch.testing.assert_close(teacher(images()).logits, model(images()).logits)
    else:
        expected = model(images())
        pooled = expected.last_hidden_state[:, 0] if family == "ViT" else expected.pooler_output
        torch.testing.assert_close(teacher(images()).pooled, pooled)


def test_half_precision_becomes_float32(tmp_path):
    model = transformers_folder(tmp_path, "Dinov2").half()
    model.save_pretrained(tmp_path)
    assert load_teacher(str(tmp_path)).dtype == torch.float32


def drop(folder, *names: str) -> None:
    weights = load_file(folder / "model.safetensors")
    for name in names:
        weights.pop(name)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@torch.no_grad()
def test_a_missing_tensor_matters_where_it_reaches_the_features(tmp_path):
    model = transformers_folder(tmp_path, "ViT")
    drop(tmp_path, "pooler.dense.weight", "pooler.dense.bias")  # as of most checkpoints
    torch.testing.assert_close(load_teacher(str(tmp_path))(images()).pooled, model(images()).last_hidden_state[:, 0])
    drop(tmp_path, "layernorm.weight")
    refused(tmp_path, "no whole checkpoint", "lacks layernorm.weight:")


def test_without_an_image_processor(tmp_path):
    transformers_folder(tmp_path, "ViT", processor=False)
    refused(tmp_path, str(tmp_path), "image processor")


def test_damaged_weights(tmp_path):
    transformers_folder(tmp_path, "ViT")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:500])
    refused(tmp_path, str(tmp_path), "cannot be loaded")


def test_no_vision_model(tmp_path):
    config = t.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    t.BertModel(config).save_pretrained(tmp_path)
    refused(tmp_path, "bert", "no vision model")


def test_remote_code_is_never_run(tmp_path):
    ran = tmp_path / "it_ran"
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    description = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(description))
    refused(tmp_path, "needs code from its repository", "never run")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine"}))
    refused(tmp_path, "model_type 'mine'", "does not know")
    assert not ran.exists()


# timm


@pytest.fixture
def timm_weights(cache, tmp_path):
    """timm's test network, in the cache as timm's own repository of it."""
    torch.manual_seed(0)
    network = timm.create_model("test_vit.r160_in1k").eval()
    (tmp_path / "weights").mkdir()
    save_file(network.state_dict(), tmp_path / "weights" / "model.safetensors")
    return network


@pytest.mark.parametrize("name", ["timm/test_vit.r160_in1k", "timm:test_vit.r160_in1k", "timm:test_vit"])
@torch.no_grad()
def test_timm_names(name, timm_weights, cache, tmp_path):
    cache("timm/test_vit.r160_in1k", tmp_path / "weights")
    teacher = load_teacher(name)
    assert isinstance(teacher, VipriorsForImageClassification) and not teacher.training
    known = timm.get_pretrained_cfg("test_vit.r160_in1k")
    assert teacher.config.image_size == known.input_size[1] == 160 and teacher.fixed_size
    assert tuple(teacher.config.image_mean) == known.mean and teacher.config.num_labels == 1000
    assert torch.equal(teacher(images(160)).logits, timm_weights(images(160)))
    assert not any(tensor.is_meta for tensor in [*teacher.parameters(), *teacher.buffers()])
    teacher.save_pretrained(tmp_path / "saved")
    assert torch.equal(load_teacher(str(tmp_path / "saved"))(images(160)).logits, timm_weights(images(160)))


@torch.no_grad()
def test_timm_without_a_classifier(monkeypatch):
    network = timm.create_model("test_vit.r160_in1k", num_classes=0).eval()
    network.pretrained_cfg["num_classes"] = 0
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, **kw: network if pretrained else create(name, **kw)
    )
    teacher = load_teacher("timm:test_vit")
    assert isinstance(teacher, VipriorsModel) and torch.equal(teacher(images(160)).pooled, network(images(160)))


def test_timm_at_a_revision(timm_weights, cache, tmp_path):
    description = {"architecture": "test_vit", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 160, 160]}}
    description["pretrained_cfg"] |= {
        "fixed_input_size": True,
        "mean": [0.1] * 3,
        "std": [0.2] * 3,
        "num_classes": 1000,
    }
    description["pretrained_cfg"] |= {"interpolation": "bicubic", "crop_pct": 0.9, "classifier": "head"}
    (tmp_path / "weights" / "config.json").write_text(json.dumps(description))
    cache("timm/test_vit.r160_in1k", tmp_path / "weights", revision="v2")
    for name in ("timm/test_vit.r160_in1k", "timm:test_vit"):
        assert load_teacher(name, revision="v2").config.image_mean == [0.1] * 3
    assert load_teacher(str(tmp_path / "weights")).config.image_mean == [0.1] * 3, "a clone of such a repository"


def test_timm_names_that_do_not_exist(cache):
    refused("timm/resnet81.a1_in1k", "no network 'resnet81'", "'resnet18'")
    refused("timm/resnet18.a1_in2k", "no weights 'resnet18.a1_in2k'", "'resnet18.a1_in1k'")
    refused("timm:cifar_resnet20", "no pretrained weights", "--teacher")
    refused("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k", "cannot be reached", "go online")


# the Hub


@torch.no_grad()
def test_hub_names(cache, tiny_config, tmp_path):
    model = transformers_folder(tmp_path / "dino", "Dinov2")
    cache("somebody/dino", tmp_path / "dino")
    teacher = load_teacher("somebody/dino")
    torch.testing.assert_close(teacher(images()).pooled, model(images()).pooler_output)
    assert teacher.config.backbone == "somebody/dino"
    transformers_folder(tmp_path / "vit", "ViT", classifies=True)
    cache("somebody/vit", tmp_path / "vit", revision="old")
    assert isinstance(load_teacher("somebody/vit", revision="old"), ExternalForImageClassification)
    ours = VipriorsModel(tiny_config(projector_dim=8)).eval()
    ours.save_pretrained(tmp_path / "ours")
    cache("me/teacher", tmp_path / "ours")
    assert torch.equal(load_teacher("me/teacher")(images()).projection, ours(images()).projection)
    vit = VipriorsConfig.for_backbone("vit_tiny_patch16_224", image_size=32, num_labels=3)
    for number, config in enumerate((tiny_config(classes=3), vit)):  # one with arguments of its own, one of fixed size
        student = VipriorsForImageClassification(config)
        export_native(student, tmp_path / f"student{number}")
        cache(f"me/student{number}", tmp_path / f"student{number}")
        again = load_teacher(f"me/student{number}")
        assert torch.equal(again(images()).logits, student.eval()(images()).logits)
        assert again.config.image_size == 32 and again.config.num_labels == 3


def test_what_is_not_in_the_cache(cache):
    refused("somebody/nothing", "somebody/nothing (--teacher)", "cannot be reached", "folder")
    refused("resnet18", "resnet18", "cannot be reached", "timm:resnet18")


@pytest.mark.parametrize(
    "name", ["./teacher", "/no/teacher", "no/such/teacher", "teacher.pt", "HERE/missing", "outputs/new"]
)
def test_what_looks_like_a_path(name, tmp_path, monkeypatch):
    (tmp_path / "HERE").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(name, f"no such folder or file {name} (--start)", flag="start")
