"""From an encoded image to 8-bit pixels of the wanted size."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from ..errors import InputError, nearest, one_line
from ..files import waits_for_ever

READS_HEIC = find_spec("pillow_heif") is not None
if READS_HEIC:  # the one place where Pillow learns it
    import pillow_heif

    pillow_heif.register_heif_opener()

# Times as long as wide: of what is longer, the middle is cut out before it is resized.
_LONGEST = 64
_HEIC = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_INTERPOLATIONS = tuple(mode.value for mode in InterpolationMode)


class DoesNotFit(ValueError):
    """A wide gray image whose values, from ``low`` to ``high``, 8 bits cannot hold as they are."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(
            f"its gray values, {low:g} to {high:g}, do not fit 8 bits: give --full_scale N, the white one"
        )
        self.low, self.high = low, high

    @property
    def for_new_images(self) -> str:
        """The same where there is no such option: a model that was trained on 8 bits sees new images."""
        return f"its gray values, {self.low:g} to {self.high:g}, do not fit the model's 8 bits: save it with 8 bits"


@dataclass(frozen=True)
class ResizeCrop:
    """Resize the shorter side, then cut the centre: the image part of timm's evaluation transform.

    Attributes:
        resize: length of the shorter side after resizing.
        crop: side of the square cut from the centre; where the image is smaller, black is added around it.
        interpolation: ``"bicubic"``, ``"bilinear"``, ``"nearest"``, ``"lanczos"``, ``"box"`` or ``"hamming"``.
        full_scale: of wide gray images, for :func:`decode`; this class does nothing with it.

    Raises:
        InputError: a size below 1 or an unknown interpolation.

    Example:
        >>> ResizeCrop(resize=73, crop=64)(Image.new("L", (200, 100))).size
        (64, 64)
    """

    resize: int
    crop: int
    interpolation: str = "bicubic"
    full_scale: float | None = None

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


def is_wide(mode: str) -> bool:
    """Whether a gray image of this mode may hold other values than 8 bits do."""
    return mode in ("I", "F") or mode.startswith("I;")


def _is_gray(mode: str) -> bool:
    return mode in ("1", "L", "LA") or is_wide(mode)


def _wide_to_8_bits(image: Image.Image, full_scale: float | None) -> Image.Image:
    """A gray image of 16 or 32 bits or floats as mode L; see :func:`decode` for the rule."""
    values = np.asarray(image, dtype=np.float64)
    if full_scale is not None:
        values = np.nan_to_num(values, nan=0.0, posinf=full_scale, neginf=0.0)
        return Image.fromarray(np.clip(np.rint(values * (255 / full_scale)), 0, 255).astype(np.uint8))
    finite = values[np.isfinite(values)]
    low, high = finite.min(initial=0), finite.max(initial=0)
    shares = image.mode == "F" and high <= 1 and bool((finite % 1).any())  # 0 to 1: all of it would be black
    if low < 0 or high > 255 or shares:
        raise DoesNotFit(low, high)
    return image.convert("L")


def encoded(record: Mapping[str, Any]) -> bytes:
    """The file of a record."""
    return Path(record["path"]).read_bytes() if record["bytes"] is None else record["bytes"]


def open_image(record: Mapping[str, Any] | None) -> AbstractContextManager[Image.Image]:
    """Open the image of a record; the pixels are not read yet. Raises whatever Pillow raises."""
    if record is None or (record["bytes"] is None and record["path"] is None):
        raise ValueError("the row holds no image")
    if record["bytes"] is None and waits_for_ever(record["path"]):
        raise ValueError("it is a FIFO or a device, and no file")
    try:
        return Image.open(record["path"] if record["bytes"] is None else io.BytesIO(record["bytes"]))
    except UnidentifiedImageError:
        file = encoded(record)
        if not file:
            raise ValueError("the file is empty") from None
        if not READS_HEIC and file[4:12] in _HEIC:  # of a telephone, perhaps called .jpg
            raise ValueError("a HEIC image: pip install pillow-heif") from None
        raise


def read_header(record: Mapping[str, Any] | None) -> Header:
    """Read size and mode only; raises whatever Pillow raises."""
    with open_image(record) as image:
        return Header(min(image.size), _is_gray(image.mode))


def read_pixels(
    record: Mapping[str, Any] | None, at_least: int | None = None, full_scale: float | None = None
) -> Image.Image:
    """:func:`decode`, but raising whatever Pillow raises.

    Args:
        record, full_scale: as there.
        at_least: pixels of the shorter side that are enough: a JPEG comes at 1/2, 1/4 or 1/8 of its size where that
            leaves so many, in half the time or less. None: all pixels.

    Raises:
        DoesNotFit: a wide gray image that needs a full scale.
    """
    with open_image(record) as image:
        mode = image.mode
        if at_least is not None and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        upright = ImageOps.exif_transpose(image)
    if is_wide(mode):
        return _wide_to_8_bits(upright, full_scale)
    return upright.convert("L" if _is_gray(mode) else "RGB")


def read_square(
    record: Mapping[str, Any] | None, geometry: ResizeCrop, channels: int, *, reduced: bool = False
) -> np.ndarray:
    """One image as a store keeps it: (channels, crop, crop) uint8. Raises what :func:`read_pixels` raises.

    Args:
        record: as for :func:`decode`.
        geometry: the size, and the full scale.
        channels: 1 for images that are all gray, else 3.
        reduced: a large JPEG may be decoded at a fraction of its size, never below twice what is kept. Measured on
            3 megapixels for 256 pixels: 1.9 times as fast, 0.4 of 255 levels of mean difference (5 at most).
    """
    image = geometry(read_pixels(record, 2 * geometry.resize if reduced else None, geometry.full_scale))
    if channels == 1:
        return np.asarray(image)[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def why_unreadable(error: Exception) -> str:
    """Word Pillow's complaint in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow knows"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.DecompressionBombError):
        return f"over {2 * Image.MAX_IMAGE_PIXELS} pixels, Pillow's guard against decompression bombs: make it smaller"
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror.lower()
    return one_line(error).rstrip(".")


def decode(record_image: Mapping[str, Any], full_scale: float | None = None) -> Image.Image:
    """Decode one image to 8 bits, upright.

    Pixels are those of ``transformers.image_utils.load_image``, which ``pipeline()`` reads images by (EXIF orientation
    applied, converted to RGB, alpha ignored), except that gray images come as mode L (the same gray, once). So what is
    measured here is what is served there. Of wide gray images (16 or 32 bits or floats; modes ``I;16``, ``I``, ``F``)
    that conversion clips what lies outside 0..255, and turns floats of 0..1 black: such an image is refused, unless
    ``full_scale`` says how all wide images of a data set become 8 bits.

    Args:
        record_image: ``{"bytes": bytes | None, "path": str | None}``, as :class:`datasets.Image` with
            ``decode=False`` gives it; bytes win.
        full_scale: the value of wide gray images that becomes 255, as ``clip(rint(values * (255 / full_scale)), 0,
            255)``; pixels that are no number become 0. Images of 8 bits stay as they are.

    Returns:
        An image of mode L or RGB.

    Raises:
        InputError: the image cannot be read, is larger than Pillow's guard against decompression bombs allows, or
            needs a ``full_scale``.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16)).save(buffer, "PNG")
        >>> np.asarray(decode({"bytes": buffer.getvalue(), "path": None}, full_scale=4095)).tolist()
        [[0, 128, 255]]
    """
    try:
        return read_pixels(record_image, full_scale=full_scale)
    except MemoryError:
        raise
    except DoesNotFit as error:
        raise InputError(f"image {record_image['path'] or 'bytes'!r}: {error}") from error
    except Exception as error:  # Pillow's plugins raise many types: OSError, SyntaxError, struct.error, ...
        path = record_image["path"] if record_image else None
        raise InputError(
            f"unreadable image {path or 'bytes'!r}: {why_unreadable(error)}; mend or remove it"
        ) from error
