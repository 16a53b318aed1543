"""A view, all operations of one image after another, as machine code.

The formulas are those of :mod:`.sampling`, :mod:`.colour` and :mod:`.blur`, whose functions the tests compare with.
All that is compiled lies in this one file: what numba keeps for the next process is renewed when this file changes,
and not when another does.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit, typeof
from numba.core.dispatcher import Dispatcher
from numpy import float32 as f32

from .blur import REACH
from .colour import LUMA

logger = logging.getLogger(__name__)
_COMPILING = "compiling the views for this processor: about ten seconds,"  # nobody should take them for a hang
_RED, _GREEN, _BLUE = (f32(share) for share in LUMA)
# Without infinities and NaN to keep apart, loops over a row become vector instructions.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}}


def compiled(function: Callable) -> Dispatcher:
    """To be compiled when first called, and kept for other processes beside this file or in the user's cache."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither folder can be written
        return njit(**_OPTIONS)(function)


def kernel_for(arguments: tuple[Any, ...]) -> Dispatcher:
    """:func:`render_part` compiled for such arguments, loaded from the cache wherever there is one.

    What a process has just compiled rounds otherwise than what later ones load, so the first run after installation
    would end with other weights than the second: what is not in the cache is compiled by a process of its own.
    """
    signature = tuple(map(typeof, arguments))
    if signature not in _KERNELS:
        kernel = compiled(render_part)
        # No public call tells whether something is kept without compiling it.
        cache: Any = vars(kernel)["_cache"]
        if kernel.stats.cache_path is None:
            logger.info("%s in each process: NUMBA_CACHE_DIR names no folder that can be written", _COMPILING)
        elif cache.load_overload(signature, kernel.targetctx) is None:
            logger.info("%s once after installation", _COMPILING)
            _compile_elsewhere(arguments)
        kernel.compile(signature)
        _KERNELS[signature] = kernel
    return _KERNELS[signature]


def _compile_elsewhere(arguments: tuple[Any, ...]) -> None:
    """Fill the cache from another process; where that fails, this one compiles."""
    like = [(each.dtype.str, each.ndim) if isinstance(each, np.ndarray) else each for each in arguments]
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import compile_like; compile_like({like!r})"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)


def compile_like(arguments: Sequence[Any]) -> None:
    """Compile :func:`render_part`, and keep it, for arrays of these types and dimensions and for these numbers."""
    made = (np.empty((1,) * each[1], each[0]) if isinstance(each, tuple) else each for each in arguments)
    compiled(render_part).compile(tuple(map(typeof, made)))


_KERNELS: dict[tuple[Any, ...], Dispatcher] = {}


@njit(**_OPTIONS)
def _clip(value):
    return min(max(value, f32(0)), f32(1))


@njit(**_OPTIONS)
def _positions(scale, shift, size, side, low, share):
    """Where the view's pixels lie along one axis of the image: between pixel ``low`` and the next, at ``share``."""
    for i in range(size):
        at = scale * (f32(2 * i + 1) / f32(size) - f32(1)) + shift
        at = ((at + f32(1)) * f32(side) - f32(1)) * f32(0.5)
        at = min(max(at, f32(0)), f32(side - 1))
        low[i] = int(at)
        share[i] = at - f32(low[i])


@njit(**_OPTIONS)
def _upright(image, crop, view, lines, source, columns, column_shares, rows, row_shares):
    """Bilinear: the rows of the image that the crop meets, each to the view's width, and between them."""
    channels, height, width = image.shape
    size = view.shape[1]
    _positions(crop[0, 0], crop[0, 2], size, width, columns, column_shares)
    _positions(crop[1, 1], crop[1, 2], size, height, rows, row_shares)
    top = min(rows[0], rows[size - 1])
    bottom = min(max(rows[0], rows[size - 1]) + 1, height - 1)
    for c in range(channels):
        for y in range(top, bottom + 1):
            pixels, line = image[c, y], lines[y - top]
            for x in range(width):
                source[x] = pixels[x] * f32(1 / 255)
            source[width] = source[width - 1]
            for x in range(size):
                left, right = source[columns[x]], source[columns[x] + np.uint32(1)]
                line[x] = left + column_shares[x] * (right - left)
        for y in range(size):
            first = rows[y] - top
            above, below, share, out = lines[first], lines[min(first + 1, bottom - top)], row_shares[y], view[c, y]
            for x in range(size):
                out[x] = above[x] + share * (below[x] - above[x])


@njit(**_OPTIONS)
def _inside(at, side):
    """A position in pixels from [-1, 1]; outside the image, mirrored at its edges as often as it takes."""
    at = ((at + f32(1)) * f32(side) - f32(1)) * f32(0.5)
    if at < 0 or at > side - 1:
        at = abs(at + f32(0.5))
        times = int(at / f32(side))
        at -= f32(times * side)
        at = (f32(side) - at if times % 2 else at) - f32(0.5)
        at = min(max(at, f32(0)), f32(side - 1))
    return at


@njit(**_OPTIONS)
def _turned(image, crop, view):
    """Bilinear, at positions that an affine map gives; outside the image lies its reflection."""
    channels, height, width = image.shape
    size = view.shape[1]
    step = f32(2) / f32(size)
    for y in range(size):
        v = f32(y) * step + (f32(0.5) * step - f32(1))
        for x in range(size):
            u = f32(x) * step + (f32(0.5) * step - f32(1))
            across = _inside(crop[0, 0] * u + crop[0, 1] * v + crop[0, 2], width)
            down = _inside(crop[1, 0] * u + crop[1, 1] * v + crop[1, 2], height)
            left, top = np.uint32(across), np.uint32(down)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            across -= f32(left)
            down -= f32(top)
            for c in range(channels):
                upper, lower = image[c, top], image[c, bottom]
                above = f32(upper[left]) + across * (f32(upper[right]) - f32(upper[left]))
                below = f32(lower[left]) + across * (f32(lower[right]) - f32(lower[left]))
                view[c, y, x] = (above + down * (below - above)) * f32(1 / 255)


@njit(**_OPTIONS)
def _gray_jitter(view, brightness, contrast):
    pixels = view.reshape(-1)
    total = f32(0)
    for i in range(pixels.size):
        pixels[i] = _clip(pixels[i] * brightness)
        total += pixels[i]
    gray = total / f32(pixels.size) * (f32(1) - contrast)
    for i in range(pixels.size):
        pixels[i] = _clip(pixels[i] * contrast + gray)


@njit(**_OPTIONS)
def _hue_channel(angle, brightest, spread):
    r"""HSV's :math:`v - s v \, \mathrm{clamp}(\min(k, 4 - k), 0, 1)`, with the angle k in sixths of a turn."""
    angle = angle - f32(6) if angle >= f32(6) else angle
    return brightest - spread * _clip(min(angle, f32(4) - angle))


@njit(**_OPTIONS)
def _colour_jitter(view, brightness, contrast, saturation, turns, colour):
    """Brightness, contrast, saturation, hue, and what is left of the colour."""
    reds, greens, blues = view[0].reshape(-1), view[1].reshape(-1), view[2].reshape(-1)
    total = f32(0)
    for i in range(reds.size):
        reds[i], greens[i], blues[i] = (
            _clip(reds[i] * brightness),
            _clip(greens[i] * brightness),
            _clip(blues[i] * brightness),
        )
        total += _RED * reds[i] + _GREEN * greens[i] + _BLUE * blues[i]
    mean = total / f32(reds.size) * (f32(1) - contrast)
    for i in range(reds.size):
        r, g, b = (
            _clip(reds[i] * contrast + mean),
            _clip(greens[i] * contrast + mean),
            _clip(blues[i] * contrast + mean),
        )
        gray = (_RED * r + _GREEN * g + _BLUE * b) * (f32(1) - saturation)
        r, g, b = _clip(r * saturation + gray), _clip(g * saturation + gray), _clip(b * saturation + gray)
        brightest = max(r, max(g, b))
        spread = brightest - min(r, min(g, b))
        if brightest == r:
            angle = g - b
        elif brightest == g:
            angle = b - r + f32(2) * spread
        else:
            angle = r - g + f32(4) * spread
        angle = angle / max(spread, f32(1e-12)) + f32(6) * turns
        angle -= f32(6) * np.floor(angle * f32(1 / 6))
        r = _hue_channel(angle + f32(5), brightest, spread)
        g = _hue_channel(angle + f32(3), brightest, spread)
        b = _hue_channel(angle + f32(1), brightest, spread)
        gray = (_RED * r + _GREEN * g + _BLUE * b) * (f32(1) - colour)
        reds[i], greens[i], blues[i] = r * colour + gray, g * colour + gray, b * colour + gray


@njit(**_OPTIONS)
def _taps(width, radius, taps):
    """The Gaussian from its centre outwards, with a sum of one over both sides; how many of its taps count."""
    total = f32(0)
    for k in range(radius + 1):
        taps[k] = np.exp(f32(-0.5) * (f32(k) / width) ** 2)
        total += taps[k] * (f32(2) if k else f32(1))
    for k in range(radius + 1):
        taps[k] /= total
    return min(radius, int(np.ceil(width * f32(REACH))))


@njit(**_OPTIONS)
def _blur(view, width, radius, lines, padded, taps):
    """Along the rows and then along the columns, two taps at a time, the border reflected."""
    channels, size, _ = view.shape
    reach = _taps(width, radius, taps)
    middle = padded[radius : radius + size]
    for c in range(channels):
        for y in range(size):
            row, line = view[c, y], lines[y]
            middle[:] = row
            for k in range(1, radius + 1):
                padded[radius - k] = row[k]
                padded[radius + size - 1 + k] = row[size - 1 - k]
            for x in range(size):
                line[x] = taps[0] * middle[x]
            for k in range(1, reach + 1):
                tap, left, right = taps[k], padded[radius - k :], padded[radius + k :]
                for x in range(size):
                    line[x] += tap * (left[x] + right[x])
        for y in range(size):
            line, out = lines[y], view[c, y]
            for x in range(size):
                out[x] = taps[0] * line[x]
            for k in range(1, reach + 1):
                below = y + k if y + k < size else 2 * (size - 1) - y - k
                tap, above, below = taps[k], lines[abs(y - k)], lines[below]
                for x in range(size):
                    out[x] += tap * (above[x] + below[x])


@njit(**_OPTIONS)
def _write(view, scale, shift, out):
    """Normalised and channels last; a gray image to three channels where the network has three."""
    channels, size, _ = view.shape
    for y in range(size):
        row = out[y].reshape(-1)
        if len(scale) == 3:
            first, second, third = view[0, y], view[channels // 2, y], view[channels - 1, y]
            for x in range(size):
                row[3 * x] = first[x] * scale[0] + shift[0]
                row[3 * x + 1] = second[x] * scale[1] + shift[1]
                row[3 * x + 2] = third[x] * scale[2] + shift[2]
        else:
            for x in range(size):
                row[x] = view[0, y, x] * scale[0] + shift[0]


def render_part(images, crops, jitter, colour, widths, turned, radius, scale, shift, out, first, last):
    """Write the views of the images from ``first`` to before ``last`` to ``out`` ``(B, size, size, K)``."""
    _, channels, height, width = images.shape
    size = out.shape[1]
    view = np.empty((channels, size, size), np.float32)
    lines = np.empty((max(height, size), size), np.float32)
    source, padded = np.empty(width + 1, np.float32), np.empty(size + 2 * radius, np.float32)
    taps = np.empty(radius + 1, np.float32)
    columns, rows = np.empty(size, np.uint32), np.empty(size, np.int32)
    column_shares, row_shares = np.empty(size, np.float32), np.empty(size, np.float32)
    for n in range(first, last):
        if turned:
            _turned(images[n], crops[n], view)
        else:
            _upright(images[n], crops[n], view, lines, source, columns, column_shares, rows, row_shares)
        brightness, contrast, saturation, turns = jitter[n, 0], jitter[n, 1], jitter[n, 2], jitter[n, 3]
        if channels == 1:
            if brightness != 1 or contrast != 1:
                _gray_jitter(view, brightness, contrast)
        elif brightness != 1 or contrast != 1 or saturation != 1 or turns != 0 or not colour[n]:
            _colour_jitter(view, brightness, contrast, saturation, turns, f32(colour[n]))
        if widths[n] > 0:
            _blur(view, widths[n], radius, lines, padded, taps)
        _write(view, scale, shift, out[n])
