"""What can be set for students that learn from labels: phase 2 and its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError, check_choice, check_range
from ..invocation import command
from ..views import AUTO_AUGMENT_POLICIES
from .arguments import RunArguments, option, parsed_mapping
from .teacher_arguments import check_crop_scale


@dataclass
class StudentArguments(RunArguments):
    """A classifier, distilled from a teacher, fine-tuned from it, or trained from scratch."""

    methods: ClassVar[tuple[str, ...]] = ("overhaul", "supervised", "kd", "fitnet", "crd", "sskd", "fixmatch")
    # Methods that need the teacher's answers, hence a classifier of the same classes.
    need_answers: ClassVar[tuple[str, ...]] = ("kd", "sskd")
    # Methods that a teacher may start, but that do without one while they train.
    need_no_teacher: ClassVar[tuple[str, ...]] = ("supervised", "fixmatch")
    # Methods that know what to do with an image without a label.
    take_unlabelled: ClassVar[tuple[str, ...]] = ("overhaul", "kd", "fitnet", "fixmatch")

    method: str = option(
        "overhaul",
        "overhaul (features of all stages), supervised (cross-entropy alone), kd (answers), fitnet (a middle stage), "
        "crd (contrast of features), sskd (answers and similarities on rotated images), fixmatch (labels, and one "
        "answer for two views of images without).",
    )
    teacher: str | None = option(
        None,
        "A folder of ours, fashion-vipriors-teacher (ships with the package), timm/NAME or timm:NAME, a Hub id, or a "
        "public MoCo, SimCLR or SwAV .pth.tar file. "
        "With --method supervised and fixmatch the student merely starts from it.",
    )
    more_teachers: list[str] = option(
        [],
        "Further classifiers like --teacher, for --method kd and --kd_weight: the mean of all answers is distilled.",
    )
    teacher_revision: str | None = option(None, "Revision (branch, tag, commit) of a teacher from the Hub.")
    student_init: str | None = option(
        None,
        "Where the student's weights come from: 'teacher', 'scratch' or a folder; None: with overhaul, "
        "supervised and fixmatch the teacher where the network is the same, else scratch.",
    )
    backbone: str | None = option(None, "Any timm network; None: the teacher's, or resnet18 without a teacher.")
    backbone_args: dict | str | None = option(
        None, "JSON of arguments for timm.create_model; None: the teacher's where the network is the same."
    )
    image_size: int | None = option(None, "Side of an image in pixels; None: the teacher's, or 64. May be larger.")
    crop_pct: float | None = option(None, "Evaluation resizes to size / crop_pct; None: the teacher's, or 0.875.")
    feature_weight: float = option(1e-4, "overhaul: weight of the feature distance [2008.00261].")
    distil_from_epoch: float = option(5.0, "overhaul: cross-entropy alone before this epoch [2008.00261].")
    teacher_batch_statistics: bool = option(
        False, "Run the teacher's batch norms on the batch, as the published program of 2008.00261 did (not sskd)."
    )
    classification_weight: float | None = option(
        None, "Weight of the cross-entropy; None: 0.1 with kd and sskd [2006.07114], else 1."
    )
    kd_weight: float | None = option(
        None,
        "Weight of the teacher's answers, with any method that distils; None: 0.9 with kd and sskd [2006.07114], "
        "else 0.",
    )
    kd_temperature: float = option(4.0, "T of the answers [2006.07114].")
    hint_weight: float = option(100.0, "fitnet: weight of the hint's squared error [1910.10699].")
    hint_stage: int | None = option(None, "fitnet: which of the (at most four) stages, 1: shallowest; None: middle.")
    contrast_weight: float = option(0.8, "crd: weight of the contrast [1910.10699].")
    contrast_dim: int = option(128, "crd: width of the embeddings [1910.10699].")
    contrast_temperature: float = option(0.07, "crd: T of the contrast [1910.10699].")
    negatives: int = option(16384, "crd: negatives of other classes, or all there are [1910.10699].")
    memory_momentum: float = option(0.5, "crd: share of an image's old memory that stays [1910.10699].")
    transfer_weight: float = option(2.7, "sskd: weight of the answers on rotated images [2006.07114].")
    similarity_weight: float = option(10.0, "sskd: weight of the similarities [2006.07114].")
    similarity_temperature: float = option(0.5, "sskd: T of the similarities [2006.07114].")
    keep_transfer: float = option(1.0, "sskd: share of wrong answers that is transferred [2006.07114].")
    keep_similarity: float = option(0.75, "sskd: share of wrong similarities that is transferred [2006.07114].")
    head_epochs: float = option(
        60.0, "sskd: epochs of the teacher's head, kept beside a teacher that is a folder [2006.07114]."
    )
    head_learning_rate: float = option(0.05, "sskd: learning rate of the head, / 10 at 1/2 and 3/4 [2006.07114].")
    unlabelled_ratio: int | None = option(
        None,
        "Images without labels beside each labelled one of a step, with overhaul, kd, fitnet and fixmatch; None: 3 "
        "with fixmatch (NOTE 7 in 2001.07685), else 0.",
    )
    consistency_weight: float = option(1.0, "fixmatch: weight of the answers for images without labels [2001.07685].")
    confidence: float = option(
        0.9, "fixmatch: an answer counts where its best class has this probability (NOTE 0.95 in 2001.07685)."
    )
    layer_decay: float = option(
        1.0, "The learning rate falls by this factor with each layer below the head; below 1 it spares a prior."
    )
    label_smoothing: float | None = option(
        None, "Share of each target spread over all classes; None: 0.1 [2008.00261], 0 with sskd."
    )
    mixup: float = option(0.0, "Alpha of mixup, 0: none.")
    cutmix: float = option(0.0, "Alpha of CutMix, 0: none.")
    ema_decay: float | None = option(
        None,
        "Decay of the moving average of the weights, which is what is kept; 0: none. None: 0.995 with fixmatch, "
        "else 0.",
    )
    auto_augment: str | None = option(None, "AutoAugment policy: cifar10 (the published program's) or imagenet.")
    class_weights: str = option("none", "'balanced' weighs classes by the inverse of their size; 'none'.")
    crop_scale: list[float] = option([0.5, 1.0], "Area of a crop, smallest and largest share of the image.")
    flip: float = option(0.5, "Probability of a left-right flip; 0 where left and right differ (digits, text).")

    trials: int = option(
        0,
        "Train this many students first, with settings drawn from --search_space, and keep the settings that are "
        "best on validation; 0: none. Started again, a killed search goes on.",
    )
    search_space: str | None = option(
        None,
        "YAML file of what --trials may change and between what, or the name of a shipped one: supervised, overhaul, "
        "fixmatch.",
    )
    settings_of: str | None = option(None, "Folder of a run with --trials: take the settings that were best there.")

    corruptions: bool = option(False, "Score corrupted test images too (11 corruptions, 5 severities).")

    output_dir: str | None = option("outputs/student", "Where the student, its card and its checkpoints go.")
    num_train_epochs: float = option(100.0, "Passes over the labelled images [2008.00261].")
    per_device_train_batch_size: int = option(
        0, "Images per device and step; 0: 64, or half of the images where they are few."
    )
    optim: str = option("sgd", "sgd [2008.00261], adamw_torch, or any optimizer of transformers.")
    nesterov: bool = option(True, "Nesterov momentum for --optim sgd [2008.00261].")
    weight_decay: float = option(5e-4, "NOTE 1e-4 in 2008.00261; few images want more.")
    warmup_steps: float = option(0.05, "Warm-up of the learning rate: steps, or a share of the run when below 1.")

    def __post_init__(self) -> None:
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = "top1", True
        super().__post_init__()
        check_choice(self.method, self.methods, "method")
        check_choice(self.class_weights, ("none", "balanced"), "class_weights")
        if self.auto_augment is not None:
            check_choice(self.auto_augment, AUTO_AUGMENT_POLICIES, "auto_augment")
        if self.method not in self.need_no_teacher and self.teacher is None:
            kind = "a classifier" if self.needs_answers else f"made by {command('teacher')}, or timm/NAME"
            raise InputError(f"--method {self.method} needs --teacher ({kind})")
        self._check_weights()
        self._check_search()
        if self.image_size is not None:
            check_range(self.image_size, "image_size", 8)
        if self.crop_pct is not None:
            check_range(self.crop_pct, "crop_pct", 0.1, 1)
        check_range(self.flip, "flip", 0, 1)
        for name in ("mixup", "cutmix"):
            check_range(getattr(self, name), name, 0)
        check_range(self.ema_decay, "ema_decay", 0, 0.999999)
        check_crop_scale(self.crop_scale)
        self.backbone_args = (
            None if self.backbone_args is None else parsed_mapping(self.backbone_args, "backbone_args")
        )

    def _check_weights(self) -> None:
        """Fill what the method decides, check the ranges, refuse what the method would not use."""
        if self.method in self.need_no_teacher and self.kd_weight:
            raise InputError("--kd_weight needs a method with a teacher's answers: --method kd")
        if self.method in self.need_no_teacher and self.classification_weight not in (None, 1.0):
            raise InputError(
                "--classification_weight weighs the cross-entropy against a teacher's term: "
                f"--method {self.method} has none"
            )
        self._check_unlabelled()
        if self.hint_stage is not None:
            check_range(self.hint_stage, "hint_stage", 1, 4)
        if self.method == "crd" and (self.mixup or self.cutmix):
            raise InputError("--mixup and --cutmix blend images, --method crd tells them apart: leave them out")
        if self.method == "sskd":
            for name, unused in (("label_smoothing", 0.0), ("mixup", 0.0), ("cutmix", 0.0), ("class_weights", "none")):
                if getattr(self, name) not in (None, unused):
                    raise InputError(f"--{name} does not go with --method sskd: leave it out")
        answers = self.method in self.need_answers
        if self.classification_weight is None:
            self.classification_weight = 0.1 if answers else 1.0
        if self.kd_weight is None:
            self.kd_weight = 0.9 if answers else 0.0
        if self.more_teachers and not self.kd_weight:
            raise InputError("--more_teachers share their answers: use --method kd, or --kd_weight")
        if self.label_smoothing is None:
            self.label_smoothing = 0.0 if self.method == "sskd" else 0.1
        check_range(self.label_smoothing, "label_smoothing", 0, 0.99)
        for name in (
            *("feature_weight", "classification_weight", "kd_weight", "hint_weight", "contrast_weight"),
            *("transfer_weight", "similarity_weight"),
        ):
            check_range(getattr(self, name), name, 0)
        for name in ("kd_temperature", "contrast_temperature", "similarity_temperature", "head_learning_rate"):
            check_range(getattr(self, name), name, 0, open_low=True)
        check_range(self.head_epochs, "head_epochs", 0, open_low=True)
        for name in ("keep_transfer", "keep_similarity", "memory_momentum"):
            check_range(getattr(self, name), name, 0, 1)
        for name in ("negatives", "contrast_dim"):
            check_range(getattr(self, name), name, 1)

    def _check_unlabelled(self) -> None:
        """Fill how many images without labels a step sees, and refuse those that the method has no use for."""
        if self.unlabelled_ratio is None:
            self.unlabelled_ratio = 3 if self.method == "fixmatch" else 0
        check_range(self.unlabelled_ratio, "unlabelled_ratio", 0)
        if self.unlabelled_ratio and self.method not in self.take_unlabelled:
            raise InputError(
                f"--unlabelled_ratio: --method {self.method} has no use for images without labels; "
                f"{', '.join(self.take_unlabelled)} have"
            )
        if self.method == "fixmatch" and not self.unlabelled_ratio:
            raise InputError("--method fixmatch learns from images without labels: --unlabelled_ratio 1 or more")
        if self.ema_decay is None:
            self.ema_decay = 0.995 if self.method == "fixmatch" else 0.0
        if self.method == "fixmatch" and not self.ema_decay:
            raise InputError(
                "--method fixmatch answers with the moving average of the weights: give --ema_decay 0.995"
            )
        check_range(self.consistency_weight, "consistency_weight", 0)
        check_range(self.confidence, "confidence", 0, 1)
        check_range(self.layer_decay, "layer_decay", 0, 1, open_low=True)

    def _check_search(self) -> None:
        """Refuse a search that has no space, or that has no use."""
        check_range(self.trials, "trials", 0)
        if self.trials and self.settings_of:
            raise InputError("--trials searches for settings, --settings_of takes another run's: give one of them")
        if self.trials and not self.search_space:
            raise InputError("--trials needs --search_space FILE, such as supervised, which ships with the package")
        if self.search_space and not self.trials:
            raise InputError("--search_space does nothing without --trials N")
        if self.trials and self.world_size > 1:
            raise InputError("--trials runs in one process: search so, then give its folder to --settings_of in many")
        if self.trials and self.load_best_model_at_end:
            raise InputError("--trials scores a student when its training ends: leave --load_best_model_at_end out")

    @property
    def needs_answers(self) -> bool:
        """Whether the teacher must be a classifier of the student's classes."""
        return self.method in self.need_answers or bool(self.kd_weight)

    @property
    def default_base_learning_rate(self) -> float:
        """0.1 per 256 images for SGD [2008.00261], 1e-3 for the Adam family."""
        return 0.1 if self.optim == "sgd" else 1e-3
