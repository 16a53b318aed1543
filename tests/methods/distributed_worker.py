"""Run by test_distributed.py: 1, 2 and 4 processes take three steps on the same global batches and save all."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from worlds import in_world

from hf_vipriors.data import ImageStore
from hf_vipriors.evaluation.features import features
from hf_vipriors.methods import (
    Crd,
    DoGo,
    FixMatch,
    KnowledgeDistillation,
    Method,
    MethodOutput,
    MoCo,
    OverhaulDistillation,
    Progress,
    Seed,
    SimCLR,
    Sskd,
    Supervised,
    self_supervision_head,
)
from hf_vipriors.methods import moco as moco_module
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel

CASES = (
    "moco_frozen",
    "moco_shuffled",
    "simclr_frozen",
    "overhaul_frozen",
    "seed_frozen",
    "dogo_simclr_frozen",
    "dogo_moco_frozen",
    "dogo_moco_shuffled",
    "supervised_frozen",
    "kd_frozen",
    "fixmatch_frozen",
    "adamatch_frozen",
    "softmatch_frozen",
    "crd_frozen",
    "crd_drawn",
    "sskd2_frozen",
    "sskd4_frozen",
    "moco_unshuffled",
    "evaluation",
)
WORLDS = (1, 2, 4)
TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
BATCH, STEPS, IMAGES = 8, 3, 16
VIEWS = {"dogo": 4, "seed": 3}  # of other methods two, and what reads one takes the first
MUTUAL_WEIGHTS = (2.0, 1.0)
WEAK_AND_STRONG = {
    "fixmatch_frozen": {},
    "adamatch_frozen": {"threshold": "relative", "distribution_alignment": "labelled"},
    "softmatch_frozen": {"threshold": "soft", "distribution_alignment": "uniform"},
}


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
    if case.startswith("supervised"):
        return Supervised(student, class_weights=torch.tensor([1.0, 2.0, 0.5, 1.0]))
    if case in WEAK_AND_STRONG:
        method = FixMatch(student, confidence=0.26, ema_decay=0.9, statistics_momentum=0.5, **WEAK_AND_STRONG[case])
        method.begin_step(Progress(step=0, epoch=0, share=0.5))
        return method
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


class InParts(torch.nn.Module):
    """One process does what several do where a loss belongs to the batch of one process: the mean over the parts."""

    def __init__(self, method: Method, parts: int):
        super().__init__()
        self.method, self.parts = method, parts

    def forward(self, **inputs) -> MethodOutput:
        views = zip(*(view.chunk(self.parts) for view in inputs["views"]), strict=True)
        rest = zip(inputs["labels"].chunk(self.parts), inputs["index"].chunk(self.parts), strict=True)
        outputs = [self.method(list(part), *other) for part, other in zip(views, rest, strict=True)]
        return MethodOutput(loss=sum(out.loss for out in outputs) / self.parts, parts=outputs[0].parts)


def labels_for(case: str, index: torch.Tensor) -> torch.Tensor:
    """Classes; of FixMatch and its relatives every other image has none."""
    return (index % 4).where(index % 2 == 0, -1) if case in WEAK_AND_STRONG else index % 4


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
    parallel = InParts(method, int(case[4])) if world == 1 and case.startswith("sskd") else method
    parallel = DistributedDataParallel(parallel, broadcast_buffers=False, find_unused_parameters=True)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for step, views in enumerate(batches):
        index = torch.arange(BATCH) + BATCH * (step % 2)
        local = [view.chunk(world)[rank] for view in views]
        output = parallel(
            views=local, labels=labels_for(case, index).chunk(world)[rank], index=index.chunk(world)[rank]
        )
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.end_step(Progress(step=step + 1, epoch=0, share=0))
        loss = output.loss.detach().clone()
        dist.all_reduce(loss)
        losses.append(loss / world)
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    gradients = {f"gradient of {n}": p.grad for n, p in method.named_parameters() if p.grad is not None}
    return {**state, **gradients, "losses": torch.stack(losses)}


def evaluate() -> dict[str, torch.Tensor]:
    """Features of 13 images, which no world shares evenly, and of 3, fewer than the largest has processes."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (13, 3, 32, 32), dtype=torch.uint8)
    model = build("simclr").model
    accelerator = Accelerator(cpu=True) if dist.get_world_size() > 1 else None
    found = {}
    for count in (13, 3):
        store = ImageStore(images[:count], torch.arange(count))
        predictions = features(model, store, batch_size=4, accelerator=accelerator)
        found |= {f"values{count}": predictions.values, f"labels{count}": predictions.labels}
    return found


def work(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    for name in CASES:
        if not name.startswith("sskd") or world in (1, int(name[4])):
            save_file(
                evaluate() if name == "evaluation" else train(name), folder / f"{name}_{world}_{rank}.safetensors"
            )
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for processes in WORLDS:
        in_world(processes, lambda: work(Path(sys.argv[1])))
