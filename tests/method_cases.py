"""Every method, small, with a batch as its data loader gives one: labelled images first, and their number known."""

import torch

from hf_vipriors.methods import (
    Crd,
    DoGo,
    FitNet,
    FixMatch,
    KnowledgeDistillation,
    MoCo,
    OverhaulDistillation,
    Seed,
    SimCLR,
    Sskd,
    SskdPretext,
    Supervised,
    self_supervision_head,
)
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel

CASES = (
    *("moco", "simclr", "dogo", "dogo_moco", "seed", "seed_patches", "supervised", "supervised_ema", "mixup"),
    *("fixmatch", "adamatch", "softmatch", "kd", "kd_unlabelled", "overhaul", "overhaul_before", "fitnet", "crd"),
    *("sskd", "sskd_pretext"),
)
IMAGES = 8
LABELS = torch.arange(IMAGES) % 4
WEAK_AND_STRONG = ("fixmatch", "adamatch", "softmatch")
UNLABELLED = (*WEAK_AND_STRONG, "kd_unlabelled")


def build(case, tiny_config):
    """The method of a case, in training mode; with another seed the same networks have other weights."""

    def embedder():
        return VipriorsModel(tiny_config(projector_dim=8))

    def classifier():
        return VipriorsForImageClassification(tiny_config())

    def moco():
        return MoCo(embedder(), queue_length=12, batchnorm_splits=2)

    makers = {
        "moco": moco,
        "simclr": lambda: SimCLR(embedder()),
        "dogo": lambda: DoGo(SimCLR(embedder()), SimCLR(embedder())),
        "dogo_moco": lambda: DoGo(moco(), moco()),
        "seed": lambda: Seed(embedder(), embedder(), queue_length=12),
        "seed_patches": lambda: Seed(embedder(), embedder(), queue_length=12, patch_queue_length=12),
        "supervised": lambda: Supervised(classifier()),
        "supervised_ema": lambda: Supervised(classifier(), ema_decay=0.9, class_weights=torch.ones(4)),
        "mixup": lambda: Supervised(classifier(), mixup=0.2, cutmix=1.0),
        "fixmatch": lambda: FixMatch(classifier(), ema_decay=0.9),
        "adamatch": lambda: FixMatch(
            classifier(), ema_decay=0.9, threshold="relative", distribution_alignment="labelled"
        ),
        "softmatch": lambda: FixMatch(classifier(), ema_decay=0.9, threshold="soft", distribution_alignment="uniform"),
        "kd": lambda: KnowledgeDistillation(classifier(), classifier(), more_teachers=[classifier()]),
        "kd_unlabelled": lambda: KnowledgeDistillation(classifier(), classifier()),
        "overhaul": lambda: OverhaulDistillation(classifier(), classifier(), kd_weight=0.5, start_epoch=0),
        "overhaul_before": lambda: OverhaulDistillation(classifier(), classifier(), start_epoch=100),
        "fitnet": lambda: FitNet(classifier(), classifier()),
        "crd": lambda: Crd(classifier(), classifier(), labels=LABELS, embedding_dim=8, negatives=4),
        "sskd": lambda: Sskd(classifier(), classifier(), self_supervision_head(16)),
        "sskd_pretext": lambda: SskdPretext(classifier(), self_supervision_head(16)),
    }
    torch.manual_seed(0)
    return makers[case]().train()


def inputs_of(case, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = 4 if case.startswith("dogo") else 1 if case not in ("moco", "simclr", *WEAK_AND_STRONG) else 2
    rows = 4 * IMAGES if case.startswith("sskd") else IMAGES
    views = [torch.randn(rows, 3, 32, 32, generator=generator) for _ in range(count)]
    if case == "seed_patches":
        views.append(torch.randn(rows, 3, 16, 16, generator=generator))
    labels = LABELS.clone()
    if case in UNLABELLED:
        labels[3:] = -1
    labelled = int((labels >= 0).sum())
    return {"views": views, "labels": labels, "index": torch.arange(IMAGES), "labelled": labelled}
