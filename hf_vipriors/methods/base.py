"""What a method is: one training step of one paper as a module, reached through one ``forward``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..options import Default
from ..papers import Paper
from .frozen_teacher import FrozenTeacher


class Progress(NamedTuple):
    """Where training stands: optimizer steps done, epochs done (fractional), share of the whole run in [0, 1]."""

    step: int
    epoch: float
    share: float


@dataclass
class MethodOutput(ModelOutput):
    """What a training step gives back.

    Attributes:
        loss: scalar to be minimised.
        parts: detached scalars by name, logged beside the loss.
        logits: ``(B, K)`` of methods that classify, else None.
    """

    loss: Tensor | None = None
    parts: dict[str, Tensor] | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Material:
    """What a method is built from, beside its networks.

    Attributes:
        images: how many are in the training set.
        labels: ``(N,)`` of the labelled training images.
        teachers: the frozen networks that it learns from; empty where there are none.
    """

    images: int
    labels: Tensor
    teachers: tuple[VipriorsModel | VipriorsForImageClassification, ...] = ()


class Method(nn.Module):
    """Base of all methods: models, losses and training-only state (queue, momentum encoder, connectors, EMA).

    Every trainable layer is reached through :meth:`forward`, so that DDP, mixed precision, clipping and the optimizer
    see it. ``state_dict()`` is all that a checkpoint needs to resume; :meth:`deployable` is what a person downloads.

    All that the rest of the package knows of a method stands in its class:

    Attributes:
        name: as ``--method`` names it.
        job: whose arguments it has: ``"teacher"`` (phase 1), ``"pretrain"`` (students without labels) or
            ``"student"``.
        summary: a phrase for ``--help``.
        options: dataclass of its options; the arguments of its job are composed of those of all its methods.
        papers: that a card cites, whatever the options.
        parts_shown: logged part -> its short name in the progress bar.
        teacher_kind: what ``--teacher`` may be: ``"none"`` (refused), ``"start"`` (where the weights start),
            ``"features"`` (any network) or ``"classifier"`` (one of the same classes).
        takes_unlabelled: whether a student's step knows what to do with an image without a label.
        starts_from_teacher: whether a student of the same network goes on from the teacher's weights by default.
    """

    name: ClassVar[str]
    job: ClassVar[str]
    summary: ClassVar[str]
    options: ClassVar[type]
    papers: ClassVar[tuple[Paper, ...]] = ()
    parts_shown: ClassVar[Mapping[str, str]] = {}
    teacher_kind: ClassVar[str] = "none"
    takes_unlabelled: ClassVar[bool] = False
    starts_from_teacher: ClassVar[bool] = False

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        """Options that were not given and follow from the method and from other options."""
        return {}

    @classmethod
    def data_defaults(cls, args: Any, images: int) -> dict[str, Default]:
        """Options that were not given and follow from the number of images; ``args`` are complete otherwise.

        Raises:
            InputError: a given one does not go with the images.
        """
        return {}

    @classmethod
    def check(cls, args: Any) -> None:
        """Refuse combinations that cannot work, or that the method would not use.

        Args:
            args: complete by :meth:`defaults`; each is within its own bounds already.

        Raises:
            InputError: naming the option.
        """

    @classmethod
    def check_batch(cls, args: Any) -> None:
        """Refuse a batch that the method cannot learn from; ``args`` have one.

        Raises:
            InputError: naming the option.
        """

    @classmethod
    def networks(
        cls, args: Any, class_names: Sequence[str], teacher: VipriorsModel | VipriorsForImageClassification | None
    ) -> tuple[PreTrainedModel, ...]:
        """Fresh networks, what is deployed first; their random start is that of the seed that was set before."""
        raise TypeError(f"{cls.__name__} must define networks()")

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> Method:
        """The method around its networks; ``args`` are complete."""
        raise TypeError(f"{cls.__name__} must define build()")

    @classmethod
    def views(cls, args: Any, config: VipriorsConfig) -> nn.Module:
        """What turns uint8 batches into the views of a step."""
        raise TypeError(f"{cls.__name__} must define views()")

    @classmethod
    def options_read(cls, args: Any) -> tuple[str, ...]:
        """Names of the options that have an effect with these others, for the card; ``args`` are complete."""
        return card_options(cls)

    @classmethod
    def papers_used(cls, args: Any) -> tuple[Paper, ...]:
        """The papers that a card cites with these options; ``args`` are complete."""
        return cls.papers

    @classmethod
    def asks_for_predictions(cls, args: Any) -> str | None:
        """The option that asks for a teacher's predictions, hence for a classifier; None where nothing does."""
        return f"--method {cls.name}" if cls.teacher_kind == "classifier" else None

    @classmethod
    def steps_before(cls, args: Any, steps_per_epoch: int) -> float:
        """Steps that :meth:`prepare` may take, for who plans how long a run takes."""
        return 0.0

    def prepare(self, trainer: Any) -> None:
        """What must be trained before the method itself; by ``trainer.train_beside``."""

    @classmethod
    def reads_unlabelled(cls, args: Any) -> bool:
        """Whether a run sees images without labels, while it trains or at its end; ``args`` are complete."""
        return True

    @classmethod
    def pool_at_end(cls, args: Any) -> int:
        """How many images without labels :meth:`finish` looks at, at most, for who plans how long a run takes."""
        return 0

    @classmethod
    def seconds_at_end(cls, images: int, width: int, classes: int) -> float:
        """What :meth:`finish` takes beside their passes, on this machine.

        Args:
            images: how many it looks at.
            width: of their features.
            classes: K.
        """
        return 0.0

    def finish(self, trainer: Any) -> dict[str, Any]:
        """What a student fits once its training has ended, on every process.

        Args:
            trainer: of students; it gives features and takes a classifier.

        Returns:
            Entries for ``metrics.json``.
        """
        return {}

    def scale_epochs(self, share: float) -> None:
        """The run has this share of the epochs that the method was built for: what it counts in epochs follows."""

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        """One step.

        Args:
            views: float ``(B, 3, h, w)`` each, normalised, row for row the same images.
            labels: ``(B,)`` class numbers, -1 where unlabelled.
            index: ``(B,)`` number of each image in the data set.
            labelled: how many images have a label, where these come first, as whoever loads the images knows. None:
                the labels are looked at, which on an accelerator waits for all that it has still to do.
        """
        raise TypeError(f"{type(self).__name__} must define forward()")

    def deployable(self) -> PreTrainedModel:
        """The bare model, as it is saved and evaluated."""
        raise TypeError(f"{type(self).__name__} must define deployable()")

    def begin_step(self, progress: Progress) -> None:
        """Called before the first micro-batch of an optimizer step: schedules live here."""

    def rows_used(self, rows: int, labelled: int | None) -> int:
        """How many images of a batch the step uses, from the first one: no view is made of the others.

        Args:
            rows: of the batch.
            labelled: as in :meth:`forward`.
        """
        return rows

    def end_step(self, progress: Progress) -> None:
        """Called once after each optimizer step, whatever the gradient accumulation: moving averages live here."""

    def evaluated(self) -> dict[str, PreTrainedModel]:
        """The models that an evaluation measures, by the prefix of their figures."""
        return {"": self.deployable()}

    def teachers(self) -> list[FrozenTeacher]:
        """The frozen networks that it learns from."""
        return [module for module in self.modules() if isinstance(module, FrozenTeacher)]

    def learning_rate_factors(self) -> dict[str, float]:
        """Prefix of parameter names -> factor on the learning rate, where parts of the method have their own."""
        return {}

    def chance_level(self, global_batch: int) -> float | None:
        """The loss of a network that has learnt nothing, where the method has such a number."""
        return None


def method_options(method: type[Method]) -> tuple[str, ...]:
    """Names of all options that a method reads: those of its own class first, then those of the groups it inherits."""
    known = {each.name for each in fields(method.options)}
    names = [name for kind in method.options.__mro__ for name in vars(kind).get("__annotations__", {})]
    return tuple(dict.fromkeys(name for name in names if name in known))


def card_options(method: type[Method]) -> tuple[str, ...]:
    """Those of them that a card lists among the settings."""
    shown = {each.name for each in fields(method.options) if each.metadata["help"].on_card}
    return tuple(name for name in method_options(method) if name in shown)


def labelled_first(views: list[Tensor], labels: Tensor, labelled: int | None = None) -> tuple[list[Tensor], Tensor]:
    """The views with the labelled images first, and the ``(L,)`` labels of these; ``labelled`` as in a step."""
    if labelled is None:
        unknown = labels < 0
        labelled = len(labels) - int(unknown.sum())
        if labelled < len(labels):
            order = unknown.int().argsort(stable=True)
            views, labels = [view[order] for view in views], labels[order]
    return views, labels[:labelled]
