"""The part of a trainer that gives its model away: saved, described by a card, pushed to the Hub."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import PreTrainedModel, Trainer

from ..errors import InputError
from ..hub.native_export import export_native
from ..hub.repository_files import check_repo_id
from ..hub.upload import check_login
from ..hub.whole_folder import whole_folder
from ..methods import METHODS
from ..models import VipriorsForImageClassification, VipriorsModel
from .cards import renew_card, result_facts
from .finished_run import push_run
from .setup import Setup
from .sharding import whole_state

logger = logging.getLogger(__name__)


class SharingTrainer(Trainer):
    """``save_model``, ``create_model_card`` and ``push_to_hub`` with the contract of ``transformers.Trainer``.

    What is shared is the model to deploy: of a teacher a :class:`VipriorsModel`, of a student the native checkpoint
    that ``pipeline("image-classification")`` and timm load without this package.
    """

    setup: Setup
    # Of the weights as they are, for their card, by whoever measured more than validation; train() drops it.
    results: dict[str, Any] | None = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save what is deployed to ``output_dir``, or to the run's own folder. Every process must call it.

        Of two peers the smaller one is saved there, the other one in the folder ``peer`` inside it; a student that was
        trained without labels also gets its backbone as a native checkpoint, in ``native``.
        """
        folder = Path(output_dir or self.args.output_dir)
        if _internal_call:  # the Trainer writes a checkpoint
            self._save(str(folder), state_dict=whole_state(self.model) if self.is_fsdp_enabled else None)
            return
        models = self.evaluated()
        if self.args.should_save:
            for prefix, model in reversed(models.items()):  # what finishes the folder comes last
                save_deployable(model, folder / prefix.rstrip("_"), self.setup.class_names)
            if METHODS[self.args.method].job == "pretrain":
                export_native(models[""], folder / "native")
                logger.info("its backbone for transformers and timm alone: %s", folder / "native")
        self.accelerator.wait_for_everyone()

    def create_model_card(
        self, language: str | None = None, license: str | None = None, tags: Any = None, model_name: str | None = None,
        finetuned_from: str | None = None, tasks: Any = None, dataset_tags: Any = None, dataset: str | None = None,
        dataset_args: Any = None,
    ) -> None:  # fmt: skip
        """Write ``README.md`` into the run's folder, with what was measured: on validation, if nothing else was.

        One that a person wrote or edited stays as it is, which a warning says.

        Args:
            license, model_name, dataset: as in ``Trainer``.
            language, tags, finetuned_from, tasks, dataset_tags, dataset_args: must be None, the card's own are derived
                from the run.

        Raises:
            InputError: one of the latter was given, or ``trainer.args`` say of the method what is not so.
        """
        derived = {
            **{"language": language, "tags": tags, "finetuned_from": finetuned_from, "tasks": tasks},
            **{"dataset_tags": dataset_tags, "dataset_args": dataset_args},
        }
        if given := [name for name, value in derived.items() if value is not None]:
            raise InputError(f"{', '.join(given)}: the card derives these from the run; leave them out")
        self.setup.check_as_made()
        results = self.validation_results() if self.results is None else self.results
        if not self.args.should_save:
            return
        facts = result_facts(self.setup, self.evaluated()[""], results)
        changes = {"licence": license, "model_name": model_name, "dataset_name": dataset}
        facts = replace(facts, **{name: value for name, value in changes.items() if value is not None})
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        renew_card(facts, folder)

    def validation_results(self) -> dict[str, Any]:
        """Figures on the validation images in the form of ``metrics.json``; empty without any. Every process calls."""
        raise TypeError(f"{type(self).__name__} must define validation_results()")

    def push_to_hub(
        self, commit_message: str | None = None, blocking: bool = True, token: str | None = None,
        revision: str | None = None, private: bool | None = None, **kwargs: Any,
    ) -> str | None:  # fmt: skip
        """Save the model, write its card, and push both in one commit; a card that was edited goes as it is.

        Args:
            commit_message, token, revision, private: as in ``Trainer``.
            blocking: must be True.
            kwargs: of :meth:`create_model_card`.

        Returns:
            The address of the commit; None on processes other than the main one.

        Raises:
            InputError: not logged in, no access, another model there, or a Hub that fails again and again.
        """
        if not blocking:
            raise InputError("blocking=False cannot be given: a push is one commit, and is tried again where it fails")
        repo_id = None
        if self.args.should_save:
            user = check_login(HfApi(token=token or self.args.hub_token))
            name = self.args.hub_model_id or Path(self.args.output_dir).resolve().name
            repo_id = name if "/" in name else f"{user}/{name}"
            check_repo_id(repo_id, "hub_model_id")
        self.save_model()
        self.create_model_card(**kwargs)
        if repo_id is None:
            return None
        return push_run(self.args, repo_id, token=token, private=private, revision=revision, message=commit_message)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Nothing yet: the finished model is pushed whole and with its card, in one commit."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: optimizer states are pickles, and half a training is no model."""


def save_deployable(model: PreTrainedModel, folder: Path, class_names: list[str]) -> None:
    """A student as a native checkpoint, a teacher as a :class:`VipriorsModel`; whole or not at all."""
    if isinstance(model, VipriorsForImageClassification):
        export_native(model, folder, class_names=class_names or None)
    elif isinstance(model, VipriorsModel):
        with whole_folder(folder) as beside:
            model.save_pretrained(beside)
