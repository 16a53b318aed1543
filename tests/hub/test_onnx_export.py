"""The ONNX file is the student: same logits or no file; and what int8 costs is measured, not guessed."""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import timm
import torch
from onnxruntime import quantization
from PIL.Image import Resampling
from torch.onnx.errors import OnnxExporterError
from transformers import AutoConfig

from hf_vipriors.data import ResizeCrop, build_store, load_splits
from hf_vipriors.data.fashion import FASHION_CLASSES
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.classification import score
from hf_vipriors.evaluation.features import probabilities
from hf_vipriors.hub import onnx_export
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.hub.onnx_export import OnnxClassifier, check_onnx, export_onnx, onnx_accuracy, quantize_onnx
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.scoring import evaluate
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images
from hf_vipriors.training.stores import evaluation_store
from hf_vipriors.views import EvaluationView

QUICKSTART = {"channels": [4, 8, 16, 32], "stem_type": "deep", "stem_width": 4}
NETWORKS = {
    "resnet18": {"image_size": 32, "backbone_args": QUICKSTART, "crop_pct": 0.875, "image_mean": [0.4, 0.3, 0.2]},
    "test_convnext": {"image_size": 32, "interpolation": "bilinear"},
    "test_vit": {"image_size": 48},
}
CLASSES = sorted(FASHION_CLASSES)  # not in the order of the data set
FILES = ["config.json", "model.onnx", "model_quantized.onnx", "preprocessor_config.json"]


def student(name: str) -> VipriorsForImageClassification:
    """A classifier whose logits tell images and classes apart."""
    torch.manual_seed(0)
    config = VipriorsConfig.for_backbone(name, class_names=CLASSES, **NETWORKS[name])
    model = VipriorsForImageClassification(config)
    with torch.no_grad():
        model.train()(torch.randn(16, 3, config.image_size, config.image_size))  # batch norms with statistics
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    """Every network exported and quantised once; tests that change something take a copy."""
    root = tmp_path_factory.mktemp("exports")
    for name in NETWORKS:
        folder = export_native(student(name), root / name)
        native = contents(folder)
        generator = torch.get_rng_state()
        assert export_onnx(folder) == folder / "onnx" / "model.onnx"
        assert quantize_onnx(folder) == folder / "onnx" / "model_quantized.onnx"
        assert torch.equal(torch.get_rng_state(), generator)
        assert {path: data for path, data in contents(folder).items() if path.parent == Path()} == native
    return root


@pytest.fixture
def folder(exports, tmp_path) -> Path:
    return shutil.copytree(exports / "resnet18", tmp_path / "student")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def photographs(config: VipriorsConfig, count: int = 64) -> torch.Tensor:
    """Normalised, and other ones than those that the export itself looks at."""
    geometry = ResizeCrop(int(config.image_size / config.crop_pct), config.image_size, config.interpolation)
    store = build_store(load_splits("fashion-vipriors").splits["train"].select(range(count)), geometry)
    return EvaluationView(config.image_mean, config.image_std)(store.images)


def session(path: Path) -> onnxruntime.InferenceSession:
    """What a stranger opens who has onnxruntime only; with one thread, as the other tests."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def logits(path: Path, images: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(session(path).run(["logits"], {"pixel_values": images.numpy()})[0])


def change_a_weight(network: onnx.ModelProto, value: float = 1.0) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(network)
    tensor = next(each for each in changed.graph.initializer if each.name == "fc.bias")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += value
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return changed


@pytest.fixture
def quick(exports, monkeypatch):
    """``quick(change)``: torch's slow conversion gives the network that it gave before, changed."""
    network = onnx.load(exports / "resnet18" / "onnx" / "model.onnx")
    return lambda change: monkeypatch.setattr(onnx_export, "_graph", lambda model, directory: change(network))


@pytest.mark.parametrize("name", NETWORKS)
def test_strangers_get_our_logits(name, exports):
    model, path = load_native(exports / name), exports / name / "onnx" / "model.onnx"
    side = model.config.image_size
    images = torch.cat([photographs(model.config), torch.randn(6, 3, side, side)])
    with torch.no_grad():
        ours = model(images).logits
    assert ours.std(0).min() > 1e-2, "the images must make a difference"
    for batch in (1, 2, 7, 70):
        assert (logits(path, images[-batch:]) - ours[-batch:]).abs().max() <= 1e-4
    assert check_onnx(exports / name) <= 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_the_folder(name, exports):
    folder, side = exports / name, NETWORKS[name]["image_size"]
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == FILES
    assert not list(folder.glob(".*"))  # nothing temporary
    for file in ("model.onnx", "model_quantized.onnx"):
        network = onnx.load(folder / "onnx" / file)
        assert {each.domain: each.version for each in network.opset_import}[""] == 20
        opened = session(folder / "onnx" / file)
        signature = [(each.name, each.type, each.shape) for each in (*opened.get_inputs(), *opened.get_outputs())]
        assert signature == [
            ("pixel_values", "tensor(float)", ["batch_size", 3, side, side]),
            ("logits", "tensor(float)", ["batch_size", 10]),
        ]
        assert b".py" not in (folder / "onnx" / file).read_bytes()  # no stack traces, no paths of this machine


@pytest.mark.parametrize("name", NETWORKS)
def test_transformers_js_finds_the_preprocessing_of_timm(name, exports):
    folder, config = exports / name / "onnx", load_native(exports / name).config
    classes = json.loads((folder / "config.json").read_text())
    image = json.loads((folder / "preprocessor_config.json").read_text())
    assert [classes["id2label"][str(i)] for i in range(10)] == CLASSES
    network = timm.create_model(f"local-dir:{exports / name}", pretrained=True)
    chain = timm.data.create_transform(**timm.data.resolve_model_data_config(network)).transforms
    resize, crop, _, normalise = chain
    assert image["size"] == {"shortest_edge": resize.size}
    assert Resampling(image["resample"]).name.lower() == resize.interpolation.value
    assert (image["crop_size"]["height"], image["crop_size"]["width"]) == tuple(crop.size)
    assert image["image_mean"] == pytest.approx(normalise.mean.tolist())
    assert image["image_std"] == pytest.approx(normalise.std.tolist())
    assert all(image[f"do_{step}"] is True for step in ("resize", "center_crop", "rescale", "normalize"))
    assert (config.crop_pct == 1) == (resize.size == config.image_size)
    with pytest.raises(ValueError, match="mobilenet_v4"):  # and Python does not take the inner folder for a student
        AutoConfig.from_pretrained(folder)


def test_weights_exported_again_are_not_those_of_the_old_file(folder):
    before = contents(folder / "onnx")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["layer3.0.conv1.weight"][0, 0, 1, 1] += 1  # one number of 45,262
    safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for use in (check_onnx, quantize_onnx, lambda student: onnx_accuracy(student, lambda model: 1.0)):
        with pytest.raises(InputError, match="no copy of the weights.*differ"):
            use(folder)
    assert contents(folder / "onnx") == before and not list(folder.glob(".*"))


def test_a_file_of_another_network_is_not_that_of_these_weights(exports, folder):
    for other in ("test_convnext", "test_vit"):  # the same input, and another
        shutil.copy(exports / other / "onnx" / "model.onnx", folder / "onnx")
        with pytest.raises(InputError, match="no copy of the weights"):
            check_onnx(folder)
    (folder / "onnx" / "model.onnx").write_bytes(b"half a file")
    with pytest.raises(InputError, match="no copy of the weights"):
        check_onnx(folder)
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(InputError, match="no model.onnx in .*export_onnx"):
        check_onnx(folder)


def test_logits_are_compared_on_their_own_scale(folder):
    """Logits of a million differ by more than 1e-4 in float32's last digit."""
    path, weights = folder / "onnx" / "model.onnx", folder / "model.safetensors"
    network, state = onnx.load(path), safetensors.torch.load_file(weights)
    for tensor in (each for each in network.graph.initializer if each.name in ("fc.weight", "fc.bias")):
        state[tensor.name] *= 1e5
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1e5), tensor.name)
        )
    onnx.save(network, path)
    safetensors.torch.save_file(state, weights, metadata={"format": "pt"})
    assert check_onnx(folder) > 1e-4
    state["fc.weight"][0] *= 1.01
    safetensors.torch.save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="no copy of the weights.*differ"):
        check_onnx(folder)


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_wrong_file_is_not_written(value, folder, quick):
    quick(lambda network: change_a_weight(network, value))
    before = contents(folder)
    with pytest.raises(InputError, match="cannot be written as ONNX.*differ") as error:
        export_onnx(folder)
    assert "\n" not in error.value.on_command_line
    assert contents(folder) == before and not list(folder.glob(".*"))  # an older export stays
    shutil.rmtree(folder / "onnx")
    with pytest.raises(InputError, match="differ"):
        export_onnx(folder)
    assert not (folder / "onnx").exists() and not list(folder.glob(".*"))


def test_a_disk_that_is_full_leaves_no_half_of_a_file(folder, quick, monkeypatch):
    def full(network, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    quick(lambda network: network)
    monkeypatch.setattr("onnx.save", full)
    shutil.rmtree(folder / "onnx")
    before = contents(folder)
    with pytest.raises(OSError, match="No space"):
        export_onnx(folder)
    assert contents(folder) == before and not (folder / "onnx").exists() and not list(folder.glob(".*"))


@pytest.mark.parametrize("cut_off_at", ["config.json", "preprocessor_config.json", "model.onnx"])
def test_an_export_cut_off_never_mixes_old_and_new(cut_off_at, folder, quick, monkeypatch):
    replace = os.replace

    def cut(source, target):
        if Path(target) == folder / "onnx" / cut_off_at:
            raise KeyboardInterrupt
        replace(source, target)

    quick(lambda network: network)
    monkeypatch.setattr("os.replace", cut)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(folder)
    left = {path.name for path in (folder / "onnx").iterdir()}
    assert left == {"config.json", "preprocessor_config.json"} and not list(folder.glob(".*"))


def test_exporting_again_drops_the_old_int8_file(folder, quick):
    (folder / "onnx" / "notes.txt").write_text("mine")
    quick(lambda network: network)
    export_onnx(folder)
    assert {path.name for path in (folder / "onnx").iterdir()} == {*FILES, "notes.txt"} - {"model_quantized.onnx"}
    with pytest.raises(InputError, match="no model_quantized.onnx"):
        onnx_accuracy(folder, lambda model: 1.0)
    quantize_onnx(folder)
    assert {path.name for path in (folder / "onnx").iterdir()} == {*FILES, "notes.txt"}


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_one_line_says_what_to_install(missing, folder, monkeypatch):
    before = contents(folder)
    monkeypatch.setitem(sys.modules, missing, None)
    runpy.run_module(onnx_export.__name__)  # it can be imported
    with pytest.raises(InputError, match=rf'{missing}.*pip install "hf-vipriors\[onnx\]"') as error:
        export_onnx(folder)
    assert "\n" not in error.value.on_command_line and contents(folder) == before and not list(folder.glob(".*"))


def test_without_onnxruntime_nothing_is_quantised_or_run(folder, monkeypatch):
    for module in ("onnxruntime", "onnxruntime.quantization"):
        monkeypatch.setitem(sys.modules, module, None)
    config = load_native(folder).config
    for use in (quantize_onnx, lambda folder: OnnxClassifier(folder / "onnx" / "model.onnx", config)):
        with pytest.raises(InputError, match=r'pip install "hf-vipriors\[onnx\]"'):
            use(folder)


def test_what_is_no_student(tmp_path):
    config = VipriorsConfig.for_backbone("test_convnext", image_size=32)
    teacher = export_native(VipriorsModel(config), tmp_path / "teacher")
    for use in (export_onnx, lambda folder: onnx_accuracy(folder, lambda model: 1.0)):
        with pytest.raises(InputError, match="without a classifier|no model.onnx"):
            use(teacher)
    with pytest.raises(InputError, match="no such folder"):
        export_onnx(tmp_path / "nowhere")
    assert not (teacher / "onnx").exists()


def test_a_network_that_torch_cannot_convert(folder, monkeypatch):
    def fails(*args, **kwargs):
        try:
            raise NotImplementedError("no operator for this\n\nConsider another one.")
        except NotImplementedError as error:
            raise OnnxExporterError("Failed. \x1b[96mThis is step 1/3\x1b[0m\n- Debug it.") from error

    monkeypatch.setattr("torch.onnx.export", fails)
    with pytest.raises(InputError, match="cannot be written as ONNX: no operator for this$"):
        export_onnx(folder)


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_answers_almost_as_float(name, exports):
    model, folder = load_native(exports / name), exports / name / "onnx"
    network = onnx.load(folder / "model_quantized.onnx")
    kinds = [node.op_type for node in network.graph.node]
    assert "ConvInteger" in kinds or "MatMulInteger" in kinds
    assert not any(each.data_type == onnx.TensorProto.INT8 for each in network.graph.initializer)
    assert (folder / "model_quantized.onnx").stat().st_size < 0.5 * (folder / "model.onnx").stat().st_size
    images = photographs(model.config)
    found = OnnxClassifier(folder / "model_quantized.onnx", model.config)(images).logits
    with torch.no_grad():
        wanted = model(images).logits
    assert 1e-4 < (found - wanted).norm() / wanted.norm() < 0.15


def test_an_int8_answer_does_not_hang_on_its_neighbours(exports):
    config, path = load_native(exports / "resnet18").config, exports / "resnet18" / "onnx" / "model_quantized.onnx"
    images = photographs(config, 8)
    assert (logits(path, images)[:1] - logits(path, images[:1])).abs().max() > 1e-4  # that is why
    classifier = OnnxClassifier(path, config)
    assert torch.equal(classifier(images).logits[:1], classifier(images[:1]).logits)
    assert len(classifier.milliseconds) == 9 and min(classifier.milliseconds) > 0


def test_the_cost_of_int8_is_measured_as_any_model_is_scored(folder):
    data, model = DataArguments(), load_native(folder)
    splits = load_images(data)
    splits.splits["test"] = splits.splits["test"].select(range(0, 2000, 20))
    args = evaluate.EvaluationArguments(model=[str(folder)])
    args.device = "cpu"

    def top1(classifier) -> float:
        found = evaluate.classify(classifier, splits, data, args)
        assert len(found.labels) == 100
        return score(found.values, found.labels, splits.class_names).top1

    costs = onnx_accuracy(folder, top1)
    assert list(costs) == ["float32", "int8"]
    assert costs["float32"].top1 == top1(model)
    assert abs(costs["int8"].top1 - costs["float32"].top1) <= 0.1
    for name, file in (("float32", "model.onnx"), ("int8", "model_quantized.onnx")):
        assert costs[name].size == (folder / "onnx" / file).stat().st_size and costs[name].milliseconds > 0
    store = evaluation_store(splits.splits["test"], model.config, data, "test")
    float_file = OnnxClassifier(folder / "onnx" / "model.onnx", model.config)
    torch.testing.assert_close(probabilities(float_file, store).values, probabilities(model, store).values)


def test_a_network_that_cannot_be_quantised(folder, monkeypatch):
    before = contents(folder)

    def fails(*args, **kwargs):
        raise ValueError("unknown\ntype")

    def breaks(source, target, **kwargs):
        onnx.save(change_a_weight(onnx.load(source), float("nan")), target)

    monkeypatch.setattr(quantization, "quantize_dynamic", fails)
    with pytest.raises(InputError, match="cannot be quantised to int8: ValueError: unknown type"):
        quantize_onnx(folder)
    monkeypatch.setattr(quantization, "quantize_dynamic", breaks)
    with pytest.raises(InputError, match="its predictions are no numbers"):
        quantize_onnx(folder)
    assert contents(folder) == before and not list(folder.glob(".*"))
