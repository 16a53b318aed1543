"""Which optimizer a run has: fused kernels, learning rates of their own, layouts that agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import Trainer

from ..methods import Method
from .arguments import RunArguments
from .sharding import is_sharded


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
