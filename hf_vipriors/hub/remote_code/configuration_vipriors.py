"""Configuration of a VIPriors teacher: which timm network, for which images, with which projector."""

from typing import Any

from transformers import PreTrainedConfig


class VipriorsConfig(PreTrainedConfig):
    """Fields as ``config.json`` holds them.

    Args:
        backbone: timm name of the network.
        backbone_args: more arguments of its timm constructor.
        image_size: side of the square input in pixels.
        image_mean, image_std: per-channel statistics of pixels in 0..1.
        interpolation: filter that resizes an image.
        crop_pct: share of the resized shorter side that the centre crop keeps.
        projector_dim: width of the projection, None for no projector.
        projector_hidden_dim: width inside it; None takes the feature width, 0 makes it one Linear.
        projector_batch_norm: batch norm after its first layer.
    """

    model_type = "vipriors"

    backbone: str = "resnet50"
    backbone_args: dict[str, Any] | None = None
    image_size: int = 224
    image_mean: list[float] | tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: list[float] | tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    projector_dim: int | None = None
    projector_hidden_dim: int | None = None
    projector_batch_norm: bool = False
