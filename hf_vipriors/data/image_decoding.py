"""From an encoded image to 8-bit pixels of the wanted size."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from ..errors import InputError, nearest, one_line

# Times as long as wide: of what is longer, the middle is cut out before it is resized.
_LONGEST = 64
_INTERPOLATIONS = tuple(mode.value for mode in InterpolationMode)
# Full scale of a wide grey image, by its brightest pixel: 8, 12 (cameras, scanners) or 16 bits.
_FULL_SCALES = (255, 4095, 65535)


@dataclass(frozen=True)
class ResizeCrop:
    """Resize the shorter side, then cut the centre: the image part of timm's evaluation transform.

    Attributes:
        resize: length of the shorter side after resizing.
        crop: side of the square cut from the centre; where the image is smaller, black is added around it.
        interpolation: ``"bicubic"``, ``"bilinear"``, ``"nearest"``, ``"lanczos"``, ``"box"`` or ``"hamming"``.

    Raises:
        InputError: a size below 1 or an unknown interpolation.

    Example:
        >>> ResizeCrop(resize=73, crop=64)(Image.new("L", (200, 100))).size
        (64, 64)
    """

    resize: int
    crop: int
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if self.resize < 1 or self.crop < 1:
            raise InputError(f"image size {self.resize} (crop {self.crop}) is no size: choose at least 1 pixel")
        if self.interpolation not in _INTERPOLATIONS:
            raise InputError(f"unknown interpolation {self.interpolation!r}: {self._suggestion()}")

    def _suggestion(self) -> str:
        return nearest(self.interpolation, _INTERPOLATIONS)

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if max(width, height) > _LONGEST * min(width, height):  # resized, one pixel by 60,000 would fill the memory
            side = _LONGEST * min(width, height)
            image = F.center_crop(image, [min(height, side), min(width, side)])
        image = F.resize(image, self.resize, InterpolationMode(self.interpolation))
        return F.center_crop(image, self.crop)


@dataclass(frozen=True)
class Header:
    """What a file's header tells without decoding: the shorter side, and whether :func:`decode` gives mode L."""

    shorter_side: int
    gray: bool


def _is_wide(mode: str) -> bool:
    return mode in ("I", "F") or mode.startswith("I;")


def _is_gray(mode: str) -> bool:
    return mode in ("1", "L", "LA") or _is_wide(mode)


def _wide_to_8_bit(image: Image.Image) -> Image.Image:
    """Scale a 16-bit, 32-bit or float grey image by its full scale; see :func:`decode` for the rule."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if low < 0 or high > _FULL_SCALES[-1]:
        full, offset = (high - low) or 1.0, low
    elif image.mode == "F" and high <= 1:
        full, offset = 1.0, 0.0
    else:
        full, offset = next(scale for scale in _FULL_SCALES if high <= scale), 0.0
    return Image.fromarray(np.rint((values - offset) * 255.0 / full).astype(np.uint8))


def encoded(record: Mapping[str, Any]) -> bytes:
    """The file of a record."""
    return Path(record["path"]).read_bytes() if record["bytes"] is None else record["bytes"]


def open_image(record: Mapping[str, Any] | None) -> AbstractContextManager[Image.Image]:
    """Open the image of a record; the pixels are not read yet. Raises whatever Pillow raises."""
    if record is None or (record["bytes"] is None and record["path"] is None):
        raise ValueError("the row holds no image")
    try:
        return Image.open(record["path"] if record["bytes"] is None else io.BytesIO(record["bytes"]))
    except UnidentifiedImageError:
        if not encoded(record):
            raise ValueError("the file is empty") from None
        raise


def read_header(record: Mapping[str, Any] | None) -> Header:
    """Read size and mode only; raises whatever Pillow raises."""
    with open_image(record) as image:
        return Header(min(image.size), _is_gray(image.mode))


def read_pixels(record: Mapping[str, Any] | None, at_least: int | None = None) -> Image.Image:
    """:func:`decode`, but raising whatever Pillow raises.

    Args:
        record: as there.
        at_least: pixels of the shorter side that are enough: a JPEG comes at 1/2, 1/4 or 1/8 of its size where that
            leaves so many, in half the time or less. None: all pixels.
    """
    with open_image(record) as image:
        mode = image.mode
        if at_least is not None and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        upright = ImageOps.exif_transpose(image)
    if _is_wide(mode):
        return _wide_to_8_bit(upright)
    return upright.convert("L" if _is_gray(mode) else "RGB")


def read_square(
    record: Mapping[str, Any] | None, geometry: ResizeCrop, channels: int, *, reduced: bool = False
) -> np.ndarray:
    """One image as a store keeps it: (channels, crop, crop) uint8. Raises whatever Pillow raises.

    Args:
        record: as for :func:`decode`.
        geometry: the size.
        channels: 1 for images that are all gray, else 3.
        reduced: a large JPEG may be decoded at a fraction of its size, never below twice what is kept. Measured on
            3 megapixels for 256 pixels: 1.9 times as fast, 0.4 of 255 levels of mean difference (5 at most).
    """
    image = geometry(read_pixels(record, 2 * geometry.resize if reduced else None))
    if channels == 1:
        return np.asarray(image)[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def why_unreadable(error: Exception) -> str:
    """Word Pillow's complaint in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow knows"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return one_line(error).rstrip(".")


def decode(record_image: Mapping[str, Any]) -> Image.Image:
    """Decode one image to 8 bits, upright.

    Pixels are those of ``transformers.image_utils.load_image`` (EXIF orientation applied, converted to RGB, alpha
    ignored), except that grey images come as mode L (the same grey, once) and that wide grey ones are scaled where
    ``load_image`` clips everything above 255 to white: values of the modes ``I;16``, ``I`` and ``F`` are multiplied by
    255 / full scale and rounded. The full scale is the smallest of 255 (an 8-bit image in a wide file: unchanged),
    4095 (12 bits) and 65535 that the brightest pixel does not exceed; 1 for float images in 0..1; for negative or
    larger values the darkest pixel becomes 0 and the brightest 255. Pixels that are no number count as 0.

    Args:
        record_image: ``{"bytes": bytes | None, "path": str | None}``, as :class:`datasets.Image` with
            ``decode=False`` gives it; bytes win.

    Returns:
        An image of mode L or RGB.

    Raises:
        InputError: the image cannot be read, or is larger than Pillow's guard against decompression bombs allows.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("LA", (4, 2)).save(buffer, "PNG")
        >>> decode({"bytes": buffer.getvalue(), "path": None}).mode
        'L'
    """
    try:
        return read_pixels(record_image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise many types: OSError, SyntaxError, struct.error, ...
        path = record_image["path"] if record_image else None
        raise InputError(
            f"unreadable image {path or 'bytes'!r}: {why_unreadable(error)}; mend or remove it"
        ) from error
