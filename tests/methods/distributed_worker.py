"""Run by test_distributed.py with 1 or 2 processes: three steps on the same global batches, state saved."""

import copy
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
from hf_vipriors.methods import MoCo, OverhaulDistillation, Progress, SimCLR
from hf_vipriors.methods import moco as moco_module
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel

TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
BATCH, STEPS = 8, 3


def build(case: str):
    config = VipriorsConfig.for_backbone(
        "resnet18",
        image_size=32,
        backbone_args=TINY,
        class_names=["a", "b", "c", "d"],
        projector_dim=8,
        projector_batch_norm=case.startswith("simclr"),
    )
    teacher = VipriorsModel(config)
    if case.startswith("moco"):
        return MoCo(teacher, queue_length=16, momentum=0.9)
    if case.startswith("simclr"):
        return SimCLR(teacher)
    student = VipriorsForImageClassification(copy.deepcopy(config))
    return OverhaulDistillation(student, teacher, start_epoch=0, feature_weight=1e-3, ema_decay=0.9)


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
    batches = [[torch.randn(BATCH, 3, 32, 32) for _ in range(2)] for _ in range(STEPS)]
    torch.manual_seed(100 + rank)  # whatever is drawn from here on must not matter, or be shared
    parallel = DistributedDataParallel(method, broadcast_buffers=False, find_unused_parameters=True)
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
