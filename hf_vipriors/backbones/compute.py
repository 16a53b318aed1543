"""What a network costs: operations of one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError, one_line
from .timm_backbone import create_backbone


def forward_operations(name: str, *, image_size: int, backbone_args: dict[str, Any] | None = None) -> int:
    """Floating-point operations of a network without classifier on one image, a multiply-add counted as two.

    Convolutions, matrix products and attention count, as ``torch.utils.flop_counter`` counts them; norms, activations
    and pooling do not. A step of training takes about three times as many an image. Nothing is computed or held: that
    a network cannot take a size may only show when it is built.

    Args:
        name, image_size, backbone_args: as in :func:`create_backbone`.

    Raises:
        InputError: as :func:`create_backbone`, or operations that cannot be counted.

    Example:
        >>> narrow, wide = (forward_operations(f"cifar_wrn_16_{width}", image_size=32) for width in (1, 2))
        >>> f"{narrow / 1e6:.1f} million, {wide / narrow:.2f} times as many"
        '53.3 million, 3.79 times as many'
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = create_backbone(name, image_size=image_size, backbone_args=backbone_args).eval()
        # With gradients: the counter follows some networks, such as CaiT, by them.
        try:
            with FlopCounterMode(display=False) as counter:
                network(torch.empty(1, network.in_chans, image_size, image_size))
        except Exception as error:  # which one is up to each of timm's files
            raise InputError(
                f"the operations of backbone {name!r} on {image_size} px images cannot be counted, leave it out: "
                f"{one_line(error)}"
            ) from error
    return counter.get_total_flops()
