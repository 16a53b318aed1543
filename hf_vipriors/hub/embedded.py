"""The teacher that ships with the package: a long phase 1 that nobody has to wait for."""

from __future__ import annotations

from pathlib import Path

FASHION_TEACHER = "fashion-vipriors-teacher"
"""The ``--teacher`` of the embedded teacher."""


def embedded_teacher() -> Path:
    """Folder of the embedded teacher inside the installed package, for ``VipriorsModel.from_pretrained``.

    A ResNet-18 of 0.70 M parameters, trained without labels on the 5,500 training images of Fashion-VIPriors by
    ``scripts/recipes/fashion_teacher.yaml``; its README.md is its card.

    Example:
        >>> from hf_vipriors.models import VipriorsModel
        >>> teacher = VipriorsModel.from_pretrained(embedded_teacher())
        >>> sum(p.numel() for p in teacher.backbone.parameters())
        701720
    """
    return Path(__file__).with_name("fashion_teacher")
