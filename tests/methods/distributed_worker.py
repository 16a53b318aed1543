"""Run by test_distributed.py with 1 or 2 processes: three steps on the same global batches, state saved."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from hf_vipriors.data import ImageStore
from hf_vipriors.evaluation.features import features
from hf_vipriors.methods import (
    Crd,
    DoGo,
    KnowledgeDistillation,
    Method,
    MethodOutput,
    MoCo,
    OverhaulDistillation,
    Progress,
    Seed,
    SimCLR,
    Sskd,
    self_supervision_head,
)
from hf_vipriors.methods import moco as moco_module
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel

TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
BATCH, STEPS, IMAGES = 8, 3, 16
VIEWS = {"dogo": 4, "seed": 3}  # of other methods two, and what reads one takes the first
MUTUAL_WEIGHTS = (2.0, 1.0)


def config_for(**fields) -> VipriorsConfig:
    return VipriorsConfig.for_backbone(
        "resnet18", image_size=32, backbone_args=TINY, class_names=["a", "b", "c", "d"], **fields
    )


def unlabelled(case: str) -> Method:
    """Two networks, of different widths where they may be."""
    contrasted = case.startswith(("simclr", "dogo_simclr"))
    ours, theirs = (VipriorsModel(config_for(projector_dim=d, projector_batch_norm=contrasted)) for d in (8, 6))
    if case.startswith("moco"):
        return MoCo(ours, queue_length=16, momentum=0.9)
    if case.startswith("simclr"):
        return SimCLR(ours)
    if case.startswith("seed"):
        teacher = VipriorsModel(config_for(projector_dim=8))
        return Seed(ours, teacher, queue_length=12, patch_queue_length=16)
    if contrasted:
        return DoGo(SimCLR(ours), SimCLR(theirs), weights=MUTUAL_WEIGHTS)
    queue = {"queue_length": 16, "momentum": 0.9}
    return DoGo(MoCo(ours, **queue), MoCo(theirs, **queue), weights=MUTUAL_WEIGHTS)


def labelled(case: str) -> Method:
    student, teacher = (VipriorsForImageClassification(config_for()) for _ in range(2))
    if case.startswith("overhaul"):
        return OverhaulDistillation(student, teacher, start_epoch=0, feature_weight=1e-3, ema_decay=0.9)
    if case.startswith("kd"):
        return KnowledgeDistillation(student, teacher, ema_decay=0.9)
    if case.startswith("crd"):
        # Twelve images are of other classes: when all of them are negatives, which are drawn cannot differ.
        negatives = 5 if case == "crd_drawn" else 12
        return Crd(student, teacher, labels=torch.arange(IMAGES) % 4, embedding_dim=8, negatives=negatives)
    return Sskd(student, teacher, self_supervision_head(16))


def build(case: str) -> Method:
    return (unlabelled if case.startswith(("moco", "simclr", "seed", "dogo")) else labelled)(case)


def views_for(case: str) -> list[torch.Tensor]:
    """Views of one global batch, in which each image has its rows together."""
    views = [torch.randn(BATCH, 3, 32, 32) for _ in range(VIEWS.get(case.split("_")[0], 2))]
    if case.startswith("seed"):
        views[-1] = views[-1][:, :, :16, :16].contiguous()
    if case.startswith("sskd"):
        turned = [views[0].rot90(k, (2, 3)) for k in range(4)]
        return [torch.stack(turned, dim=1).flatten(0, 1)]
    return views


class InHalves(torch.nn.Module):
    """One process does what two do where a loss belongs to the batch of one process: the mean over both halves."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(self, **inputs) -> MethodOutput:
        views = zip(*(view.chunk(2) for view in inputs["views"]), strict=True)
        rest = zip(inputs["labels"].chunk(2), inputs["index"].chunk(2), strict=True)
        outputs = [self.method(list(half), *other) for half, other in zip(views, rest, strict=True)]
        return MethodOutput(loss=(outputs[0].loss + outputs[1].loss) / 2, parts=outputs[0].parts)


def train(case: str) -> dict[str, torch.Tensor]:
    rank, world = dist.get_rank(), dist.get_world_size()
    if case == "moco_unshuffled":  # run last: what the shuffle is compared with
        moco_module.shared_permutation = lambda count, device: torch.arange(count)
    torch.manual_seed(0)
    method = build(case).train()
    if case.endswith("frozen"):
        for module in method.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    torch.manual_seed(1)
    batches = [views_for(case) for _ in range(STEPS)]
    torch.manual_seed(100 + rank)  # whatever is drawn from here on must not matter, or be shared
    parallel = InHalves(method) if world == 1 and case.startswith("sskd") else method
    parallel = DistributedDataParallel(parallel, broadcast_buffers=False, find_unused_parameters=True)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for step, views in enumerate(batches):
        index = torch.arange(BATCH) + BATCH * (step % 2)
        local = [view.chunk(world)[rank] for view in views]
        output = parallel(views=local, labels=(index % 4).chunk(world)[rank], index=index.chunk(world)[rank])
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.end_step(Progress(step=step + 1, epoch=0, share=0))
        loss = output.loss.detach().clone()
        dist.all_reduce(loss)
        losses.append(loss / world)
    return {**{n: t.clone() for n, t in method.state_dict().items()}, "losses": torch.stack(losses)}


def evaluate() -> dict[str, torch.Tensor]:
    """Features of 13 images, which two processes cannot share evenly."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (13, 3, 32, 32), dtype=torch.uint8)
    model = build("simclr").model
    accelerator = Accelerator(cpu=True) if dist.get_world_size() > 1 else None
    found = features(model, ImageStore(images, torch.arange(13)), batch_size=4, accelerator=accelerator)
    return {"values": found.values, "labels": found.labels}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in sys.argv[2:]:
        save_file(
            evaluate() if name == "evaluation" else train(name),
            Path(sys.argv[1]) / f"{name}_{dist.get_rank()}.safetensors",
        )
    dist.destroy_process_group()
