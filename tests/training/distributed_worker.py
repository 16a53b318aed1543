"""Run by test_distributed_training.py: the real Trainer in worlds of 2, 1 and 4 processes, everything saved."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch import Tensor, nn
from worlds import in_world

from hf_vipriors.data import ImageStore
from hf_vipriors.methods import MoCo, SimCLR, Supervised
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.training import (
    MethodTrainer,
    StudentArguments,
    StudentTrainer,
    TeacherArguments,
    TeacherTrainer,
    arguments,
)
from hf_vipriors.training.sharding import full

GLOBAL_BATCH = 8
NAMES = ["a", "b", "c", "d"]
SAVING = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3}


class FixedViews(nn.Module):
    """Two views of each image that depend on nothing else: what one process sees, several see too."""

    def forward(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        images = images.float().expand(-1, 3, -1, -1) / 255 - 0.5
        return [images, images.flip(3)]


def store(count: int) -> ImageStore:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return ImageStore(images, torch.arange(count) % 4)


def trainer_for(method: str, folder: Path, *, images: int = 24, backbone: str = "test_convnext", **options):
    """A tiny run; the network of the default has no batch norm, so that its batch does not matter."""
    torch.manual_seed(0)
    small = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4} if backbone == "resnet18" else {}
    shape = {"image_size": 32, "class_names": NAMES, "projector_dim": 8, "backbone_args": small}
    config = VipriorsConfig.for_backbone(backbone, **shape)
    shared = {"output_dir": str(folder), "use_cpu": True, "disable_tqdm": True, "num_train_epochs": 2}
    shared |= {"optim": "sgd", "learning_rate": 0.05, "warmup_steps": 0, "logging_steps": 1, "report_to": "none"}
    shared |= {"eval_strategy": "no", "save_strategy": "no", "method": method} | options
    data = {"train_dataset": store(images), "views": FixedViews(), "eval_dataset": store(6), "class_names": NAMES}
    if method == "supervised":
        student = Supervised(VipriorsForImageClassification(config), ema_decay=0.9)
        return StudentTrainer(student, StudentArguments(**shared), **data)
    model = VipriorsModel(config)
    contrast = SimCLR(model) if method == "simclr" else MoCo(model, queue_length=16, momentum=0.9)
    return TeacherTrainer(contrast, TeacherArguments(**shared), bank=store(12), **data)


class Run:
    """One training: the images each step took are written down, and the method's whole state at the end."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, name: str, trainer: MethodTrainer, **options) -> None:
        seen, compute = [], trainer.compute_loss

        def spy(model, inputs, *args, **kwargs):
            seen.append(inputs["index"].clone())
            return compute(model, inputs, *args, **kwargs)

        trainer.compute_loss = spy
        trainer.train(**options)
        state = {
            name: full(tensor).clone(memory_format=torch.contiguous_format)
            for name, tensor in trainer.model.state_dict().items()
        }
        deployable = trainer.evaluated()[""].state_dict()
        state |= {
            f"deployable {name}": tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in deployable.items()
        }
        rank, world = trainer.args.process_index, trainer.args.world_size
        file = self.folder / f"{name}_{world}_{rank}"
        state["lengths"] = torch.tensor([len(batch) for batch in seen])
        state["seen"] = nn.utils.rnn.pad_sequence(seen, batch_first=True, padding_value=-1)
        save_file(state, file.with_suffix(".safetensors"))
        file.with_suffix(".json").write_text(json.dumps(trainer.state.log_history))


def work(folder: Path, world: int) -> None:
    run = Run(folder)
    batch = {"per_device_train_batch_size": GLOBAL_BATCH // world}
    for method in ("supervised", "moco"):
        run(method, trainer_for(method, folder / "any", **batch))
    if world == 2:
        accumulated = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        run("accumulated", trainer_for("supervised", folder / "any", **accumulated))
        run("saved", trainer_for("moco", folder / "saved", **SAVING, **batch))
        run("norms", trainer_for("supervised", folder / "any", backbone="resnet18", **batch))
    run("uneven", trainer_for("simclr", folder / "any", images=21, dataloader_drop_last=False, **batch))
    checkpoint = str(folder / "saved" / "checkpoint-3")
    run("resumed", trainer_for("moco", folder / "any", **batch), resume_from_checkpoint=checkpoint)
    if world == 1:
        checkpoint = str(folder / "sharded" / "checkpoint-3")
        run("unsharded", trainer_for("moco", folder / "any", **batch), resume_from_checkpoint=checkpoint)


def shard_on_cpu() -> None:
    """accelerate shards over accelerators alone; torch does on a CPU too: let accelerate take this world for GPUs."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    start = AcceleratorState.__init__

    def as_if_on_gpus(self, *args, **kwargs):
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        start(self, *args, **kwargs)

    AcceleratorState.__init__ = as_if_on_gpus
    arguments.check_sharding = lambda args: None


def sharded_work(folder: Path) -> None:
    """The same runs under FSDP2."""
    shard_on_cpu()
    run, batch = Run(folder), {"per_device_train_batch_size": GLOBAL_BATCH // 2}
    run("sharded_supervised", trainer_for("supervised", folder / "any", **batch))
    run("sharded_norms", trainer_for("supervised", folder / "any", backbone="resnet18", **batch))
    run("sharded_saved", trainer_for("moco", folder / "sharded", **SAVING, **batch))
    checkpoint = str(folder / "saved" / "checkpoint-3")
    run("sharded_resumed", trainer_for("moco", folder / "any", **batch), resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    in_world(2, lambda: work(out, 2))
    in_world(2, lambda: sharded_work(out))
    for processes in (1, 4):
        in_world(processes, lambda world=processes: work(out, world))
