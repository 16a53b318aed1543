"""What passes from one device to another, operator by operator."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Copies(TorchDispatchMode):
    """The operators that were given tensors of two devices, or made one on another than their input's.

    Attributes:
        waited: those that wait until it is done.
        begun: copies that are not waited for.
    """

    def __init__(self):
        super().__init__()
        self.waited: list[str] = []
        self.begun: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = tree_leaves((args, kwargs, result))
        if len({leaf.device.type for leaf in given if isinstance(leaf, torch.Tensor)}) > 1:
            (self.begun if (kwargs or {}).get("non_blocking") else self.waited).append(str(func))
        return result
