"""``transformers.Trainer`` with views, named loss parts and honest checkpoints, for every method."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, TrainerCallback

from ..backbones import to_channels_last
from ..errors import InputError, check_choice
from ..evaluation.features import NotFinite
from ..files import write_json
from ..methods import METHODS, Method
from ..models import VipriorsConfig
from ..models.modeling_vipriors import not_finite
from .arguments import RunArguments
from .callbacks import ProgressBar, SharedCores, StepHooks, close_bars, show_progress
from .checkpoints import read_method_state, write_method_state
from .data_arguments import DataArguments
from .evaluating import EvaluatingTrainer
from .freed_memory import freed_memory_kept
from .given_images import Images
from .given_setup import refuse_given, setup_from_arguments
from .guards import Guards
from .leaks import look_for_leaks
from .loading import LoadingTrainer, collate_batch
from .optimizer import OptimizerTrainer
from .repeatable import RepeatableTrainer
from .resolve import Resolved
from .resumable import ResumableTrainer
from .resumption import RECORD_FILE, check_resumption, training_record
from .setup import Setup, seed_everything
from .sharding import ShardedTrainer
from .sharing import SharingTrainer
from .stepping import SteppingTrainer
from .stores import Store
from .time_limit import TimedTrainer

logger = logging.getLogger(__name__)
# What a training beside the run takes over from it.
SHARED_BESIDE = (
    "per_device_train_batch_size", "dataloader_drop_last", "dataloader_num_workers", "disable_tqdm", "seed", "bf16",
    "fp16", "use_cpu",
)  # fmt: skip


class MethodTrainer(
    SteppingTrainer, TimedTrainer, EvaluatingTrainer, SharingTrainer, RepeatableTrainer, ResumableTrainer,
    OptimizerTrainer, ShardedTrainer, LoadingTrainer,
):  # fmt: skip
    """``transformers.Trainer`` for every method; see :class:`TeacherTrainer` and :class:`StudentTrainer`.

    What it adds to ``Trainer``: views are made on the device, from a generator seeded by (seed, step, process), so
    that a view depends on nothing that ran before; named loss parts are averaged over the logging window and over
    processes; moving averages move once per optimizer step; checkpoints hold the method's whole state as safetensors
    and nothing pickled but the optimizer's tensors.

    Args:
        model: name of a timm network, a :class:`VipriorsConfig`, a model of ours with the weights to start from, or a
            :class:`hf_vipriors.methods.Method` that is already built; None: the network that ``args`` describe. The
            classes keep the order that a classifier or a configuration has them in.
        args: :class:`TeacherArguments`, :class:`PretrainArguments` or :class:`StudentArguments`. They stay as they
            are: ``trainer.args`` is a complete copy, ``trainer.setup.resolved.sources`` says where each value is from.
            What the method was made with is refused where it is set in that copy later.
        data_collator: must be None, images are collated as a whole batch.
        train_dataset: a :class:`datasets.Dataset` with an image column and, where the method needs them, labels; or an
            image store.
        eval_dataset: the same, to be validated on, may be set later; None: no validation. Images without a label are
            left out, and never trained on.
        unlabelled_dataset: further images; labels are not read.
        teacher: a model, which is copied and stays as it is, or what ``args.teacher`` takes.
        data: how images are read and kept; default :class:`DataArguments`.
        views: of a method that is already built; otherwise the method's own.
        class_names: where image stores are given; their classes are numbered otherwise. Data sets have their own.
        setup: what :func:`hf_vipriors.training.setup.set_up` made, in place of all of these but ``callbacks``,
            ``compute_metrics`` and ``optimizers``.
        compute_metrics: gets ``EvalPrediction(predictions, label_ids)`` and adds to the figures of an evaluation:
            logits ``(N, K)`` of a student, features ``(N, D)`` of a teacher.
        callbacks, optimizers, optimizer_cls_and_kwargs: as in ``Trainer``; optimizers hold all that is trained.
        processing_class: is kept, not saved: a student's folder has the image processor that goes with its network.

    Raises:
        InputError: on whatever cannot work, before anything is written.
    """

    jobs: ClassVar[tuple[str, ...]] = ()  # of the methods that it trains
    at_end: dict[str, Any]  # what :meth:`finish` gave
    figure_names: ClassVar[tuple[str, ...]] = ()  # what an evaluation measures

    def __init__(
        self,
        model: str | VipriorsConfig | PreTrainedModel | Method | None = None,
        args: RunArguments | None = None,
        data_collator: None = None,
        train_dataset: Images | None = None,
        eval_dataset: Images | None = None,
        processing_class: Any = None,
        model_init: None = None,
        compute_loss_func: None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, Any] | None = None,
        preprocess_logits_for_metrics: None = None,
        *,
        unlabelled_dataset: Images | None = None,
        teacher: str | PreTrainedModel | None = None,
        data: DataArguments | None = None,
        views: nn.Module | None = None,
        bank: Store | None = None,
        class_names: Sequence[str] | None = None,
        setup: Setup | None = None,
    ):
        refuse_given(
            data_collator=(data_collator, "images are collated as a whole batch"),
            model_init=(model_init, "hyperparameter_search() makes each network anew by itself"),
            compute_loss_func=(compute_loss_func, "the loss is the method's"),
            preprocess_logits_for_metrics=(preprocess_logits_for_metrics, "compute_metrics gets all logits"),
        )
        if setup is None:
            setup = setup_from_arguments(
                model, self.checked_arguments(args), data or DataArguments(), teacher=teacher, views=views, bank=bank,
                train=train_dataset, validation=eval_dataset, unlabelled=unlabelled_dataset, class_names=class_names,
            )  # fmt: skip
        if compute_metrics is None:
            self.check_best_metric(setup.args.metric_for_best_model)
        self.setup, method = setup, setup.method
        self.views = setup.views
        self.prepared = False
        super().__init__(
            # As the views are: convolutions then reorder no kernel in each pass.
            model=to_channels_last(method),
            args=setup.args,
            data_collator=collate_batch,
            train_dataset=setup.stores["train"],
            eval_dataset=setup.stores.get("validation"),
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=[StepHooks(self._begin_training, self._begin_step), *(callbacks or ())],
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        self.views = self.views.to(self.args.device)
        chance = method.chance_level(self.args.step_images)
        show_progress(self, ProgressBar(method.parts_shown, chance))
        self.guards = Guards(
            self.args,
            classes=max(1, len(self.class_names)),
            validation_images=0 if self.eval_dataset is None else len(self.eval_dataset),
            taught=setup.taught,
            chance=chance,
        )
        if self.args.guards:
            self.add_callback(self.guards)
            self.add_callback(SharedCores)

    def checked_arguments(self, args: RunArguments | None) -> RunArguments:
        """``args``, or the defaults where there are none.

        Raises:
            InputError: arguments of another trainer.
        """
        if args is None:
            args = self.default_arguments()
        if not isinstance(args, RunArguments):
            own = " or ".join(f"{job.capitalize()}Arguments" for job in self.jobs)
            raise InputError(f"args are {type(args).__name__}: use {own}, which has the same options and the method's")
        if METHODS[args.method].job not in self.jobs:
            wanted = " or ".join(sorted(name for name, kind in METHODS.items() if kind.job in self.jobs))
            raise InputError(
                f"{type(self).__name__} takes the arguments of a method among {wanted}, not {type(args).__name__}"
            )
        return args

    def check_best_metric(self, name: str | None) -> None:
        """Refuse a metric to choose a checkpoint by that no evaluation measures: it would be missed after the first.

        Raises:
            InputError: naming those that there are.
        """
        known = self.figure_names
        if name is not None and known:
            check_choice(name.removeprefix("eval_"), known, "metric_for_best_model")

    @staticmethod
    def default_arguments() -> RunArguments:
        raise TypeError("a trainer defines the arguments that it has where none are given")

    @property
    def class_names(self) -> list[str]:
        return self.setup.class_names

    @property
    def train_dataset(self) -> Store:
        return self.setup.stores["train"]

    @train_dataset.setter
    def train_dataset(self, images: Any) -> None:
        if images is not self.train_dataset:
            raise InputError(
                "train_dataset stays: classes, batch and learning rate follow from it; make a new trainer of the other"
            )

    @property
    def eval_dataset(self) -> Store | None:
        return self.setup.stores.get("validation")

    @eval_dataset.setter
    def eval_dataset(self, images: Images | None) -> None:
        if images is not self.eval_dataset:
            self.validate_on(images)
            self.guards.validation_images = 0 if self.eval_dataset is None else len(self.eval_dataset)

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any):
        self._began = time.monotonic()
        self.results = None  # of other weights
        if self.model_init is None:  # a search makes and prepares each of its methods by itself
            self.setup.check_as_made()
            if not self.prepared:
                self.model.prepare(self)
                self.prepared = True
        try:
            with freed_memory_kept(self.args.device):
                found = super().train(resume_from_checkpoint, **options)
            self.check_trained()
            self.at_end = self.finish()
        except NotFinite:  # met by an evaluation before any log or checkpoint looked, or behind finite weights
            raise self.diverged("the network gives numbers that are not finite") from None
        finally:
            close_bars(self)
        return found

    def finish(self) -> dict[str, Any]:
        """What a student's method fits after the last step; entries for ``metrics.json``."""
        return {}

    def check_trained(self) -> None:
        """What has diverged since the last log is not saved as a finished model. Every process must call it.

        Raises:
            InputError: a weight or a statistic of batch norm is no finite number.
        """
        for model in self.evaluated().values():
            wrong = not_finite(model.state_dict().items())
            if self._anywhere(bool(wrong)):
                raise self.diverged(f"{wrong[0] if wrong else 'a tensor'} is not finite")

    def train_beside(self, method: Method, views: nn.Module, options: dict[str, Any]) -> None:
        """Train another method on the same images before the own one, which then starts from its seed again.

        Args:
            method, views: what is trained, in place.
            options: of :class:`RunArguments`; devices, batch and seed are the run's.
        """
        args = RunArguments(**options, **{name: getattr(self.args, name) for name in SHARED_BESIDE})
        self.trainer_beside(method, views, args).train()
        seed_everything(self.args)

    def trainer_beside(self, method: Method, views: nn.Module, args: RunArguments) -> MethodTrainer:
        """A trainer of ``method`` on the images of this one; it measures nothing."""
        stores = {"train": self.setup.stores["train"]}
        setup = dataclasses.replace(
            self.setup, given=args, resolved=Resolved(args), method=method, views=views, stores=stores
        )
        return MethodTrainer(setup=setup)  # a trainer's own class may be made otherwise, as that of a search is

    def _begin_training(self) -> None:
        if self.args.guards:
            with torch.random.fork_rng(devices=[]):  # what is looked at changes nothing that is drawn
                self.run_data_checks()
        self._window = (time.perf_counter(), self.state.global_step)

    def run_data_checks(self) -> None:
        """What the guards want to know before the first step."""
        validation = None if self.eval_dataset is None else self.eval_dataset.labels
        self.guards.count_images(None, validation, self.class_names)
        look_for_leaks(self.guards, self.setup.splits, self.args)

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The method's whole state and the arguments in words; nothing pickled."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_method_state(self.model, state_dict or self.model.state_dict(), folder)
        write_json(folder / RECORD_FILE, training_record(self.setup))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self.is_fsdp_enabled:  # else it was read before it was sharded
            read_method_state(model or self.model, resume_from_checkpoint)

    def before_training(self, checkpoint: str | None) -> None:
        self.settle_length(self._began, checkpoint)
        if checkpoint is not None:
            if changes := check_resumption(self.setup, checkpoint):
                logger.info("goes on from %s with %s", checkpoint, ", ".join(changes))
            if self.is_fsdp_enabled:
                read_method_state(self.model, checkpoint)
        self.start_alike()

    def _load_best_model(self) -> None:
        logger.info("best checkpoint: %s (%s)", self.state.best_model_checkpoint, self.state.best_metric)
        read_method_state(self.model, self.state.best_model_checkpoint)
