"""What goes wrong in a training without stopping it, each said in one line: what was seen, when, what to change.

Guards read logs and evaluations alone, never a step: they cost no time and change no result. All they know of a run
follows from its log, so that a resumed run says what the run that was never interrupted says.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from ..methods import METHODS
from .arguments import RunArguments

logger = logging.getLogger(__name__)
# Nothing is concluded from the first fifth of a run, its warm-up or its first steps, in which a queue fills.
SETTLED_SHARE, SETTLED_STEPS = 0.2, 40
# A loss this near its chance level: positives are 0.02 more alike than negatives, at a temperature of 0.2.
CHANCE_MARGIN = 0.1
BLOWN_UP, BLOWN_UP_WINDOWS = 2.0, 3
# A contrastive loss of unit vectors cannot grow without bound.
BLOWN_UP_CONTRAST = 1.2
LEAST_SPREAD, LEAST_RANK = 0.05, 2.0
FEW_TRAIN, FEW_VALIDATION = 5, 10
FALL, FALLING_EVALUATIONS, LEARNT_BY_HEART = 0.02, 3, 0.99
# Of the predictions for images without labels, after half a run: on CIFAR-10, where 3 % counted, FixMatch was a point
# below fine-tuning.
FEW_CONFIDENT = 0.1
NAMED = 3
_NO_PARTS = {"loss", "grad_norm", "learning_rate", "epoch", "step", "images_per_second"}


@dataclass(frozen=True)
class Warned:
    """One remark: of which kind, at which optimizer step (0: before the first), in which words."""

    kind: str
    step: int
    text: str


class Guards(TrainerCallback):
    """Watches the log of a training, and says each kind of trouble once.

    Args:
        args: of the run; its learning rate and length are settled when the training begins.
        classes: K.
        validation_images: how many there are; 0 where nothing is validated.
        taught: whether it has a teacher. Default False.
        chance: the loss of a network that has learnt nothing, or None; see :meth:`Method.chance_level`.

    Attributes:
        warned: what was said, in order.

    Example:
        >>> guards = Guards(RunArguments(output_dir="unused", use_cpu=True), classes=2, validation_images=100)
        >>> guards.count_images(torch.tensor([0, 0, 0, 0, 0, 1]), None, ["cat", "dog"])
        >>> guards.found()[0]["text"]
        "few training images: 'dog' has 1; add images (5 at least), or start from a --teacher"
    """

    def __init__(
        self,
        args: RunArguments,
        *,
        classes: int,
        validation_images: int,
        taught: bool = False,
        chance: float | None = None,
    ):
        self.args, self.classes, self.validation_images = args, classes, validation_images
        self.taught, self.chance = taught, chance
        self.warned: list[Warned] = []
        self._begin(0)

    def _begin(self, max_steps: int) -> None:
        self._settled = max(SETTLED_STEPS, SETTLED_SHARE * max_steps, self.args.get_warmup_steps(max_steps))
        self._half = max_steps / 2
        self._at_chance = self._blown_up = self._falling = 0
        self._parts: set[str] = set()
        self._first = self._lowest = math.inf
        self._best_top1 = -math.inf

    def say(self, kind: str, step: int, text: str) -> None:
        """Say something once a run, whatever the number of times it is seen."""
        if any(each.kind == kind for each in self.warned):
            return
        self.warned.append(Warned(kind, step, text))
        if self.args.should_log:
            logger.warning("at step %d: %s", step, text)

    def _not_yet(self, **words: str) -> list[str]:
        """Of these options the words of those that the method reads and the run does not use."""
        read = METHODS[self.args.method].options_read(self.args)
        return [text for name, text in words.items() if name in read and not vars(self.args)[name]]

    @property
    def _length(self) -> str:
        return "--max_steps" if self.args.max_steps > 0 else "--num_train_epochs"

    def found(self) -> list[dict[str, Any]]:
        """What was said, for ``metrics.json``."""
        return [asdict(each) for each in self.warned]

    # Before the first step

    def count_images(self, train: Tensor | None, validation: Tensor | None, class_names: Sequence[str]) -> None:
        """Too few images to learn a class from, or to choose by.

        Args:
            train: ``(N,)`` labels of the images that are learnt from with labels, -1 where unlabelled; None: none are.
            validation: ``(M,)`` or None.
            class_names: K of them.
        """
        if train is not None and (few := _few(train, class_names, FEW_TRAIN)):
            change = f"add images ({FEW_TRAIN} at least)" + ("" if self.taught else ", or start from a --teacher")
            self.say("few_train_images", 0, f"few training images: {few}; {change}")
        if validation is not None and (few := _few(validation, class_names, FEW_VALIDATION)):
            self.say(
                "few_validation_images",
                0,
                f"few validation images: {few}; what is chosen on them is chosen by luck: add images "
                f"({FEW_VALIDATION} a class at least), or raise --validation_share where they are carved from train",
            )

    def check_teacher_accuracy(self, top1: float) -> None:
        """A teacher whose predictions are distilled, measured on validation."""
        if top1 <= self._guessing():
            self.say(
                "teacher_at_chance",
                0,
                f"the teacher is right about {100 * top1:.1f} % of the validation images, no better than guessing of "
                f"{self.classes} classes: check that its classes have the same order and its images the same "
                "preparation, or train another --teacher",
            )

    def _guessing(self) -> float:
        """The top-1 that guessing stays below, but for one time in forty."""
        p = 1 / self.classes
        return p + 2 * math.sqrt(p * (1 - p) / max(1, self.validation_images))

    # While it trains

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._begin(state.max_steps)
        for entry in state.log_history:  # of a run that goes on
            self._read(entry)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self._read(state.log_history[-1])

    def _read(self, entry: dict[str, Any]) -> None:
        step = entry["step"]
        if "loss" in entry:
            self._read_chance(step, entry["loss"])
            self._read_blow_up(step, entry)
        if step >= max(self._half, self._settled) and entry.get("confident", 1.0) < FEW_CONFIDENT:
            changes = [] if vars(self.args)["threshold"] == "relative" else ["--threshold relative"]
            changes += [
                "a lower --confidence",
                f"less {'--mixup and ' if vars(self.args)['mixup'] else ''}--weight_decay",
            ]
            self.say(
                "few_confident",
                step,
                f"{100 * entry['confident']:.0f} % of the predictions for images without labels count, the others "
                f"teach nothing: use {any_of(changes)}",
            )
        for prefix in ("", "peer_"):
            if f"eval_{prefix}effective_rank" in entry and step >= self._settled:
                self._read_features(step, entry, f"eval_{prefix}", "the peer's " if prefix else "the ")
        if "eval_top1" in entry:
            self._read_overfitting(step, entry)

    def _read_chance(self, step: int, loss: float) -> None:
        if self.chance is None or step < self._settled:
            return
        self._at_chance = self._at_chance + 1 if loss > self.chance - CHANCE_MARGIN else 0
        if self._at_chance == 2:
            changes = [
                f"another --learning_rate ({self.args.learning_rate:g})",
                *self._not_yet(projector_batch_norm="--projector_batch_norm true"),
                "a larger --per_device_train_batch_size",
            ]
            self.say(
                "loss_at_chance",
                step,
                f"the contrastive loss is {loss:.2f}, and {self.chance:.2f} is that of a network that learnt nothing: "
                f"try {any_of(changes)}",
            )

    def _read_blow_up(self, step: int, entry: dict[str, Any]) -> None:
        loss, parts = entry["loss"], entry.keys() - _NO_PARTS
        if parts != self._parts:  # a term joined: another loss
            self._parts, self._first, self._lowest, self._blown_up = parts, loss, loss, 0
        if self.chance is None and "contrastive" in parts:
            return  # while its queue fills the loss rises, nobody knows how far
        self._lowest = min(self._lowest, loss)
        if self.chance is not None:
            usual, high = self.chance, loss > BLOWN_UP_CONTRAST * self.chance
        else:
            usual = self._first
            high = loss > BLOWN_UP * usual or (self._lowest < usual / BLOWN_UP and loss > usual)
        self._blown_up = self._blown_up + 1 if high else 0
        if self._blown_up == BLOWN_UP_WINDOWS:
            what = "chance level" if self.chance is not None else "value at the start"
            self.say(
                "loss_blew_up",
                step,
                f"the loss is {loss:.3g}, above its {what} of {usual:.3g} for {BLOWN_UP_WINDOWS} logs: lower "
                f"--learning_rate (to {self.args.learning_rate / 4:.2g}, say), or clip: --max_grad_norm 1",
            )

    def _read_features(self, step: int, entry: dict[str, Any], prefix: str, whose: str) -> None:
        spread, rank = entry[f"{prefix}feature_std"], entry[f"{prefix}effective_rank"]
        knn = entry.get(f"{prefix}knn_top1")  # none without labels
        if spread < LEAST_SPREAD or rank < LEAST_RANK:
            changes = [
                f"lower --learning_rate ({self.args.learning_rate:g})",
                *self._not_yet(projector_batch_norm="use --projector_batch_norm true"),
            ]
            self.say(
                "collapse",
                step,
                f"{whose}features of different images are alike (spread {spread:.3f} of 1, {rank:.1f} effective "
                f"directions): collapse; {any_of(changes)}",
            )
        if knn is not None and knn <= self._guessing():
            self.say(
                "knn_at_chance",
                step,
                f"{whose}features find the class of {100 * knn:.1f} % of the validation images, no better than "
                f"guessing of {self.classes} classes: train longer ({self._length}), on more images "
                "(--unlabelled rest), or with smaller crops (--crop_scale)",
            )

    # A student that has learnt its images by heart

    def has_fallen(self, top1: float) -> bool:
        """Whether a validation top-1 lies so far below the best so far that the training images want a look."""
        return top1 < self._best_top1 - FALL

    def _read_overfitting(self, step: int, entry: dict[str, Any]) -> None:
        top1 = entry["eval_top1"]
        by_heart = self.has_fallen(top1) and entry.get("eval_train_top1", 0.0) >= LEARNT_BY_HEART
        self._falling = self._falling + 1 if by_heart else 0
        self._best_top1 = max(self._best_top1, top1)
        if self._falling == FALLING_EVALUATIONS:
            add = self._not_yet(
                mixup="--mixup 0.3", cutmix="--cutmix 1", auto_augment="--auto_augment imagenet",
                ema_decay="--ema_decay 0.995",
            )  # fmt: skip
            changes = [f"add {any_of(add)}"] if add else []
            changes += [f"lower {self._length}", *([] if self.taught else ["use a --teacher"])]
            self.say(
                "overfitting",
                step,
                f"{100 * entry['eval_train_top1']:.0f} % of the training images are right, and validation has fallen "
                f"from {100 * self._best_top1:.1f} % to {100 * top1:.1f} %: {any_of(changes)}",
            )


def any_of(changes: Sequence[str]) -> str:
    """What may be changed, one of it or all.

    Example:
        >>> any_of(["lower --learning_rate", "use --mixup", "use a --teacher"])
        'lower --learning_rate, use --mixup or use a --teacher'
    """
    *first, last = changes
    return f"{', '.join(first)} or {last}" if first else last


def _few(labels: Tensor, class_names: Sequence[str], least: int) -> str:
    """The classes with fewer images than ``least``, smallest first; empty where there is none."""
    counts = torch.bincount(labels[labels >= 0], minlength=len(class_names)).tolist()
    few = sorted((count, name) for count, name in zip(counts, class_names, strict=True) if count < least)
    named = ", ".join(f"{name!r} has {count}" for count, name in few[:NAMED])
    return named + (f" and {len(few) - NAMED} classes more have fewer than {least}" if len(few) > NAMED else "")
