"""Which convolution of a timm network reads the images, and which batch norm alone reads what it gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .activation_trace import BATCH_NORMS


def is_changed(module: nn.Module) -> bool:
    """Whether a harmonic network has another form of it."""
    return isinstance(module, nn.Conv2d) and module.groups == 1 and module.kernel_size != (1, 1)


def first_convolution(network: nn.Module, image_size: int) -> tuple[str, str | None]:
    """Names of the convolution that reads the images, and of the batch norm that alone reads what it gives.

    One image is sent through in eval mode; who read what is seen in the graph that autograd keeps.
    """
    image = next(network.parameters()).new_zeros(1, network.in_chans, image_size, image_size)
    names = {module: name for name, module in network.named_modules()}
    calls: list[tuple[nn.Conv2d, Any]] = []
    norms: list[tuple[nn.Module, Any]] = []
    hooks = []
    for module in names:
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda m, _, output: calls.append((m, output.grad_fn))))
        elif isinstance(module, BATCH_NORMS):
            hooks.append(module.register_forward_pre_hook(lambda m, given: norms.append((m, given[0].grad_fn))))
    training = network.training
    try:
        with torch.enable_grad():
            final = network.eval()(image)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    conv, node = calls[0]
    refused = f"--harmonic batch_norm: the first convolution of this {type(network).__name__}, {names[conv]},"
    if type(conv) is not nn.Conv2d or not is_changed(conv) or conv.padding_mode != "zeros":
        raise InputError(f"{refused} is no plain one of more than one pixel without groups; use --harmonic weights")
    if sum(each is conv for each, _ in calls) > 1:
        raise InputError(f"{refused} is used more than once; use --harmonic weights")
    if conv.bias is not None:
        return names[conv], None
    readers = [norm for norm, given in norms if given is node and norm.running_mean is not None]
    if len(readers) != 1 or _reads(final.grad_fn, node) != 1:
        raise InputError(
            f"{refused} has no bias, and what it gives is not read by one batch norm alone, which could take over "
            "the shift; use --harmonic weights"
        )
    return names[conv], names[readers[0]]


def _reads(final: Any, node: Any) -> int:
    """How often the graph behind ``final`` reads what ``node`` gave."""
    found, seen, waiting = 0, set(), [final]
    while waiting:
        current = waiting.pop()
        for before, _ in current.next_functions:
            found += before is node
            if before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)
    return found
