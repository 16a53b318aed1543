"""Trials of different networks cost the same: each trains for as long as its operations pay for.

With the width free, learning rate, weight decay and width are chosen together at the compute of the recipe: a network
of four times the operations has a quarter of the epochs.

References:
    [0] No Data Augmentation? Alternative Regularizations for Effective Training on Small Datasets (on few images the
        size of the network, the length of its training, learning rate and weight decay belong together),
        https://arxiv.org/abs/2309.01694
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..backbones import forward_operations
from ..hub.teachers import Teacher
from ..methods.supervised import classifier_config
from ..training import StudentArguments
from ..training.resolve import complete
from ..training.run_identity import scaled_epochs

logger = logging.getLogger(__name__)

# Options that say which network a student is.
NETWORK = ("backbone", "backbone_args")


def same_compute(
    given: StudentArguments, tuned: StudentArguments, class_names: Sequence[str], teacher: Teacher | None
) -> dict[str, Any]:
    """How long ``tuned``, which may describe another network, trains for what ``given`` would cost.

    The operations of the student's forward pass count, at the image size of ``given``; views, a teacher and what a
    machine makes of small networks do not: in minutes narrow ones take longer than wide ones.

    Args:
        given: the run's arguments, whose network and length say what it costs.
        tuned: the same with the settings of a trial.
        class_names, teacher: of the run.

    Returns:
        Options that change with the length, and their values; nothing where the network costs the same.

    Raises:
        InputError: a network that cannot be built.

    Example:
        >>> from dataclasses import replace
        >>> given = StudentArguments(method="supervised", backbone="cifar_wrn_16_2", image_size=32, use_cpu=True)
        >>> wide = replace(given, backbone="cifar_wrn_16_4", learning_rate=0.1)
        >>> round(same_compute(given, wide, ["cat", "dog"], None)["num_train_epochs"], 2)  # of 100
        25.75
    """
    if all(getattr(given, name) == getattr(tuned, name) for name in NETWORK):
        return {}
    ours, other = (classifier_config(complete(args).args, class_names, teacher) for args in (given, tuned))
    cost, its_cost = (
        forward_operations(config.backbone, image_size=ours.image_size, backbone_args=config.backbone_args)
        for config in (ours, other)
    )
    if its_cost == cost:
        return {}
    share = cost / its_cost
    changes = scaled_epochs(tuned, share)
    changes.pop("head_epochs", None)  # of the teacher's head
    if tuned.max_steps > 0:
        changes["max_steps"] = max(1, round(tuned.max_steps * share))
    else:
        changes["num_train_epochs"] = tuned.num_train_epochs * share
    if tuned.warmup_steps >= 1:  # below, it is a share already
        changes["warmup_steps"] = max(1.0, tuned.warmup_steps * share)
    length = f"{changes['max_steps']} steps" if tuned.max_steps > 0 else f"{changes['num_train_epochs']:.4g} epochs"
    logger.info(
        "%s: %.2g times the operations of the network that was given (%s), so it has %s",
        *(other.backbone, 1 / share, ours.backbone, length),
    )
    return changes
