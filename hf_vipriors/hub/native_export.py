"""Write a classifier, or a backbone that extracts features, as a native checkpoint, and read one back.

The folder holds ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``, and is two things at once: a
``TimmWrapperForImageClassification`` checkpoint of transformers and a timm model folder. Whoever loads it needs
neither this package nor remote code::

    pipeline("image-classification", model=DIR)
    timm.create_model("local-dir:DIR", pretrained=True)
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, TimmWrapperModel
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, SAFE_WEIGHTS_NAME

from ..backbones import has_fixed_size, is_ours, plain_state
from ..errors import InputError, one_line
from ..files import read_json, save_tensors, write_json
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..models.configuration_vipriors import label_maps
from ..models.download import check_files
from .whole_folder import whole_folder

logger = logging.getLogger(__name__)
# transformers names the tensors of a wrapped network with this prefix when it saves one itself; timm cannot read
# that, while transformers reads both. So we write without it.
WRAPPER_PREFIX = "timm_model."


def export_native(
    model: VipriorsForImageClassification | VipriorsModel,
    directory: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write ``model`` as a native checkpoint with float32 weights.

    Of a :class:`VipriorsModel` the backbone is written, as a ``TimmWrapperModel`` that extracts features
    (``AutoModel``, or timm with ``num_classes=0``); the projector stays behind. Harmonic convolutions are
    written as plain ones.

    The files are first written to a folder beside ``directory`` and then moved. A new ``directory`` appears whole.
    In one that exists other files stay, an older export loses its ``config.json`` first and gets the new one last:
    cut off in between, it does not load, but never mixes old and new.

    Args:
        model: the classifier or feature extractor; its random generator, mode and device do not change.
        directory: where to.
        class_names: names of the classes in label order; by default those of the configuration.
        state: of the backbone, where the model's own tensors are sharded; by default the model's.

    Returns:
        The path of ``directory``.

    Raises:
        InputError: the number of names is not that of the classes, ``directory`` is a file, or the network cannot be
            built from a configuration file (input other than three channels, arguments that JSON cannot hold).

    Example:
        >>> import tempfile
        >>> config = VipriorsConfig.for_backbone("test_convnext", image_size=32)
        >>> student = VipriorsForImageClassification(config)
        >>> with tempfile.TemporaryDirectory() as outputs:
        ...     folder = export_native(student, f"{outputs}/student", class_names=["cat", "dog"])
        ...     sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors', 'preprocessor_config.json']
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"cannot export to {str(directory)!r}: it is a file, give a folder")
    config = _native_config(model, class_names)
    state = {name: _saved(tensor) for name, tensor in (state or plain_state(model.backbone)).items()}
    with whole_folder(directory) as folder:
        config.save_pretrained(folder)
        processor = {
            "image_processor_type": "TimmWrapperImageProcessor",
            "architecture": config.architecture,
            "pretrained_cfg": config.pretrained_cfg,
        }
        write_json(folder / IMAGE_PROCESSOR_NAME, processor)
        save_tensors(state, folder / SAFE_WEIGHTS_NAME, {"format": "pt"})
        _check_rebuild(folder, state)
    return directory


def check_exportable(model: VipriorsForImageClassification | VipriorsModel) -> None:
    """Try what :func:`export_native` will need, before a long training and not after it.

    Of an architecture that only this package registers it warns: whoever loads it must import the package.

    Raises:
        InputError: the network cannot be built from a configuration file.
    """
    if is_ours(model.config.backbone):
        logger.warning(
            "%s is an architecture of hf_vipriors: what loads the checkpoint must import hf_vipriors first, and a Hub "
            "widget cannot run it",
            model.config.backbone,
        )
    with tempfile.TemporaryDirectory() as folder:
        _native_config(model, None).save_pretrained(folder)
        _check_rebuild(Path(folder), plain_state(model.backbone))


def load_native(directory: str | os.PathLike) -> VipriorsForImageClassification | VipriorsModel:
    """Read a native checkpoint back, with the very logits or features of the model that was exported.

    Returns:
        The classifier, or the feature extractor without a projector, in eval mode.

    Raises:
        InputError: no such folder, not a native checkpoint, or one with a damaged or missing file.

    Example:
        >>> import tempfile
        >>> config = VipriorsConfig.for_backbone("test_convnext", image_size=32)
        >>> student = VipriorsForImageClassification(config).eval()
        >>> with tempfile.TemporaryDirectory() as outputs:
        ...     again = load_native(export_native(student, f"{outputs}/student"))
        >>> image = torch.rand(1, 3, 32, 32)
        >>> torch.equal(again(image).logits, student(image).logits)
        True
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"no such folder {str(directory)!r}: give the folder of an exported student")
    check_files(directory)
    native = _read_config(directory)
    config = _vipriors_config(native, directory)
    extracts = native.get("architectures") == [TimmWrapperModel.__name__]
    try:
        state = safetensors.torch.load_file(directory / SAFE_WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        file = str(directory / SAFE_WEIGHTS_NAME)
        raise InputError(f"cannot read {file!r}: {one_line(error, kind=True)}") from error
    try:
        with torch.random.fork_rng(devices=[]):  # fresh weights are overwritten: they should not cost random numbers
            model = (VipriorsModel if extracts else VipriorsForImageClassification)(config)
        model.backbone.load_state_dict({name.removeprefix(WRAPPER_PREFIX): tensor for name, tensor in state.items()})
    except InputError as error:
        raise InputError(f"{CONFIG_NAME} in {str(directory)!r} describes no network: {error}") from error
    except RuntimeError as error:
        raise InputError(
            f"the weights in {str(directory)!r} are not those of its {config.backbone!r}: {one_line(error, kind=True)}"
        ) from error
    return model.eval()


def native_config(directory: Path) -> VipriorsConfig:
    """The configuration of a native checkpoint, whose weights are not read.

    Raises:
        InputError: no native checkpoint, or a damaged configuration.
    """
    return _vipriors_config(_read_config(directory), directory)


def _native_config(
    model: VipriorsForImageClassification | VipriorsModel, class_names: Sequence[str] | None
) -> TimmWrapperConfig:
    config: VipriorsConfig = model.config
    if model.backbone.in_chans != 3:
        raise InputError(
            f"cannot export {config.backbone!r} with {model.backbone.in_chans} input channels: "
            "native checkpoints read images as RGB, train with three"
        )
    kind, labels, classes = TimmWrapperModel, {}, 0
    if isinstance(model, VipriorsForImageClassification):
        kind, labels, classes = TimmWrapperForImageClassification, _labels(config, class_names), config.num_labels
    fixed = has_fixed_size(config.backbone)
    # timm's own description of the network says which layers a fine-tuning with other classes replaces.
    known = model.backbone.pretrained_cfg
    return TimmWrapperConfig(  # type: ignore[call-arg]  # whatever it does not know it keeps for timm
        architectures=[kind.__name__],
        architecture=config.backbone,
        model_args={
            **(config.backbone_args or {}),
            "in_chans": 3,
            **({"img_size": config.image_size} if fixed else {}),
        },
        **labels,
        **({} if config.full_scale is None else {"full_scale": config.full_scale}),
        pretrained_cfg={
            "input_size": [3, config.image_size, config.image_size],
            "fixed_input_size": fixed,
            "interpolation": config.interpolation,
            "crop_pct": config.crop_pct,
            "crop_mode": "center",
            "mean": config.image_mean,
            "std": config.image_std,
            "num_classes": classes,
            "first_conv": known.get("first_conv"),
            "classifier": known.get("classifier"),
        },
        dtype="float32",
    )


def _labels(config: VipriorsConfig, class_names: Sequence[str] | None) -> dict[str, dict]:
    names = config.class_names if class_names is None else list(class_names)
    if len(names) != config.num_labels:
        raise InputError(f"{len(names)} class names for a model with {config.num_labels} classes: give one for each")
    return label_maps(names)


def _saved(tensor: torch.Tensor) -> torch.Tensor:
    """As a file holds it: on the CPU, contiguous, no storage shared, floating point as float32."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device="cpu", dtype=dtype).clone(memory_format=torch.contiguous_format)


def _check_rebuild(directory: Path, state: dict[str, torch.Tensor]) -> None:
    """Build the network from the written configuration alone, as whoever loads it will, on the meta device."""
    try:
        with torch.device("meta"):
            config = TimmWrapperConfig.from_pretrained(directory)
            classifies = config.architectures == [TimmWrapperForImageClassification.__name__]
            rebuilt = (TimmWrapperForImageClassification if classifies else TimmWrapperModel)(config).timm_model
    except Exception as error:  # whatever the network raises for arguments that became lists
        raise InputError(
            f"this network cannot be exported, its {CONFIG_NAME} builds none: {one_line(error, kind=True)}"
        ) from error
    shapes = {name: tensor.shape for name, tensor in rebuilt.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in state.items()}:
        raise InputError(f"this network cannot be exported, its {CONFIG_NAME} builds another one")


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_NAME
    if not path.is_file():
        raise InputError(f"no {CONFIG_NAME} in {str(directory)!r}: give the folder of an exported student")
    config = read_json(path)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind == VipriorsConfig.model_type:
        raise InputError(f"{str(directory)!r} is no exported student but one of our models: use from_pretrained")
    if kind != TimmWrapperConfig.model_type:
        raise InputError(f"{str(directory)!r} is no exported student: its {CONFIG_NAME} has model_type {kind!r}")
    return config


def _vipriors_config(native: dict[str, Any], directory: Path) -> VipriorsConfig:
    try:
        image = native["pretrained_cfg"]
        channels, height, width = image["input_size"]
        config = VipriorsConfig(
            backbone=native["architecture"],
            backbone_args={k: v for k, v in native["model_args"].items() if k not in ("img_size", "in_chans")} or None,
            image_size=height,
            image_mean=image["mean"],
            image_std=image["std"],
            interpolation=image["interpolation"],
            crop_pct=image["crop_pct"],
            full_scale=native.get("full_scale"),
            **label_maps(native["label_names"]),
        )
        ours = channels == 3 and height == width and image["crop_mode"] == "center"
    except (AttributeError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise InputError(f"{CONFIG_NAME} in {str(directory)!r} is damaged: {one_line(error, kind=True)}") from error
    if not ours:
        raise InputError(f"{str(directory)!r} wants images that are not square RGB centre crops: not our export")
    return config
