r"""Harmonic convolutions: kernels learnt as combinations of the filters of a discrete cosine transform [0, 1].

A kernel of K x L pixels is written in the orthonormal basis of the DCT-II,

.. math::
    W_{oi} = \sum_{u < K} \sum_{v < L} C_{oi,uv} B_{uv}, \qquad
    B_{uv}[x, y] = a_u b_v \cos\frac{\pi (x + 1/2) u}{K} \cos\frac{\pi (y + 1/2) v}{L},

with :math:`a_0 = \sqrt{1/K}`, :math:`a_u = \sqrt{2/K}` otherwise, and b the same for L. What is trained is C. Three
forms, of which the latter two may be joined:

- ``weights``: nothing else. The basis is a rotation of each kernel, so C trains under SGD, with momentum and L2 weight
  decay, exactly as W would from the same start; under Adam, whose step is one of each coordinate, it does not.
- a ``level``: only the frequencies u + v < level are kept, such as 6 of the 9 of a 3x3 kernel at level 3 [1].
- ``batch_norm``: the responses of the first convolution to each filter and each input channel are normalised by a
  batch norm without weight and bias, before C combines them [0]. The faint high frequencies of an image then count as
  much as its brightness.

Convolutions with groups and 1x1 convolutions stay as they are. A layer costs one small matrix product more, but the
first one with ``batch_norm``, whose responses are computed while it trains.

The network stays the plain one for everybody else: :func:`plain_state` gives the weights of the same architecture with
the same outputs in eval mode. A normalised response is a scaled and shifted one; the scale goes into the kernel, and
the shift, the same at every pixel since the response is normalised after padding, into the bias of the convolution, or
where it has none into the running mean of the batch norm that alone reads it.

NOTE the published programs divide each filter by its L1 norm, which leaves it a length between 0.33 and 0.5 (3x3), and
start C as a 1x1 convolution. With ``batch_norm`` that makes no difference to the responses; elsewhere it weighs the
frequencies a little, where the orthonormal basis has none before another. Here C starts as the transform of the
network's own initial weights; with a level what is kept is scaled, so that kernels are as long as they would be.

References:
    [0] Harmonic Networks with Limited Training Samples, https://arxiv.org/abs/1905.00135
    [1] Harmonic Convolutional Networks based on Discrete Cosine Transform, https://arxiv.org/abs/2001.06570
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ..errors import InputError
from .first_convolution import first_convolution, is_changed

# Of the length of a kernel: what rounding leaves beyond the level, where nothing was there.
_ROUNDING = 1e-4


def dct_basis(kernel_size: tuple[int, int], level: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """The filters of the orthonormal DCT-II, one a row: ``(N, K * L)``, frequencies (u, v) in order.

    Args:
        kernel_size: K and L.
        level: keep u + v < level; None keeps all K * L.
        dtype: of the result.

    Example:
        >>> basis = dct_basis((3, 3))
        >>> torch.allclose(basis @ basis.T, torch.eye(9), atol=1e-6), len(dct_basis((3, 3), level=2))
        (True, 3)
    """
    rows = []
    for size in kernel_size:
        order, place = torch.arange(size, dtype=torch.float64), torch.arange(size, dtype=torch.float64)
        cosines = torch.cos(math.pi / size * order[:, None] * (place + 0.5)) * math.sqrt(2 / size)
        cosines[0] /= math.sqrt(2)
        rows.append(cosines)
    filters = torch.einsum("ux,vy->uvxy", *rows)
    frequency = sum(torch.meshgrid(*(torch.arange(size) for size in kernel_size), indexing="ij"))
    kept = filters.flatten(2)[torch.ones_like(frequency, dtype=torch.bool) if level is None else frequency < level]
    return kept.to(dtype)


class HarmonicKernel(nn.Module):
    """Coefficients ``(O, I, N)`` to a kernel ``(O, I, K, L)`` and back: a parametrisation of a convolution's weight.

    Args:
        kernel_size, level, dtype: as in :func:`dct_basis`.

    Example:
        >>> kernel, weight = HarmonicKernel((3, 3)), torch.rand(8, 4, 3, 3)
        >>> torch.allclose(kernel(kernel.right_inverse(weight)), weight, atol=1e-6)
        True
    """

    basis: Tensor

    def __init__(
        self, kernel_size: tuple[int, int], level: int | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.kernel_size, self.level = kernel_size, level
        self.register_buffer("basis", dct_basis(kernel_size, level, dtype), persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        with torch.autocast(coefficients.device.type, enabled=False):  # the kernel is rounded once, not its parts
            return (coefficients @ self.basis).unflatten(-1, self.kernel_size)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The coefficients of a kernel.

        Raises:
            InputError: it has frequencies that the level leaves out.
        """
        coefficients = weight.flatten(2) @ self.basis.T
        if self.level is not None and (weight - self(coefficients)).norm() > _ROUNDING * weight.norm():
            raise InputError(
                f"--harmonic_level {self.level}: the weights to start from have frequencies that it leaves out; start "
                "from scratch (--student_init scratch), or from a network of the same level"
            )
        return coefficients

    def shortened(self, weight: Tensor) -> Tensor:
        """A random kernel without the frequencies left out, on average as long as it was."""
        scale = math.sqrt(math.prod(self.kernel_size) / len(self.basis))
        return self(weight.flatten(2) @ self.basis.T) * scale


class NormalisedHarmonicConv(nn.Module):
    """A convolution that combines normalised responses to the DCT filters, in the place of a plain one.

    Args:
        conv: whose shape and weights it takes over.
        reader: name, in the network, of the batch norm that alone reads the output; None where ``conv`` has a bias.
    """

    def __init__(self, conv: nn.Conv2d, reader: str | None) -> None:
        super().__init__()
        self.kernel = HarmonicKernel(_size(conv), dtype=conv.weight.dtype)
        self.coefficients = nn.Parameter(self.kernel.right_inverse(conv.weight.detach()))
        self.bias, self.reader = conv.bias, reader
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.place: dict[str, Any] = {
            "stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation
        }  # fmt: skip
        self.norm = nn.BatchNorm2d(conv.in_channels * len(self.kernel.basis), affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            weight, bias = self.plain()
            return F.conv2d(x, weight, bias, **self.place)
        with torch.autocast(x.device.type, enabled=False):  # rounded, the filters of details would see brightness
            filters = self.kernel.basis.repeat(self.in_channels, 1).unflatten(-1, self.kernel.kernel_size)
            responses = F.conv2d(x.to(filters.dtype), filters[:, None], groups=self.in_channels, **self.place)
            responses = self.norm(responses)
        return F.conv2d(responses, self.coefficients.flatten(1)[..., None, None], self.bias)

    def plain(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the plain convolution that gives the same in eval mode."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None and variance is not None  # this batch norm has statistics
        scale = (variance + self.norm.eps).rsqrt()
        coefficients = self.coefficients * scale.unflatten(0, (self.in_channels, -1))
        shift = -(coefficients.flatten(1) @ mean)
        return self.kernel(coefficients), shift if self.bias is None else self.bias + shift


def make_harmonic(network: nn.Module, *, image_size: int, level: int | None = None, batch_norm: bool = False) -> None:
    """Turn the convolutions of a fresh timm network into harmonic ones, in place; no random number is drawn.

    Args:
        network: with random weights; these are what its kernels start from.
        image_size: of an image that is sent through it, to see what its first convolution is, with ``batch_norm``.
        level: of the frequencies that are kept; None: all. The first convolution keeps all with ``batch_norm``, as in
            the published programs.
        batch_norm: normalise the responses of the first convolution.

    Raises:
        InputError: no convolution to change, a level that leaves no frequency out, or a first convolution whose
            responses cannot be normalised in a way that a plain network can hold.

    Example:
        >>> import timm
        >>> network = timm.create_model("resnet18").eval()
        >>> image = torch.rand(1, 3, 32, 32)
        >>> before = network(image)
        >>> make_harmonic(network, image_size=32)
        >>> torch.allclose(network(image), before, atol=1e-4), network.conv1.parametrizations.weight.original.shape
        (True, torch.Size([64, 3, 49]))
    """
    kind = type(network).__name__
    named = {name: module for name, module in network.named_modules() if is_changed(module)}
    if not named:
        raise InputError(f"--harmonic: this {kind} has no convolution without groups that is larger than 1x1")
    if batch_norm:
        first, reader = first_convolution(network, image_size)
        network.set_submodule(first, NormalisedHarmonicConv(named.pop(first), reader))
    largest = max((sum(_size(conv)) for conv in named.values()), default=2) - 2
    if level is not None and level > largest:
        mend = f"give at most {largest}" if named else "its first convolution keeps all, and there is no other"
        raise InputError(f"--harmonic_level {level} leaves out no frequency of this {kind}: {mend}")
    for conv in named.values():
        kernel = HarmonicKernel(_size(conv), level, conv.weight.dtype)
        with torch.no_grad():
            conv.weight.copy_(kernel.shortened(conv.weight))
        parametrize.register_parametrization(conv, "weight", kernel)


def is_harmonic(network: nn.Module) -> bool:
    """Whether a network has harmonic convolutions."""
    return any(isinstance(module, HarmonicKernel) for module in network.modules())


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of the plain network that gives the same in eval mode, by its own names.

    Example:
        >>> import timm
        >>> network, plain = (timm.create_model("resnet18", num_classes=2) for _ in range(2))
        >>> make_harmonic(network, image_size=32, level=3, batch_norm=True)
        >>> _ = network(torch.rand(4, 3, 32, 32))  # moves the statistics
        >>> _ = plain.load_state_dict(plain_state(network))
        >>> image = torch.rand(1, 3, 32, 32)
        >>> torch.allclose(network.eval()(image), plain.eval()(image), atol=1e-5)
        True
    """
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, NormalisedHarmonicConv):
            state = {key: tensor for key, tensor in state.items() if not key.startswith(f"{name}.")}
            state[f"{name}.weight"], bias = (tensor.detach() for tensor in module.plain())
            if module.reader is None:
                state[f"{name}.bias"] = bias
            else:
                state[f"{module.reader}.running_mean"] = state[f"{module.reader}.running_mean"] - bias
        elif _kernel_of(module) is not None:
            del state[f"{name}.parametrizations.weight.original"]
            state[f"{name}.weight"] = module.weight.detach()
    return state


def load_plain_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of the plain network, or some of them; those of harmonic kernels become coefficients.

    Raises:
        InputError: the network normalises responses, whose statistics no plain network has, or the weights have
            frequencies that it leaves out.
    """
    state = dict(state)
    for name, module in network.named_modules():
        if isinstance(module, NormalisedHarmonicConv):
            raise InputError(
                "--harmonic batch_norm: the responses of the first convolution have statistics that weights to start "
                "from do not have; start from scratch (--student_init scratch), or give --harmonic weights"
            )
        if (kernel := _kernel_of(module)) is not None:
            weight = state.pop(f"{name}.weight").to(kernel.basis)
            state[f"{name}.parametrizations.weight.original"] = kernel.right_inverse(weight)
    network.load_state_dict(state, strict=False)


def _size(conv: nn.Conv2d) -> tuple[int, int]:
    height, width = conv.kernel_size
    return height, width


def _kernel_of(module: nn.Module) -> HarmonicKernel | None:
    if not parametrize.is_parametrized(module, "weight"):
        return None
    kernel = module.parametrizations.weight[0]
    return kernel if isinstance(kernel, HarmonicKernel) else None
