"""The trainers of teachers and students: what is measured while they train."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import broadcast
from transformers import PreTrainedModel

from ..evaluation.classification import ClassificationScore, score
from ..evaluation.features import Outputs, features, logits, probabilities
from ..evaluation.frozen import effective_rank, feature_spread, knn_score
from ..evaluation.statistics import mcnemar
from ..methods import METHODS
from .arguments import RunArguments
from .stores import Store
from .student_arguments import StudentArguments
from .teacher_arguments import TeacherArguments
from .trainer import MethodTrainer

logger = logging.getLogger(__name__)
MANY = 10_000  # images whose pass is announced


class TeacherTrainer(MethodTrainer):
    """Training without labels: phase 1, SEED and DoGo.

    An evaluation is an online weighted kNN: labelled training images vote for each validation image; beside it the
    spread and the effective rank of the features, in which a collapse shows before it shows anywhere else. Without any
    label these two are measured alone, on some of the training images; on CIFAR-10 the rank rose and levelled off with
    the kNN over a whole training (rank correlation 0.99 of ten evaluations). Arguments as in :class:`MethodTrainer`,
    with :class:`TeacherArguments` or :class:`PretrainArguments`.

    Example:
        >>> import tempfile
        >>> from datasets import Dataset, Image
        >>> from hf_vipriors import TeacherArguments, TeacherTrainer, VipriorsModel
        >>> from PIL import Image
        >>> colours = [(value, 90, 255 - value) for value in range(0, 256, 16)]
        >>> photos = Dataset.from_dict({"image": [Image.new("RGB", (32, 32), colour) for colour in colours]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = TeacherArguments(folder, method="simclr", image_size=32, max_steps=1, use_cpu=True,
        ...                             projector_dim=8, disable_tqdm=True, report_to="none", save_strategy="no")
        ...     teacher = TeacherTrainer("test_resnet", args, train_dataset=photos)
        ...     _ = teacher.train()
        ...     teacher.save_model()
        ...     VipriorsModel.from_pretrained(folder).config.projector_dim
        8
    """

    jobs = ("teacher", "pretrain")
    # With the prefix of DoGo's second network also its own.
    figure_names = tuple(p + f for p in ("", "peer_") for f in ("knn_top1", "feature_std", "effective_rank"))
    needs_labels = False

    @staticmethod
    def default_arguments() -> RunArguments:
        return TeacherArguments()

    def predictions(self, store: Store) -> Outputs:
        return features(self.evaluated()[""], store, **self._pass_options())

    def figures(self, outputs: Outputs, store: Store) -> dict[str, float]:
        found = {}
        labelled = bool((outputs.labels >= 0).all())
        votes = labelled and "bank" in self.setup.stores
        for prefix, model in self.evaluated().items():
            queries = outputs
            if prefix:
                peer = features(model, store, **self._pass_options())
                queries = peer.labelled if labelled else peer
            if votes:
                found[f"{prefix}knn_top1"] = self._knn(model, queries).top1
            found[f"{prefix}feature_std"] = feature_spread(queries.values)
            found[f"{prefix}effective_rank"] = effective_rank(queries.values)
        return found

    def _knn(self, model: PreTrainedModel, queries: Outputs) -> ClassificationScore:
        """The labelled training images vote."""
        voting = features(model, self.setup.stores["bank"], **self._pass_options())
        return knn_score(voting, queries, self.class_names, neighbours=self.args.knn_neighbours)

    def validation_results(self) -> dict[str, Any]:
        store = self.eval_dataset
        if self.setup.stores.get("bank") is None or store is None or not (store.labels >= 0).any():
            return {}
        model = self.evaluated()[""]
        queries = features(model, store, **self._pass_options()).labelled
        return {"knn": self._knn(model, queries).to_dict(), "split": "validation"}


class StudentTrainer(MethodTrainer):
    """Training with labels. Evaluation is top-1, top-5 and cross-entropy of the model to deploy.

    Where validation has fallen, the guards look at some training images too (``train_top1``). Arguments as in
    :class:`MethodTrainer`, with :class:`StudentArguments`.
    """

    jobs = ("student",)
    figure_names = ("loss", "top1", "top5")

    @staticmethod
    def default_arguments() -> RunArguments:
        return StudentArguments(method="supervised")

    def finish(self) -> dict[str, Any]:
        self.share_buffers()
        return self.model.finish(self)

    def classifier_layer(self) -> nn.Linear | None:
        """The layer of the deployable model whose answers for its features are the logits; None where there is none.

        Some networks have two, or answer from more than their features; one that FSDP shards cannot be set.
        """
        layer = self.model.deployable().backbone.get_classifier()
        if self.is_fsdp_enabled or not isinstance(layer, nn.Linear) or layer.bias is None:
            return None
        model, sample = self.evaluated()[""], self.training_sample(16)
        given, wanted = (each(model, sample, **self._pass_options()).values for each in (features, logits))
        found = nn.functional.linear(given, *(each.detach().cpu().float() for each in (layer.weight, layer.bias)))
        return layer if torch.allclose(found, wanted, rtol=0.01, atol=0.01 * float(wanted.abs().max())) else None

    def training_features(self, pool: int) -> Outputs:
        """Features ``(N, D)`` of the deployable model for all labelled training images and ``pool`` without labels."""
        model, options, samples = self.evaluated()[""], self._pass_options(), self.training_samples(pool)
        if (images := sum(map(len, samples))) > MANY:
            logger.info("reads the features of %s training images, which takes a while", f"{images:,}")
        parts = [features(model, sample, **options) for sample in samples if len(sample)]
        return Outputs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("values", "labels")))

    def replace_classifier(self, layer: nn.Linear, weight: Tensor, bias: Tensor) -> dict[str, Any]:
        """Give the deployable model another linear classifier, unless the one that it has is better on validation.

        Better is what McNemar's test says, p < 0.05: a few images more or less are chance.

        Args:
            layer: that of :meth:`classifier_layer`.
            weight: ``(K, D)``, bias: ``(K,)``; those of the main process count.

        Returns:
            ``kept``: whether it has it now; and with labelled validation images ``validation_before`` and
            ``validation_after``, top-1.
        """
        trained = [layer.weight.detach().clone(), layer.bias.detach().clone()]
        before = self._right()
        self._set_classifier(layer, weight, bias)
        after = self._right()
        if before is None or after is None:
            return {"kept": True}
        worse = after.sum() < before.sum() and mcnemar(before, after) < 0.05
        if worse:
            self._set_classifier(layer, *trained)
        return {
            "kept": not worse,
            "validation_before": float(before.mean()),
            "validation_after": float(after.mean()),
        }

    def _right(self) -> np.ndarray | None:
        """Which labelled validation images the deployable model names rightly; None where there are none."""
        if self.eval_dataset is None or not (self.eval_dataset.labels >= 0).any():
            return None
        found = self.predictions(self.eval_dataset).labelled
        return (found.values.argmax(dim=1) == found.labels).numpy()

    def _set_classifier(self, layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
        with torch.no_grad():
            for parameter, value in ((layer.weight, weight), (layer.bias, bias)):
                parameter.copy_(value)
                if self.args.world_size > 1:
                    broadcast(parameter, src=0)

    def run_data_checks(self) -> None:
        self.guards.count_images(self.train_dataset.labels, None, self.class_names)
        super().run_data_checks()
        asked = METHODS[self.args.method].asks_for_predictions(self.args)
        if self.eval_dataset is not None and asked is not None:
            for teacher in self.model.teachers():
                self.guards.check_teacher_accuracy(
                    self._top1(teacher.model, self.eval_dataset, resize=teacher.prepared.size)
                )

    def _top1(self, model: nn.Module, store: Store, **options: Any) -> float:
        found = probabilities(model, store, **options, **self._pass_options()).labelled
        return score(found.values, found.labels, self.class_names).top1

    def predictions(self, store: Store) -> Outputs:
        return logits(self.evaluated()[""], store, **self._pass_options())

    def figures(self, outputs: Outputs, store: Store) -> dict[str, float]:
        found = outputs.values.softmax(dim=1)
        result = score(found, outputs.labels, self.class_names)
        loss = nn.functional.nll_loss(found.clamp(min=1e-12).log(), outputs.labels).item()
        figures = {"loss": loss, "top1": result.top1}
        if result.top5 is not None:
            figures["top5"] = result.top5
        if self.is_in_train and self.args.guards and self.guards.has_fallen(result.top1):
            with torch.random.fork_rng(devices=[]):
                figures["train_top1"] = self._top1(self.evaluated()[""], self.training_sample(256))
        return figures

    def validation_results(self) -> dict[str, Any]:
        if self.eval_dataset is None:
            return {}
        found = probabilities(self.evaluated()[""], self.eval_dataset, **self._pass_options()).labelled
        return {"test": score(found.values, found.labels, self.class_names).to_dict(), "split": "validation"}
