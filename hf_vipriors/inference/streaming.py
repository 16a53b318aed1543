"""Images of any number through one or more models, in order; never more than a batch is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data import ResizeCrop
from ..data.image_records import Records, Unreadable
from ..data.store_preparation import squares
from ..evaluation.features import check_finite
from ..hub.teachers import Teacher
from ..training.stores import evaluation_geometry
from ..views import EvaluationView

Squares = dict[ResizeCrop, np.ndarray]


def outputs_of(
    models: Sequence[Teacher],
    records: Records,
    output: Callable[[Teacher, Tensor], Tensor],
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    any_depth: bool = True,
) -> Iterator[tuple[int, list[Tensor] | Unreadable]]:
    """Yield the row number of each image, and what the models give for it.

    Args:
        models: in eval mode, on ``device``. Each sees the images as its own preprocessing crops them.
        records: the encoded images; each is decoded once for models that crop alike.
        output: from a model and normalised images (B, 3, S, S) to (B, D).
        batch_size: images that a model sees at once.
        any_depth: gray values that do not fit 8 bits, of images for a model without a full scale, make an image
            unreadable; else they end the pass.

    Yields:
        (row, one (D,) float32 on the CPU for each model), or (row, :class:`Unreadable`).

    Raises:
        InputError: without ``any_depth``, see there.
    """
    geometries = list(dict.fromkeys(evaluation_geometry(model.config) for model in models))
    waiting: list[tuple[int, Squares | Unreadable]] = []
    for found in zip(*(squares(records, each, any_depth=any_depth) for each in geometries), strict=True):
        bad = next((value for _, value in found if isinstance(value, Unreadable)), None)
        images = dict(zip(geometries, (value for _, value in found), strict=True))
        waiting.append((found[0][0], images if bad is None else bad))
        if len(waiting) == batch_size:
            yield from _batch(models, waiting, output, device)
            waiting = []
    yield from _batch(models, waiting, output, device)


@torch.inference_mode()
def _batch(
    models: Sequence[Teacher],
    waiting: Sequence[tuple[int, Squares | Unreadable]],
    output: Callable[[Teacher, Tensor], Tensor],
    device: torch.device | str,
) -> list[tuple[int, list[Tensor] | Unreadable]]:
    readable = [each for _, each in waiting if not isinstance(each, Unreadable)]
    given = []
    for model in models if readable else ():
        geometry = evaluation_geometry(model.config)
        view = EvaluationView(model.config.image_mean, model.config.image_std).to(device)
        images = torch.from_numpy(np.stack([each[geometry] for each in readable])).to(device)
        given.append(output(model, view(images)).float().cpu())
        check_finite(given[-1], model)
    rows = iter(zip(*given, strict=True))
    return [(row, each if isinstance(each, Unreadable) else list(next(rows))) for row, each in waiting]
