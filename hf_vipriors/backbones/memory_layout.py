"""How a network lies in memory while it is trained: channels last, but for what oneDNN cannot compute so."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
# oneDNN (torch 2.15, AVX-512) copies the pixels that a strided 1x1 convolution reads. In channels_last, for fewer
# channels than its vectors hold and images of 56 pixels or more, the copy of the backward pass is longer than its
# buffer: the memory behind it is overwritten, and the process mostly dies.
_VECTOR = 16


def to_channels_last(network: Network) -> Network:
    """Lay the kernels of a network out as the views are, in place: convolutions then reorder none in each pass.

    Strided 1x1 convolutions of fewer than 16 channels stay in the usual layout, and on a CPU get their input so.

    Example:
        >>> to_channels_last(nn.Conv2d(8, 16, 3)).weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if _overruns(module):
            # A fresh copy: the strides of a 1x1 kernel fit both layouts, and torch looks at them.
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            if _usual_layout not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(_usual_layout)
    return network


def _overruns(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < _VECTOR
    )


def _usual_layout(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    x, *others = inputs
    return (x.contiguous(), *others) if x.device.type == "cpu" else None
