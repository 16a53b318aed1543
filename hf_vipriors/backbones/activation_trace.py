"""Watch one forward pass and say, for a tensor it produced, which ReLU made it and which batch norm came before.

No list of architectures: the modules are found by tensor identity while the network runs, so that it also works for
networks that timm adds tomorrow.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# What SyncBatchNorm.convert_sync_batchnorm leaves behind counts as well: same affine parameters, same map.
BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Activation:
    """A ReLU that produced a tensor: its ``call``-th use in one forward pass, and the batch norm before it."""

    relu: nn.ReLU
    call: int
    norm: nn.BatchNorm2d | None


@dataclass
class _Frame:
    """A module that is running: its input, and the batch norms it has run so far (itself included, if it is one).

    Each norm comes with ``on_input``: whether it sits in a child that was fed the module's own input. Such a
    child is the first layer of the block or a shortcut beside it, never the end of the main branch.
    """

    module: nn.Module | None
    input: torch.Tensor | None
    norms: list[tuple[nn.Module, bool]] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    """A tensor that a module gave or was given, unchanged as long as its version is this one."""

    tensor: weakref.ref[torch.Tensor]
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Seen:
        return cls(weakref.ref(tensor), tensor._version)

    def unchanged(self, tensor: torch.Tensor) -> bool:
        return self.tensor() is tensor and tensor._version == self.version


class ActivationTrace:
    """Context manager; inside it, run the network once in eval mode and without gradients, then ask :meth:`find`.

    Only weak references to activations are kept, so it costs no memory.

    Example:
        >>> import timm
        >>> model = timm.create_model("resnet18").eval()
        >>> with torch.no_grad(), ActivationTrace(model) as trace:
        ...     final, maps = model.forward_intermediates(torch.zeros(1, 3, 32, 32))
        >>> trace.find(maps[-1]).norm is model.layer4[-1].bn2
        True
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # The network's own forward is not called as a module (forward_intermediates is), so it has no hook.
        self._frames = [_Frame(model, None)]
        self._calls: dict[nn.ReLU, int] = {}
        self._outputs: list[tuple[_Seen, Activation]] = []
        self._normed: list[tuple[_Seen, _Seen, nn.Module]] = []  # input, output, batch norm
        self._behind: list[tuple[_Seen, Activation]] = []
        self._hooks = ExitStack()

    def __enter__(self) -> ActivationTrace:
        for module in self._model.modules():
            if module is self._model:
                continue
            self._register(module.register_forward_pre_hook, self._enter)
            # A module that raises is left too, so that the frames always match what is running.
            self._register(partial(module.register_forward_hook, always_call=True), self._leave)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def find(self, tensor: torch.Tensor) -> Activation | None:
        """The ReLU whose output ``tensor`` is, unchanged since; None when it is something else."""
        for seen, activation in reversed(self._outputs):
            if seen.tensor() is tensor:
                return activation if seen.unchanged(tensor) else None
        return None

    def find_behind(self, tensor: torch.Tensor) -> Activation | None:
        """The first ReLU behind a batch norm that was given ``tensor`` itself, as pre-activation networks have it."""
        return next((activation for seen, activation in self._behind if seen.unchanged(tensor)), None)

    def _register(self, register: Callable[[Callable[..., None]], RemovableHandle], hook: Callable[..., None]) -> None:
        self._hooks.callback(register(hook).remove)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        first = inputs[0] if inputs and isinstance(inputs[0], torch.Tensor) else None
        self._frames.append(_Frame(module, first))
        if isinstance(module, BATCH_NORMS):
            for outer, inner in zip(self._frames, self._frames[1:], strict=False):
                outer.norms.append((module, inner.input is not None and inner.input is outer.input))

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        frame = self._frames.pop()
        if not isinstance(output, torch.Tensor):
            return
        if isinstance(module, BATCH_NORMS) and frame.input is not None:
            self._normed.append((_Seen.of(frame.input), _Seen.of(output), module))
        if isinstance(module, nn.ReLU):
            call = self._calls.get(module, 0)
            self._calls[module] = call + 1
            activation = Activation(module, call, _norm_before(self._frames[-1], output))
            self._outputs.append((_Seen.of(output), activation))
            self._note_behind(module, call, frame.input)

    def _note_behind(self, relu: nn.ReLU, call: int, given: torch.Tensor | None) -> None:
        """What went into the batch norm, if it is one, whose output the ReLU was given."""
        block = self._frames[-1]
        if isinstance(block.module, BATCH_NORMS) and block.input is not None:  # norm and activation in one module
            self._behind.append((_Seen.of(block.input), Activation(relu, call, block.module)))
        for before, after, norm in reversed(self._normed):
            if given is not None and after.tensor() is given:
                self._behind.append((before, Activation(relu, call, norm)))
                return


def _norm_before(block: _Frame, activated: torch.Tensor) -> nn.BatchNorm2d | None:
    """The batch norm at the end of the main branch of ``block``, which is running its ReLU just now."""
    if isinstance(block.module, BATCH_NORMS):  # timm's BatchNormAct2d: norm and activation in one module
        norms = [block.module]
    else:
        main = [norm for norm, on_input in block.norms if not on_input]
        norms = main or [norm for norm, _ in block.norms]
        if not main and len(norms) > 1:  # parallel branches, each with its norm: none speaks for the sum
            return None
    # Squeeze-and-excitation and other side paths may hold norms of another width.
    fitting = [norm for norm in norms if norm.affine and norm.num_features == activated.shape[1]]
    return fitting[-1] if fitting else None
