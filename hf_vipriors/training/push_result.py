"""``--push_to_hub`` while training: asked before the first step whether it can work, done after the last."""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import HfApi

from ..errors import InputError, one_line
from ..hub.publication import Publication, check_repo_id
from ..hub.publish import check_free, check_login, publish
from ..invocation import command
from ..models import VipriorsConfig
from .arguments import RunArguments
from .publication_files import gather

logger = logging.getLogger(__name__)


def check_push(args: RunArguments, config: VipriorsConfig, job: str) -> None:
    """Refuse before a training what would fail after it: no login, or a repository that holds another model.

    Raises:
        InputError: see above.
    """
    if args.hub_model_id is not None and not args.push_to_hub:
        raise InputError("--hub_model_id does nothing without --push_to_hub: add it, or leave the name out")
    if not (args.push_to_hub and args.should_save):
        return
    check_repo_id(args.hub_model_id)
    api = HfApi(token=args.hub_token)
    check_login(api)
    kind = "student" if job == "student" else "teacher"
    check_free(
        Publication(args.hub_model_id, {}, expected_identity(config, kind), kind), revision=args.hub_revision, api=api
    )


def expected_identity(config: VipriorsConfig, kind: str) -> dict[str, object]:
    """What :func:`hf_vipriors.hub.publication.identity_of` will find in the finished model's ``config.json``."""
    student = kind == "student"
    return {
        "model_type": "timm_wrapper" if student else config.model_type,
        "architecture": config.backbone,
        "arguments": dict(config.backbone_args or {}),
        "num_classes": config.num_labels if student else None,
    }


def push_result(args: RunArguments) -> None:
    """Push what a finished training left in ``--output_dir``.

    Raises:
        InputError: it did not work; the line says how to push it later.
    """
    if not (args.push_to_hub and args.should_save):
        return
    try:
        address = publish(
            gather(Path(args.output_dir), args.hub_model_id),
            private=bool(args.hub_private_repo),
            revision=args.hub_revision,
            api=HfApi(token=args.hub_token),
        )
    except InputError as error:
        raise InputError(
            f"{one_line(error, None)}. The model is safe; push it by: {command('push')} --model {args.output_dir} "
            f"--repo_id {args.hub_model_id}"
        ) from error
    logger.info("pushed to the Hub: %s", address)
