"""FSDP2: what a run shards between steps is whole wherever it is measured, saved or resumed.

Checkpoints are those of any other run: one that was sharded goes on without, and the other way round.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed import broadcast
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from ..errors import InputError
from ..shipped import accelerate_config


def is_sharded(args: TrainingArguments) -> bool:
    """Whether FSDP was asked for: in a config of accelerate, or by ``--fsdp``."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def check_sharding(args: TrainingArguments) -> None:
    """Refuse what FSDP offers and the methods cannot use.

    Raises:
        InputError: naming the setting, in the words of accelerate's config, and what it must be.
    """
    if not is_sharded(args):
        return
    if args.use_cpu or not torch.accelerator.is_available():
        raise InputError(f"FSDP shards over accelerators only: leave it out on a CPU ({accelerate_config('cpu')})")
    if args.fsdp_config and args.fsdp_config.get("xla"):
        raise InputError(f"FSDP: xla is another way of sharding, and not supported; see {accelerate_config('fsdp2')}")
    plugin = FullyShardedDataParallelPlugin(**(args.fsdp_plugin_args or {}))
    for refused, setting in (
        (plugin.fsdp_version != 2, "fsdp_version must be 2"),
        (plugin.state_dict_type != StateDictType.FULL_STATE_DICT, "fsdp_state_dict_type must be FULL_STATE_DICT"),
        (plugin.cpu_ram_efficient_loading, "fsdp_cpu_ram_efficient_loading must be false: it loses queues"),
        (plugin.activation_checkpointing, "fsdp_activation_checkpointing must be false: lower the batch instead"),
        (
            plugin.auto_wrap_policy is size_based_auto_wrap_policy,
            "fsdp_auto_wrap_policy must be NO_WRAP, or TRANSFORMER_BASED_WRAP with the names of the network's blocks",
        ),
    ):
        if refused:
            raise InputError(f"FSDP: {setting} ({accelerate_config('fsdp2')})")


def full(value: Any) -> Any:
    """A sharded tensor, whole on every process; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """``module.state_dict()`` as it would be without sharding; every process must ask for it."""
    return {name: full(tensor) for name, tensor in module.state_dict().items()}


@torch.no_grad()
def whole(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model that is sharded; every process must ask for it."""
    state = whole_state(model)
    copy = type(model)(model.config)
    copy.load_state_dict(state)
    return copy.to(next(iter(state.values())).device).train(model.training)


def whole_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """``optimizer.state_dict()`` as it would be without sharding; every process must ask for it."""
    found = optimizer.state_dict()
    slots = {number: {k: full(v) for k, v in held.items()} for number, held in found["state"].items()}
    return {**found, "state": slots}


def shard_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The other way: each process keeps its part, as it does of the parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def part(value: Any, parameter: DTensor) -> Any:
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = value.to(parameter.device)
            return distribute_tensor(value, parameter.device_mesh, parameter.placements)
        return value

    slots = {n: {k: part(v, parameters[n]) for k, v in held.items()} for n, held in state["state"].items()}
    return {**state, "state": slots}


class ShardedTrainer(Trainer):
    """A ``Trainer`` whose FSDP2 runs start alike on every process and have ordinary checkpoints."""

    def start_alike(self) -> None:
        """Before anything is sharded, every process takes the main one's weights and queues, as DDP does by itself."""
        if self.is_fsdp_enabled:
            self.model.to(memory_format=torch.contiguous_format)  # fully_shard takes no other layout
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                if not isinstance(tensor, DTensor):
                    broadcast(tensor.data, src=0)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            return super()._save_optimizer_and_scheduler(output_dir)
        state = whole_optimizer_state(self.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.is_fsdp_enabled:
            return super()._load_optimizer_and_scheduler(checkpoint)
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(shard_optimizer_state(state, self.optimizer))
        for group in self.optimizer.param_groups:
            group["fused"] = False  # whatever the run had that wrote them
        schedule = torch.load(Path(checkpoint) / SCHEDULER_NAME, map_location="cpu", weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)
