"""One frozen pass over a store: pooled features for kNN and probes, class probabilities for scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data import collate
from ..models import VipriorsForImageClassification, VipriorsModel
from ..views import EvaluationView, TenCrop
from ..views.sampling import resized


@dataclass(frozen=True)
class Outputs:
    """What one pass gave: ``values`` (N, D) float32 on the CPU, and the ``labels`` (N,) in the same order."""

    values: Tensor
    labels: Tensor

    @property
    def labelled(self) -> Outputs:
        """Those of images with a label: an unknown one is -1."""
        known = self.labels >= 0
        return Outputs(self.values[known], self.labels[known])


def features(
    model: VipriorsModel | VipriorsForImageClassification,
    store: Dataset,
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    workers: int = 0,
) -> Outputs:
    """Pooled features (N, D) of the images of an evaluation store, before any projector or classifier."""
    view = EvaluationView(model.config.image_mean, model.config.image_std).to(device)
    return _run(model, store, lambda images: model.features(view(images)), batch_size, device, accelerator, workers)


def probabilities(
    model: VipriorsForImageClassification,
    store: Dataset,
    *,
    ten_crop: bool = False,
    resize: int | None = None,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    workers: int = 0,
) -> Outputs:
    """Class probabilities (N, K).

    Args:
        store: images cropped as evaluation wants them, or larger ones with ``ten_crop``.
        ten_crop: average the probabilities of ten crops of ``config.image_size``.
        resize: side that the images are brought to, for a network that takes one size alone; None: as they are.
    """
    mean, std = model.config.image_mean, model.config.image_std
    if ten_crop:
        crops = TenCrop(model.config.image_size, mean, std).to(device)

        def outputs(images: Tensor) -> Tensor:
            return torch.stack([model(crop).logits.float().softmax(dim=1) for crop in crops(images)]).mean(dim=0)
    else:
        view = EvaluationView(mean, std).to(device)

        def outputs(images: Tensor) -> Tensor:
            return model(resized(view(images), resize)).logits.float().softmax(dim=1)

    return _run(model, store, outputs, batch_size, device, accelerator, workers)


def logits(
    model: VipriorsForImageClassification,
    store: Dataset,
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    workers: int = 0,
) -> Outputs:
    """Logits (N, K) of the images of an evaluation store, one centre crop each."""
    view = EvaluationView(model.config.image_mean, model.config.image_std).to(device)
    return _run(model, store, lambda images: model(view(images)).logits, batch_size, device, accelerator, workers)


def _run(
    model: nn.Module,
    store: Dataset,
    outputs: Callable[[Tensor], Tensor],
    batch_size: int,
    device: torch.device | str,
    accelerator: Accelerator | None,
    workers: int,
) -> Outputs:
    """Each process takes its share of the images; all get all outputs, in the store's order."""
    loader = DataLoader(store, batch_size=batch_size, collate_fn=collate, num_workers=workers)
    if accelerator is not None:
        # The function and not the accelerator's method, which would remember every loader it ever prepared.
        loader = prepare_data_loader(
            loader, num_processes=accelerator.num_processes, process_index=accelerator.process_index
        )
    training = model.training
    model.eval()
    values, labels = [], []
    with torch.inference_mode():
        for batch in loader:
            value, label = outputs(batch["pixel_values"].to(device)).float(), batch["labels"].to(device)
            if accelerator is not None:
                value, label = accelerator.gather_for_metrics((value, label))
            values.append(value.cpu())
            labels.append(label.cpu())
    model.train(training)
    return Outputs(torch.cat(values), torch.cat(labels))
