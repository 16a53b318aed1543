"""One frozen pass over a store: pooled features for kNN and probes, class probabilities for scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from ..data import collate, streamed_store
from ..errors import InputError
from ..models import VipriorsForImageClassification, VipriorsModel
from ..models.modeling_vipriors import VipriorsPreTrainedModel
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


class NotFinite(InputError):
    """A network gave NaN or infinity: its weights hold some, or its activations leave the range of its numbers."""


def check_finite(values: Tensor, model: PreTrainedModel) -> None:
    """Refuse outputs that no score, distance or choice can be made of.

    Args:
        values: (N, D), a row for each image.
        model: that gave them.

    Raises:
        NotFinite: naming the model, and how many images it is.
    """
    if bad := int((~values.isfinite()).any(dim=1).sum()):
        raise NotFinite(
            f"{model.config.name_or_path or model.config.backbone} gives numbers that are not finite for {bad} of "
            f"{len(values)} images: its training has diverged, or its weights are damaged"
        )


class PassOptions(TypedDict, total=False):
    """How a pass is made.

    Keys:
        batch_size: images at once. Default 128.
        device: where the model is. Default "cpu".
        accelerator: of several processes each takes its share of the images; all get all outputs.
        workers: processes that decode images. Default 0.
    """

    batch_size: int
    device: torch.device | str
    accelerator: Accelerator | None
    workers: int


def features(
    model: VipriorsModel | VipriorsForImageClassification, store: Dataset, **options: Unpack[PassOptions]
) -> Outputs:
    """Pooled features (N, D) of the images of an evaluation store, before any projector or classifier.

    Raises:
        NotFinite: as all passes here, where any feature is no finite number.
    """
    view = _view(model, **options)
    return _run(model, store, lambda images: model.features(view(images)), **options)


def probabilities(
    model: VipriorsForImageClassification,
    store: Dataset,
    *,
    ten_crop: bool = False,
    resize: int | None = None,
    **options: Unpack[PassOptions],
) -> Outputs:
    """Class probabilities (N, K).

    Args:
        store: images cropped as evaluation wants them, or larger ones with ``ten_crop``.
        ten_crop: average the probabilities of ten crops of ``config.image_size``.
        resize: side that the images are brought to, for a network that takes one size alone; None: as they are.
    """
    if ten_crop:
        crops = TenCrop(model.config.image_size, model.config.image_mean, model.config.image_std)
        crops = crops.to(options.get("device", "cpu"))

        def outputs(images: Tensor) -> Tensor:
            return torch.stack([model(crop).logits.float().softmax(dim=1) for crop in crops(images)]).mean(dim=0)
    else:
        view = _view(model, **options)

        def outputs(images: Tensor) -> Tensor:
            return model(resized(view(images), resize)).logits.float().softmax(dim=1)

    return _run(model, store, outputs, **options)


def logits(model: VipriorsForImageClassification, store: Dataset, **options: Unpack[PassOptions]) -> Outputs:
    """Logits (N, K) of the images of an evaluation store, one centre crop each."""
    view = _view(model, **options)
    return _run(model, store, lambda images: model(view(images)).logits, **options)


def _view(model: VipriorsPreTrainedModel, **options: Unpack[PassOptions]) -> EvaluationView:
    return EvaluationView(model.config.image_mean, model.config.image_std).to(options.get("device", "cpu"))


def _run(
    model: VipriorsPreTrainedModel,
    store: Dataset,
    outputs: Callable[[Tensor], Tensor],
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    workers: int = 0,
) -> Outputs:
    """What a model gives for each image, in the store's order."""
    # A store gives a whole batch at once, which torch's types do not know.
    collate_batch: Callable[[Any], dict[str, Tensor]] = collate
    timeout = streamed_store.WORKER_TIMEOUT if workers else 0
    loader = DataLoader(store, batch_size=batch_size, collate_fn=collate_batch, num_workers=workers, timeout=timeout)
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
    found = Outputs(torch.cat(values), torch.cat(labels))
    check_finite(found.values, model)
    return found
