"""Published self-supervised ResNets as our models: MoCo v1 and v2, SimCLR in PyTorch, SwAV.

The files are pickles, read by :mod:`hf_vipriors.hub.pickled_state`. Every key has to be accounted for.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, one_line
from ..models import VipriorsConfig, VipriorsModel
from .pickled_state import State, listed, read_pickle, state_dict

logger = logging.getLogger(__name__)
SUFFIXES = (".pth.tar", ".pth", ".pt")

# Bottleneck blocks or not, and blocks in each stage.
NETWORKS = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
# SwAV's wider ResNet-50s, by the channels of the stem.
WIDE_STEMS = {128: "resnet50w2", 256: "resnet50w4", 320: "resnet50w5"}
# Layers of the projector by their number in the file: none, one Linear, with a hidden layer, and a batch norm in it.
PROJECTORS = {(): None, ("",): "linear", ("0", "2"): "hidden", ("0", "1", "3"): "batch norm"}


@dataclass(frozen=True)
class Layout:
    """How one published program names its tensors.

    Attributes:
        name: the program.
        encoder: what stands before the ResNet's names.
        head: what stands before the projector's.
        left_out: names of what is knowingly left out: training state that a teacher does not need.
        mean, std: what the program normalised images with; None: ImageNet's.
        image_size: what it trained on by default.
    """

    name: str
    encoder: str
    head: str
    left_out: str
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    image_size: int = 224


MOCO = Layout("MoCo", "encoder_q.", "encoder_q.fc.", r"encoder_k\..*|queue|queue_ptr")
# Its images are only scaled to 0..1; 96 pixels is STL-10, its default.
SIMCLR = Layout("SimCLR", "backbone.", "backbone.fc.", r"(?!)", (0.0,) * 3, (1.0,) * 3, 96)
# The standard deviation of its red channel is written so in the program.
SWAV = Layout("SwAV", "", "projection_head.", r"prototypes\..*", std=(0.228, 0.224, 0.225))


def import_checkpoint(path: str | os.PathLike, *, image_size: int | None = None) -> VipriorsModel:
    """Convert a published self-supervised ResNet into a teacher of ours.

    Known layouts (a ``module.`` in front of every name, from DistributedDataParallel, is optional):

    - MoCo v1 and v2: ``encoder_q.*`` with ``fc`` or ``fc.0``, ``fc.2``; the key encoder and the queue are left out;
    - SimCLR in PyTorch: ``backbone.*`` with ``backbone.fc.0``, ``backbone.fc.2``;
    - SwAV: the bare ResNet with ``projection_head.0``, ``.1``, ``.3``, or without one; the prototypes are left out.

    The ResNet (18, 34, 50, 101, 152, its widths, ResNeXt groups) is recognised from the shapes.

    Args:
        path: the file.
        image_size: side of the images it is to be used with; None (default): what its program trained on.

    Returns:
        The model in eval mode, with the projector where the file has one.

    Raises:
        InputError: no such file, damaged, of another layout, with keys missing or left over (the first of them are
            named), or a pickle that holds more than tensors and plain values.

    Example:
        >>> import tempfile
        >>> from torchvision.models import resnet18
        >>> weights = {f"module.encoder_q.{name}": t for name, t in resnet18(num_classes=128).state_dict().items()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 200, "state_dict": weights}, f"{folder}/moco.pth.tar")
        ...     teacher = import_checkpoint(f"{folder}/moco.pth.tar")
        >>> teacher.config.backbone, teacher.projector
        ('resnet18', Linear(in_features=512, out_features=128, bias=True))
    """
    path = Path(path)
    content = read_pickle(path)
    state = state_dict(content, path)
    layout = _layout(state, path)
    left_out = {name for name in state if re.fullmatch(layout.left_out, name)}
    given = {name: tensor for name, tensor in state.items() if name not in left_out}
    encoder, head = _split(given, layout)
    try:
        config = _config(encoder, head, layout, image_size, path)
    except ValueError as error:  # widths beyond what a configuration takes
        line = one_line(error, None)
        raise InputError(
            line if str(path) in line else f"{path} holds no network that can be built: {line}"
        ) from error
    theirs = {f"backbone.{name}": layout.encoder + name for name in encoder}
    theirs |= {f"projector.{name}": layout.head + name for name in head}
    _check_keys(_expected(config, path), given, theirs, layout, path)
    with torch.random.fork_rng(devices=[]):  # fresh weights are overwritten: they should not cost random numbers
        model = VipriorsModel(config)
    model.load_state_dict({name: given[source] for name, source in theirs.items()})
    logger.info(_summary(path, layout, config, left_out, content))
    return model.eval()


def _layout(state: State, path: Path) -> Layout:
    for layout in (MOCO, SIMCLR):
        if any(name.startswith(layout.encoder) for name in state):
            return layout
    if "conv1.weight" in state:
        return SWAV
    raise InputError(
        f"{path} is no MoCo, SimCLR or SwAV ResNet: no name starts with encoder_q., backbone. or conv1, but there are "
        f"{listed(state)}"
    )


def _split(given: State, layout: Layout) -> tuple[State, State]:
    """ResNet and projector, by their names without the layout's prefixes."""
    head = {name.removeprefix(layout.head): each for name, each in given.items() if name.startswith(layout.head)}
    encoder = {
        name.removeprefix(layout.encoder): each
        for name, each in given.items()
        if name.startswith(layout.encoder) and not name.startswith(layout.head)
    }
    return encoder, head


def _config(encoder: State, head: State, layout: Layout, image_size: int | None, path: Path) -> VipriorsConfig:
    name, arguments = _network(encoder, layout, path)
    layers = tuple(sorted({each.rpartition(".")[0] for each in head}))
    if layers not in PROJECTORS:
        raise InputError(
            f"{path} has a projector that is not {layout.name}'s: {listed([layout.head + n for n in head])}"
        )
    kind = PROJECTORS[layers]
    widths = [_shape(head, f"{layer}.weight".lstrip("."), layout.head, path)[0] for layer in layers]
    return VipriorsConfig.for_backbone(
        name,
        image_size=image_size or layout.image_size,
        backbone_args=arguments,
        crop_pct=0.875,  # how all three programs evaluate
        interpolation="bilinear",
        image_mean=layout.mean,
        image_std=layout.std,
        projector_dim=None if kind is None else widths[-1],
        projector_hidden_dim=0 if kind == "linear" else None if kind is None else widths[0],
        projector_batch_norm=kind == "batch norm",
    )


def _network(encoder: State, layout: Layout, path: Path) -> tuple[str, dict[str, Any] | None]:
    """The timm name of a ResNet and the constructor arguments that give it these shapes."""

    def shape(name: str) -> torch.Size:
        return _shape(encoder, name, layout.encoder, path, sides=4)

    found = [re.match(r"layer([1-4])\.(\d{1,4})\.", name) for name in encoder]
    numbers = [(int(each[1]), int(each[2])) for each in found if each]
    blocks = tuple(1 + max((block for stage, block in numbers if stage == i), default=-1) for i in range(1, 5))
    bottleneck = any(name.startswith("layer1.0.conv3.") for name in encoder)
    if (bottleneck, blocks) not in NETWORKS:
        kind = "bottleneck" if bottleneck else "basic"
        raise InputError(f"{path} is no ResNet-18, 34, 50, 101 or 152: its stages have {blocks} {kind} blocks")
    name, stem = NETWORKS[bottleneck, blocks], shape("conv1.weight")[0]
    if name == "resnet50" and stem in WIDE_STEMS:
        return WIDE_STEMS[stem], None
    last, expansion = ("conv3", 4) if bottleneck else ("conv2", 1)
    channels = [shape(f"layer{i}.0.{last}.weight")[0] // expansion for i in range(1, 5)]
    arguments: dict[str, Any] = {} if channels == [64, 128, 256, 512] else {"channels": channels}
    if 0 in channels:
        raise InputError(f"{path} is no ResNet: its stages have {channels} channels")
    if bottleneck:
        width, group, *_ = shape("layer1.0.conv2.weight")
        groups = {"cardinality": width // group, "base_width": 64 * group // channels[0]}
        arguments |= {} if groups == {"cardinality": 1, "base_width": 64} else groups
    return name, arguments or None


def _shape(state: State, name: str, prefix: str, path: Path, *, sides: int | None = None) -> torch.Size:
    """How large a weight is, from which the network is made out: of ``sides`` sides, or of one at least."""
    if name not in state:
        raise InputError(f"{path} lacks {prefix}{name}")
    shape = state[name].shape
    if not shape.numel() or len(shape) != (sides or max(1, len(shape))):
        raise InputError(f"{path} holds no weight in {prefix}{name}, its shape is {tuple(shape)}")
    return shape


def _expected(config: VipriorsConfig, path: Path) -> State:
    """The tensors of the network without their numbers: what does not fit the file might not fit the memory either."""
    try:
        with torch.device("meta"):
            return VipriorsModel(config).state_dict()
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} holds no network that can be built: {one_line(error)}") from error


def _check_keys(expected: State, given: State, theirs: dict[str, str], layout: Layout, path: Path) -> None:
    """Every tensor that we need, none that we do not, each of the right shape."""

    def original(name: str) -> str:
        part, _, rest = name.partition(".")
        return (layout.encoder if part == "backbone" else layout.head) + rest

    missing = [original(name) for name in expected if name not in theirs]
    used = {source for name, source in theirs.items() if name in expected}
    misfits = [
        f"{source} is {tuple(given[source].shape)}, not {tuple(expected[name].shape)}"
        for name, source in theirs.items()
        if name in expected and given[source].shape != expected[name].shape
    ]
    faults = [
        f"{len(names)} {what} ({listed(names)})"
        for what, names in (("missing", missing), ("left over", given.keys() - used), ("of another shape", misfits))
        if names
    ]
    if faults:
        raise InputError(f"{path} does not hold exactly a {layout.name} ResNet: {'; '.join(faults)}")


def _summary(path: Path, layout: Layout, config: VipriorsConfig, left_out: set[str], content: dict[str, Any]) -> str:
    """One line: what was read, and what was knowingly left out."""
    counts = Counter(name.partition(".")[0] for name in left_out)
    parts = [f"{name} ({count} tensors)" if count > 1 else name for name, count in sorted(counts.items())]
    parts += sorted(str(name) for name in content if name != "state_dict") if "state_dict" in content else []
    projector = "without projector" if config.projector_dim is None else f"projection to {config.projector_dim}"
    return f"{path}: {layout.name} {config.backbone}, {projector}; left out: {', '.join(parts) or 'nothing'}"
