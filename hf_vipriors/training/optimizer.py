"""Optimizer and schedule: fused kernels, learning rates of their own, layouts that agree, runs that become longer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from ..errors import InputError
from ..methods import Method
from .arguments import RunArguments
from .sharding import is_sharded

logger = logging.getLogger(__name__)


def optimizer_class(args: RunArguments, model: Method | None = None) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class and its arguments: SGD with our momentum, all else as in transformers.

    SGD and AdamW run fused, one kernel for all parameters: the same step to float tolerance. Measured on one CPU core
    it takes a third of the time for networks of 70 to 140 small parameters.
    """
    fused = not is_sharded(args)  # torch has no fused SGD for sharded tensors
    if args.optim == "sgd":
        momentum = {"momentum": args.sgd_momentum, "nesterov": args.nesterov}
        return torch.optim.SGD, {"lr": args.learning_rate, **momentum, "fused": fused}
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    return kind, options | {"fused": fused} if kind is torch.optim.AdamW else options


def split_by_rate(optimizer: Optimizer, method: Method) -> None:
    """Make what has a learning rate of its own in the method a group of its own."""
    prefixes = method.learning_rate_factors()
    factors = {
        id(p): factor
        for prefix, factor in prefixes.items()
        for n, p in method.named_parameters()
        if n.startswith(prefix)
    }
    for group in list(optimizer.param_groups):
        for factor in sorted(set(prefixes.values())):
            moved = [p for p in group["params"] if factors.get(id(p)) == factor]
            if moved:
                group["params"] = [p for p in group["params"] if factors.get(id(p)) != factor]
                optimizer.add_param_group({**group, "params": moved, "lr": group["lr"] * factor})


def follow_layout(optimizer: Optimizer) -> None:
    """Lay each state out as its parameter is.

    The fused kernels walk through a parameter and its state in the order of the memory. A checkpoint written while
    kernels were laid out otherwise (channels last or not) would give each weight another one's momentum, in silence.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def begin_momentum(optimizer: Optimizer, *step: Any) -> None:
    """Before a step of SGD: what gets its first gradient now, later than others, begins with no momentum.

    The fused kernel takes momentum of all parameters or of none, and connectors of a distillation that begins at a
    later epoch would have none. From zero the first momentum is the gradient itself, as without the kernel.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class OptimizerTrainer(Trainer):
    """A ``Trainer`` with these optimizers, milestones of the learning rate, and a schedule that follows the length."""

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: RunArguments, model: nn.Module | None = None) -> tuple[Any, Any]:
        return optimizer_class(args, model)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices and kernels; every parameter with ``decay_norm_and_bias``, as in the papers' programs."""
        return [n for n, p in model.named_parameters() if p.ndim > 1 or self.args.decay_norm_and_bias]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer; what has a learning rate of its own in the method becomes a group of its own.

        Raises:
            InputError: one that was handed over leaves out what is to be trained.
        """
        if self.optimizer is not None:
            held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
            missing = [n for n, p in self.model.named_parameters() if p.requires_grad and id(p) not in held]
            if missing:
                raise InputError(
                    f"optimizers: {len(missing)} parameters of the method are in no group of it ({missing[0]}, ...): "
                    "give optimizer_cls_and_kwargs=(torch.optim.SGD, {...}) in its place, or freeze them"
                )
            return self.optimizer
        optimizer = super().create_optimizer(model)
        split_by_rate(optimizer, self.model)
        optimizer.register_load_state_dict_post_hook(follow_layout)
        if isinstance(optimizer, torch.optim.SGD):
            optimizer.register_step_pre_hook(begin_momentum)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.args.lr_milestones and self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            steps_per_epoch = self.args.steps_per_epoch(len(self.train_dataset))
            milestones = [epoch * steps_per_epoch for epoch in self.args.lr_milestones]

            def factor(step: int) -> float:
                return min(1.0, (step + 1) / (warmup + 1)) * 0.1 ** sum(step >= m for m in milestones)

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def shorten(self, steps: int) -> None:
        """End the run that is going on at step ``steps``; what is left of the schedule is passed in what is left."""
        now, before = self.state.global_step, self.state.max_steps
        self.state.max_steps = steps
        if isinstance(self.lr_scheduler, LambdaLR) and steps > now:
            pace = (before - now) / (steps - now)
            self.lr_scheduler.lr_lambdas = [
                lambda step, factor=factor: factor(now + (step - now) * pace)
                for factor in self.lr_scheduler.lr_lambdas
            ]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """In a run of another length the next step has the learning rate that the new schedule has there."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not isinstance(self.lr_scheduler, LambdaLR):
            return
        before = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).max_steps
        if before == self.state.max_steps:
            return
        groups, schedule = self.optimizer.param_groups, self.lr_scheduler
        was, step = groups[0]["lr"], schedule.last_epoch
        for group, peak, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = peak * factor(step)
        schedule._last_lr = [group["lr"] for group in groups]
        logger.info(
            "the run has %d steps in place of %d: from step %d on the learning rate is that of a schedule of this "
            "length (%.3g, it was %.3g)",
            *(self.state.max_steps, before, self.state.global_step, groups[0]["lr"], was),
        )
