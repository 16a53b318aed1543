"""What can be set for a benchmark: what is trained, how long each round is, and beside whom."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..errors import InputError, check_choice, check_range
from ..methods import METHODS
from ..options import SEED, check_options, option, parsed_mapping
from ..training import PretrainArguments, StudentArguments, TeacherArguments

PRECISIONS = ("fp32", "bf16", "fp16")
# The quickstart's network, which two cores can train.
QUICKSTART_BACKBONE = "resnet18"
QUICKSTART_BACKBONE_ARGS = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
# Which methods another program has too, by --vs.
RIVALS = {"lightly": ("moco",), "loop": ("seed", "kd", "overhaul")}
ARGUMENTS = {kind.job: kind for kind in (TeacherArguments, PretrainArguments, StudentArguments)}
# Settings that the benchmark decides itself.
_OWN = (
    "output_dir", "method", "backbone", "backbone_args", "teacher", "image_size", "per_device_train_batch_size",
    "bf16", "fp16", "torch_compile", "max_steps", "logging_steps", "seed", "use_cpu",
)  # fmt: skip


@dataclass
class BenchmarkArguments:
    """One method and backbone, at one or more image sizes."""

    method: str = option("moco", "Any method of train_teacher, pretrain_student or train_student.")
    backbone: str | None = option(None, "Any timm network; not given: the quickstart's ResNet-18 of 0.70 M.")
    backbone_args: str | None = option(
        None, "JSON of arguments for timm.create_model; not given: none, or the quickstart's."
    )
    teacher_backbone: str | None = option(
        None, "Network of the teacher, with random weights, where the method has one; not given: as --backbone."
    )
    teacher_backbone_args: str | None = option(None, "JSON of arguments of the teacher's network.")
    image_sizes: list[int] = option([32, 64, 128], "Sides of a view in pixels: one case each.", low=8)
    batch: int = option(128, "Images per process and step.", low=2)
    precision: str = option("fp32", "fp32, bf16 or fp16 (GPU).")
    channels: int = option(3, "Channels of the stored images: 3, or 1 (gray).")
    images: int = option(5500, "Images in the store; synthetic ones, 1 / 0.875 as wide as a view.", low=4)
    steps: int = option(20, "Timed steps of a round. With --vs more than it has workers, better several times.", low=1)
    warmup: int = option(5, "Steps before them in each round that are not timed.", low=1)
    rounds: int = option(5, "How often each takes its turn; figures are medians over the rounds.", low=1)
    torch_compile: bool = option(False, "Compile the method's forward, in training and in the ceiling.")
    workers: int = option(0, "--dataloader_num_workers of the training.", low=0)
    options: str | None = option(
        None, "JSON of further options of the training's own command, e.g. '{\"queue_length\": 4096}'."
    )
    vs: str | None = option(
        None,
        "Side by side with 'lightly' (its MoCo recipe, with moco; pip install lightly) or 'loop' (a plain PyTorch "
        "loop with torchvision's transforms in DataLoader workers, with seed, kd and overhaul).",
    )
    vs_workers: int | None = option(None, "DataLoader workers of --vs; not given: one a core.", low=0)
    scaling: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Also train on stores of so many images, e.g. 500 5000 50000 500000, at the first size; a queue "
            "grows with them, as in real runs, unless --options sets it."
        },
    )
    estimate: bool = option(
        False,
        "Time and cost of the papers' own runs from the rates measured: moco with resnet50, or seed with resnet18 and "
        "--teacher_backbone resnet50, at 224 pixels.",
    )
    price_per_hour: float | None = option(None, "What this machine costs an hour, for --estimate.", low=0)
    use_cpu: bool = option(False, "Stay off the GPU.")
    seed: int = option(0, "Of weights, images and views.", bounds=SEED)
    output_dir: str = option("outputs/benchmark", "Where benchmark.json and benchmark.png go.")
    append: bool = option(False, "Add this benchmark to those that --output_dir holds.")
    overwrite_output_dir: bool = option(False, "Replace the benchmarks that --output_dir holds.")

    def __post_init__(self) -> None:
        check_options(self)
        check_choice(self.method, METHODS, "method")
        check_choice(self.precision, PRECISIONS, "precision")
        if self.channels not in (1, 3):
            raise InputError(f"--channels is {self.channels}: images have 1 (gray) or 3")
        if not self.image_sizes or len(set(self.image_sizes)) != len(self.image_sizes):
            raise InputError(f"--image_sizes must be given, each once, got {self.image_sizes}")
        for count in self.scaling:
            check_range(count, "scaling", self.batch)
        if self.images < self.batch:
            raise InputError(
                f"--batch {self.batch} is larger than the store ({self.images} images): give a smaller one, or more "
                "--images"
            )
        if self.price_per_hour is not None and not self.estimate:
            raise InputError("--price_per_hour is for --estimate: add it, or leave the price out")
        self._settle_networks()
        self._check_device()
        self._check_rival()
        self.options = parsed_mapping(self.options, "options")
        for name in self.options.keys() & set(_OWN):
            raise InputError(f"--options: {name!r} is the benchmark's own affair; see --help for how it is set")

    def _settle_networks(self) -> None:
        """Fill the networks that were not given, each with its arguments."""
        given, self.backbone = self.backbone, self.backbone or QUICKSTART_BACKBONE
        if self.backbone_args is None and given is None:
            self.backbone_args = dict(QUICKSTART_BACKBONE_ARGS)
        self.backbone_args = parsed_mapping(self.backbone_args, "backbone_args")
        if self.teacher_backbone_args is not None and self.teacher_backbone is None:
            raise InputError("--teacher_backbone_args needs --teacher_backbone: whose arguments are they?")
        if self.teacher_backbone is None:
            self.teacher_backbone, self.teacher_backbone_args = self.backbone, dict(self.backbone_args)
        self.teacher_backbone_args = parsed_mapping(self.teacher_backbone_args, "teacher_backbone_args")

    def _check_device(self) -> None:
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.precision == "fp16" and self.use_cpu:
            raise InputError("--precision fp16 needs a GPU: bf16 works on a CPU")

    def _check_rival(self) -> None:
        if self.vs is None:
            if self.vs_workers is not None:
                raise InputError("--vs_workers is for --vs: say beside whom")
            return
        check_choice(self.vs, RIVALS, "vs")
        if self.method not in RIVALS[self.vs]:
            others = [f"--vs {name} for {', '.join(methods)}" for name, methods in RIVALS.items()]
            raise InputError(f"--vs {self.vs} has no {self.method}: there is {' and '.join(others)}")

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.use_cpu else torch.accelerator.current_accelerator()
