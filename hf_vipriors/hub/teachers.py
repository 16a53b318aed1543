"""Teachers from anywhere: our folders, transformers folders, published files, timm, the Hub. No remote code is run."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import split_model_name_tag
from transformers import TimmWrapperConfig
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..errors import InputError, nearest
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..models.download import check_files, verified_snapshot
from ..models.modeling_vipriors import not_finite
from .embedded import FASHION_TEACHER, embedded_teacher
from .failures import as_input_error
from .import_checkpoint import SUFFIXES, import_checkpoint, listed
from .native_export import load_native
from .transformers_teachers import check_complete, from_transformers

logger = logging.getLogger(__name__)
Teacher = VipriorsModel | VipriorsForImageClassification
TIMM_PREFIXES = ("timm/", "timm:")
OUTPUTS = "outputs"  # where runs of every recipe, and of our documentation, go: before the first there is none
_DEEPEST = 2_000
"""Layers of a network: the deepest of transformers and timm have some 200, and a million take hours to build."""


def load_teacher(name: str, *, flag: str = "teacher", revision: str | None = None) -> Teacher:
    """Load a network to distil from.

    Args:
        name: the first of these that fits: ``"fashion-vipriors-teacher"``, which ships with the package; a folder of
            ours (phase 1, or an exported student); a folder with a transformers checkpoint; a published MoCo, SimCLR
            or SwAV file (``*.pth.tar``, ``*.pth``, ``*.pt``);
            ``"timm/NAME"`` or ``"timm:NAME"`` for timm's pretrained weights; any other Hub id that
            ``AutoModelForImageClassification`` or ``AutoModel`` loads.
        flag: the option that named it, for messages.
        revision: branch, tag or commit on the Hub; None (default) takes the main branch.

    Returns:
        The teacher in eval mode, float32. With a classifier of its own a :class:`VipriorsForImageClassification`,
        else a :class:`VipriorsModel`; networks from transformers are an ``ExternalForImageClassification`` or an
        ``ExternalModel``, which cannot be saved.

    Raises:
        InputError: not found, offline, damaged, in need of remote code, or no vision model; one line with the way to
            mend it.

    Example:
        >>> import tempfile
        >>> config = VipriorsConfig.for_backbone("test_convnext", image_size=32, projector_dim=16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     VipriorsModel(config).save_pretrained(folder)
        ...     teacher = load_teacher(folder)
        >>> teacher(torch.rand(2, 3, 32, 32)).projection.shape
        torch.Size([2, 16])
    """
    name = place_of(name)
    if revision is not None and (Path(name).exists() or name.endswith(SUFFIXES)):
        raise InputError(f"{name} (--{flag}) lies on this machine and has no revision {revision!r}: leave it out")
    if Path(name).is_dir():
        teacher = _from_folder(Path(name), flag)
    elif Path(name).is_file():
        teacher = import_checkpoint(name)
    elif name.startswith(TIMM_PREFIXES):
        teacher = _from_timm(name, flag, revision)
    elif _looks_local(name):
        raise InputError(f"no such folder or file {name} (--{flag}): give the --output_dir of a finished training")
    else:
        teacher = _from_hub(name, flag, revision)
    _check_finite(teacher, name, flag)
    return teacher.eval()


def place_of(name: str) -> str:
    """Where the teacher that ships with the package lies; any other name as it is."""
    return str(embedded_teacher()) if name == FASHION_TEACHER and not Path(name).exists() else name


def load_ours(directory: str, flag: str) -> Teacher:
    """A teacher or a student of ours from its folder; ``flag`` is the option that named it.

    Raises:
        InputError: when the folder is missing, damaged or holds neither.
    """
    directory = place_of(directory)
    folder = Path(directory)
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"no model in {directory} (--{flag}): give the --output_dir of a finished training")
    config = _read_config(folder, flag)
    if config.get("model_type") != VipriorsConfig.model_type:
        model = load_native(directory)
        _check_finite(model, directory, flag)
        return model
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        raise InputError(f"{directory} (--{flag}) holds a config but no {SAFE_WEIGHTS_NAME}: is the run finished?")
    return _load_vipriors(directory, directory, config, flag)


def _read_config(folder: Path, flag: str) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or a nest without end
        config = None
    if not isinstance(config, dict) or not _names_its_kind(config):
        raise InputError(f"{path} is damaged (--{flag}): train or download it again")
    if (depth := _depth(config)) > _DEEPEST:
        raise InputError(f"{path} (--{flag}) asks for {depth:,} layers, and more than {_DEEPEST:,} are not built here")
    return config


def _depth(config: Any, key: str = "") -> int:
    """The layers that a configuration asks for, however its library calls them."""
    if isinstance(config, dict):
        return sum(_depth(value, name) for name, value in config.items())
    if isinstance(config, list):
        return sum(_depth(value, key) for value in config)
    return config if isinstance(config, int) and ("layers" in key or "depth" in key) else 0


def _names_its_kind(config: dict[str, Any]) -> bool:
    """Whether what a loader is chosen by has the types it must have."""
    classes = config.get("architectures")
    named = classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes))
    return named and isinstance(config.get("model_type"), str | None)


def _load_vipriors(folder: str, name: str, config: dict[str, Any], flag: str) -> Teacher:
    classifies = VipriorsForImageClassification.__name__ in (config.get("architectures") or [])
    kind = VipriorsForImageClassification if classifies else VipriorsModel
    with as_input_error(f"the model in {name} (--{flag}) cannot be read"):
        model, report = kind.from_pretrained(folder, output_loading_info=True)
    check_complete(report["missing_keys"], name, flag)
    _check_finite(model, name, flag)
    return model


def _from_folder(folder: Path, flag: str) -> Teacher:
    check_files(folder)
    if not (folder / CONFIG_NAME).is_file():
        return load_ours(str(folder), flag)  # which says what is missing
    config = _read_config(folder, flag)
    kind = config.get("model_type")
    if kind == VipriorsConfig.model_type or kind == TimmWrapperConfig.model_type:
        return load_ours(str(folder), flag)
    if kind is None and "architecture" in config:
        return _timm_teacher(f"local-dir:{folder}", str(folder), flag)
    return from_transformers(folder, str(folder), config, flag)


def _from_timm(name: str, flag: str, revision: str | None) -> Teacher:
    short = name.removeprefix(TIMM_PREFIXES[0]).removeprefix(TIMM_PREFIXES[1])
    architecture, tag = split_model_name_tag(short)
    if not timm.is_model(architecture):
        raise InputError(
            f"timm has no network {architecture!r} (--{flag}): {nearest(architecture, timm.list_models())}"
        )
    known = timm.list_pretrained(architecture + "*")
    tags = [each for each in known if each.split(".")[0] == architecture]
    if tag and short not in tags:
        raise InputError(f"timm has no weights {short!r} (--{flag}): {nearest(short, tags)}")
    if not tags:
        raise InputError(f"timm has no pretrained weights for {architecture!r} (--{flag}): it would teach noise")
    source = short if revision is None else f"hf-hub:{timm.get_pretrained_cfg(short).hf_hub_id}@{revision}"
    return _timm_teacher(source, name, flag)


def _timm_teacher(
    source: str, name: str, flag: str, arguments: dict[str, Any] | None = None, full_scale: float | None = None
) -> Teacher:
    """What ``timm.create_model`` gives, as one of our models; ``arguments`` are those its config holds for timm."""
    with as_input_error(f"timm cannot load {name} (--{flag})"):
        network = timm.create_model(source, pretrained=True)
    image = network.pretrained_cfg
    channels, height, width = image["input_size"]
    if channels != 3 or height != width:
        raise InputError(f"{name} (--{flag}) takes {channels} x {height} x {width} input: teachers see square RGB")
    config = VipriorsConfig.for_backbone(
        image["architecture"],
        image_size=height,
        backbone_args={k: v for k, v in (arguments or {}).items() if k not in ("img_size", "in_chans")} or None,
        image_mean=image["mean"],
        image_std=image["std"],
        interpolation=image["interpolation"],
        crop_pct=image["crop_pct"],
        full_scale=full_scale,
        class_names=image.get("label_names"),
        **({} if image.get("label_names") else {"num_labels": network.num_classes or 2}),
    )
    kind = VipriorsForImageClassification if network.num_classes else VipriorsModel
    with torch.device("meta"):  # its weights are already here
        model = kind(config)
    shapes = {key: tensor.shape for key, tensor in model.backbone.state_dict().items()}
    if shapes != {key: tensor.shape for key, tensor in network.state_dict().items()}:
        raise InputError(
            f"{name} (--{flag}) was built with arguments of its own: timm's plain network has other weights"
        )
    model.backbone = network
    return model


def _from_hub(name: str, flag: str, revision: str | None) -> Teacher:
    hint = f" (did you mean timm:{name}?)" if timm.is_model(split_model_name_tag(name)[0]) else ""
    failure = f"{name} (--{flag}) cannot be loaded from the Hub{hint}"
    with as_input_error(failure):
        folder = verified_snapshot(name, revision=revision)
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{failure}: it has no {CONFIG_NAME}")
    config = _read_config(folder, flag)
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{failure}: it has no weights as safetensors, and other formats are not read here")
    kind = config.get("model_type")
    if kind == VipriorsConfig.model_type:
        return _load_vipriors(str(folder), name, config, flag)
    if kind == TimmWrapperConfig.model_type or (kind is None and "architecture" in config):
        return _timm_teacher(f"local-dir:{folder}", name, flag, config.get("model_args"), config.get("full_scale"))
    return from_transformers(folder, name, config, flag)


def _check_finite(model: Teacher, name: str, flag: str) -> None:
    if wrong := not_finite(model.state_dict().items()):
        raise InputError(
            f"{name} (--{flag}) holds NaN or infinity, in {listed(wrong)}: its training has diverged or the file is "
            "damaged; train it again with a lower --learning_rate, or download it again"
        )


def _looks_local(name: str) -> bool:
    """Whether a name that does not exist here can only have been meant as a path."""
    parent = Path(name).parent
    return (
        name.startswith((".", "/", "~", os.sep))
        or name.endswith((*SUFFIXES, ".safetensors", "/"))
        or name.count("/") > 1
        or name.startswith(f"{OUTPUTS}/")
        or "\\" in name
        or (parent != Path() and parent.is_dir())
    )
