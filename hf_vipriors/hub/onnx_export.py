"""Write an exported student as ONNX too, check the file against torch, quantise it, and measure what that costs.

``DIR/onnx`` then holds ``model.onnx``, after :func:`quantize_onnx` also ``model_quantized.onnx`` (``pixel_values`` in,
``logits`` out, any batch size), and two files from which transformers.js reads classes and preprocessing: those of
``DIR`` say ``timm_wrapper``, which it does not know. So it is pointed at the inner folder, on a disk or a server::

    const classify = await pipeline("image-classification", "DIR/onnx", {subfolder: "", dtype: "q8"});  // or "fp32"

and, after ``DIR`` was pushed to the Hub as ``USER/NAME``, gets that name and first is told where its files lie::

    env.remotePathTemplate = "{model}/resolve/{revision}/onnx/";

Both ways were seen to work with transformers.js 4.3, in Node and in Chromium. In a browser it resizes unlike Pillow
and crops between pixels: its probabilities are others than torch's. The page of ``static_space.py`` does both itself.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME

from ..data import FASHION_VIPRIORS, build_store, load_splits
from ..errors import InputError
from ..files import write_json
from ..models import VipriorsConfig, VipriorsForImageClassification
from ..views import EvaluationView
from .failures import as_input_error
from .native_export import load_native
from .preprocessing import evaluation_geometry, processor_words
from .whole_folder import temporary_folder

# transformers.js asks for these names; the files are its dtypes "fp32" and "q8".
ONNX_FOLDER, FLOAT_FILE, INT8_FILE = "onnx", "model.onnx", "model_quantized.onnx"
INPUT, OUTPUT = "pixel_values", "logits"
# torch's own default today; onnxruntime reads it since 1.17, so transformers.js does since its version 3.
OPSET = 20
ATOL = RTOL = 1e-4
"""How far a logit may be from torch's: so much, and so much of the largest logit, whose digits float32 rounds off."""
# transformers.js takes only names it knows, and uses this one for timm's networks. Python's transformers has no such
# model: whoever opens this folder instead of the one around it gets an error, and no network with random weights.
JAVASCRIPT_MODEL_TYPE = "mobilenet_v4"


def check_libraries() -> None:
    """Refuse where the ``onnx`` extra is not installed.

    Raises:
        InputError: see above.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _library(name)


def export_onnx(directory: str | os.PathLike) -> Path:
    """Write ``DIR/onnx/model.onnx``, float32, once it answers as torch does, and return its path.

    It is run at several batch sizes on photographs and on noise; no logit may differ by more than 1e-4 and 1e-4 of
    the largest logit. A new ``DIR/onnx`` appears whole; in one that exists an older network, with its quantised one,
    goes before the new comes.

    Args:
        directory: the folder of a student that ``export_native`` wrote; its own files are not touched.

    Raises:
        InputError: the ``onnx`` extra is not installed, no exported student or one without a classifier, or a network
            that ONNX cannot hold or answers differently with; then nothing was changed.

    Example:
        >>> import tempfile
        >>> from hf_vipriors.hub.native_export import export_native
        >>> config = VipriorsConfig.for_backbone("test_resnet", image_size=32, class_names=["cat", "dog"])
        >>> with tempfile.TemporaryDirectory() as student:
        ...     _ = export_native(VipriorsForImageClassification(config), student)
        ...     export_onnx(student).name, quantize_onnx(student).name
        ('model.onnx', 'model_quantized.onnx')
    """
    check_libraries()  # before a long export and not after it
    model, folder = _classifier(directory), Path(directory) / ONNX_FOLDER
    with temporary_folder(Path(directory), ONNX_FOLDER) as written:
        _library("onnx").save(_graph(model, directory), written / FLOAT_FILE)
        _check(written / FLOAT_FILE, model, f"{str(directory)!r} cannot be written as ONNX, choose another network")
        for name, content in _javascript(model.config).items():
            write_json(written / name, content)
        _move(written, folder)
    return folder / FLOAT_FILE


def check_onnx(directory: str | os.PathLike) -> float:
    """Compare ``DIR/onnx/model.onnx`` with the weights in ``DIR``, which may have been exported again since.

    Returns:
        The largest absolute difference of a logit, at most 1e-4 and 1e-4 of the largest logit.

    Raises:
        InputError: they differ by more, or the ONNX file is missing or damaged.
    """
    path = _file(directory, FLOAT_FILE)
    return _check(path, _classifier(directory), f"{str(path)!r} is no copy of the weights, use export_onnx again")


def quantize_onnx(directory: str | os.PathLike) -> Path:
    """Write ``DIR/onnx/model_quantized.onnx``, int8 by dynamic quantisation, and return its path.

    Weights become 8-bit numbers once, activations in every run. Seen on one core: a ResNet-18 of 0.18 M parameters
    shrank to 30 % and kept its top-1 (80.65 %, then 80.70 %), but took 2.6 times as long; a ViT-Ti at 224 px took 0.75
    times as long. :func:`onnx_accuracy` measures any other.

    NOTE: weights are unsigned. onnxruntime 1.32 convolves signed ones too, but took twice as long with them, natively
    and as WebAssembly; older ones refuse them.

    Args:
        directory: a folder in which :func:`export_onnx` wrote its file.

    Raises:
        InputError: as :func:`check_onnx`, or the network cannot be quantised; then no file was changed.
    """
    quantization = _library("onnxruntime.quantization")
    check_onnx(directory)
    source, config = _file(directory, FLOAT_FILE), _classifier(directory).config
    failure = f"{str(source)!r} cannot be quantised to int8"
    with temporary_folder(Path(directory), ONNX_FOLDER) as temporary:
        shaped, written = temporary / FLOAT_FILE, temporary / INT8_FILE
        with as_input_error(failure):
            # Shapes only: there is nothing left to fuse, torch has folded batch norms into convolutions.
            prepare = quantization.shape_inference.quant_pre_process
            prepare(source, shaped, skip_optimization=True, skip_symbolic_shape=True)
            quantization.quantize_dynamic(shaped, written, weight_type=quantization.QuantType.QUInt8)
            sound = all(predictions.isfinite().all() for predictions in _predictions(written, _images(config)))
        if not sound:
            raise InputError(f"{failure}: its predictions are no numbers then, use {FLOAT_FILE}")
        os.replace(written, source.with_name(INT8_FILE))
    return source.with_name(INT8_FILE)


class OnnxClassifier(nn.Module):
    """A file of this module in the shape of our classifiers: what scores one (``probabilities``) scores the other.

    Images run one by one on one thread, as on a page or a telephone. Dynamic quantisation scales activations by the
    largest in the batch: in a larger one an int8 prediction would hang on its neighbours.

    Attributes:
        config: the student's, as ``load_native(DIR).config``.
        milliseconds: what each image took, in the order in which they came.

    Raises:
        InputError: the ``onnx`` extra is not installed, or onnxruntime cannot run the file.
    """

    def __init__(self, path: str | os.PathLike, config: VipriorsConfig) -> None:
        super().__init__()
        self.config = config
        self.milliseconds: list[float] = []
        with as_input_error(f"onnxruntime cannot run {str(path)!r}"):
            self._session = _session(path)

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        """Normalised images (B, 3, S, S) to logits (B, K)."""
        logits = []
        for image in pixel_values.cpu().split(1):
            start = time.perf_counter()
            logits.append(_run(self._session, image))
            self.milliseconds.append(1000 * (time.perf_counter() - start))
        return ImageClassifierOutput(logits=torch.cat(logits).to(pixel_values.device))


@dataclass(frozen=True)
class OnnxFigures:
    """Of one file: ``top1`` (a fraction; None: not known), ``size`` in bytes, ``milliseconds`` of one image.

    The time is a median, of the network alone.
    """

    top1: float | None
    size: int
    milliseconds: float


def onnx_accuracy(
    directory: str | os.PathLike, top1: Callable[[OnnxClassifier], float | None]
) -> dict[str, OnnxFigures]:
    """What quantisation costs: the figures of the file of ``"float32"`` and of that of ``"int8"``.

    Args:
        directory: a folder in which :func:`export_onnx` and :func:`quantize_onnx` wrote their files.
        top1: scores a classifier on evaluation images as any model is scored, by ``scoring.evaluate``, or by
            ``probabilities`` and ``score`` of ``evaluation``; None where images have no label, it is timed on them.

    Raises:
        InputError: as :func:`check_onnx`, or there is no quantised file.
    """
    paths = {"float32": _file(directory, FLOAT_FILE), "int8": _file(directory, INT8_FILE)}
    check_onnx(directory)
    config, figures = _classifier(directory).config, {}
    for name, path in paths.items():
        classifier = OnnxClassifier(path, config)
        found = top1(classifier)
        figures[name] = OnnxFigures(found, path.stat().st_size, statistics.median(classifier.milliseconds))
    return figures


def _library(name: str) -> Any:
    """A module of the ``onnx`` extra, imported where it is used: nothing else in the package needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'ONNX needs a library that is missing ({error}): pip install "hf-vipriors[onnx]"') from error


def _classifier(directory: str | os.PathLike) -> VipriorsForImageClassification:
    model = load_native(directory)
    if not isinstance(model, VipriorsForImageClassification):
        raise InputError(f"{str(directory)!r} holds a backbone without a classifier: give the folder of a student")
    return model


def _file(directory: str | os.PathLike, name: str) -> Path:
    path = Path(directory) / ONNX_FOLDER / name
    if not path.is_file():
        raise InputError(f"no {name} in {str(path.parent)!r}: write it with export_onnx, then quantize_onnx")
    return path


def _graph(model: VipriorsForImageClassification, directory: str | os.PathLike) -> Any:
    example = torch.zeros(2, 3, model.config.image_size, model.config.image_size)  # of one, torch would fix the batch
    with as_input_error(f"{str(directory)!r} cannot be written as ONNX"):
        whole = torch.onnx.export(
            model.backbone,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch_size")},),
            opset_version=OPSET,
            verbose=False,
        ).model_proto
    # Stack traces with this machine's paths: as much as a third of a small file.
    graph = whole.graph
    for each in (whole, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del each.metadata_props[:]
    return whole


def _session(path: str | os.PathLike) -> Any:
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # so that times compare
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: Any, images: Tensor) -> Tensor:
    return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _images(config: VipriorsConfig) -> Tensor:
    """Photographs and noise (12, 3, S, S), normalised: what a network is for, and what it was never shown."""
    test = load_splits(FASHION_VIPRIORS).splits["test"].select(range(8))
    store = build_store(test, evaluation_geometry(config), name="photographs")
    photographs = EvaluationView(config.image_mean, config.image_std)(store.__getitems__(range(8))["pixel_values"])
    noise = torch.randn(4, *photographs.shape[1:], generator=torch.Generator().manual_seed(0))
    return torch.cat([photographs, noise])


def _predictions(path: Path, images: Tensor) -> list[Tensor]:
    """The file's logits, a tensor for each batch size."""
    _library("onnx").checker.check_model(path, full_check=True)
    session = _session(path)
    return [_run(session, images[:count]) for count in (1, 3, len(images))]


def _check(path: Path, model: VipriorsForImageClassification, failure: str) -> float:
    images = _images(model.config)
    with torch.inference_mode():
        wanted = model(images).logits
    with as_input_error(failure):
        differences = [predictions - wanted[: len(predictions)] for predictions in _predictions(path, images)]
    worst = torch.cat(differences).abs().max().item()
    allowed = ATOL + RTOL * wanted.abs().max().item()
    if not worst <= allowed:  # nor where it is not a number
        raise InputError(f"{failure}: its logits differ from torch's by up to {worst:.1g}, not {allowed:.1g}")
    return worst


def _javascript(config: VipriorsConfig) -> dict[str, dict]:
    """By file name what transformers.js reads: the same classes and preprocessing, in the words it knows."""
    classes = {"model_type": JAVASCRIPT_MODEL_TYPE, "id2label": config.id2label, "label2id": config.label2id}
    return {CONFIG_NAME: classes, IMAGE_PROCESSOR_NAME: processor_words(config, "ImageFeatureExtractor")}


def _move(written: Path, folder: Path) -> None:
    if not folder.exists():
        written.rename(folder)
        return
    for name in (INT8_FILE, FLOAT_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in (CONFIG_NAME, IMAGE_PROCESSOR_NAME, FLOAT_FILE):
        os.replace(written / name, folder / name)
