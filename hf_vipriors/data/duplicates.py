"""Find images that occur twice: the same pixels, or the same image re-encoded, resized or lightly retouched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR_LIMIT = 20_000
"""Above this many different images only exact duplicates are looked for: near ones cost N^2 / 2 comparisons."""

_NEAR_DISTANCE = 6  # of 64 bits
# A perceptual hash knows neither colour nor brightness and takes all flat images for one: what it proposes must also
# look alike in small, at a mean difference of 2.5 levels. On the 8,000 images of Fashion-VIPriors the hash alone
# proposes 11,217 pairs, among them any two pale trousers; 7 pass, which show the same garment or its back.
_NEAR_DIFFERENCE = 2.5
_THUMBNAIL = 8
_BLOCK = 256  # rows compared with all later ones at once: 256 x 20,000 hashes are 40 MB
_PROPOSALS = 64  # verified for each image; more come only where thousands look alike, and those chain up anyway


@dataclass(frozen=True)
class Fingerprint:
    """One image as the search compares it.

    Attributes:
        digest: 16 bytes that only equal pixels share.
        phash: (64,) bool, perceptual hash (DCT of the grey image at 32 x 32 pixels, sign about the median).
        thumbnail: (8, 8, 3) uint8.
    """

    digest: bytes
    phash: np.ndarray
    thumbnail: np.ndarray


def fingerprint(image: Image.Image) -> Fingerprint:
    """Take the fingerprint of a decoded image of mode L or RGB.

    Example:
        >>> taken = fingerprint(Image.new("L", (40, 30), 7))
        >>> taken.phash.shape, taken.thumbnail.shape, int(taken.thumbnail.max())
        ((64,), (8, 8, 3), 7)
    """
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    thumbnail = image.convert("RGB").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
    return Fingerprint(digest.digest(), imagehash.phash(image).hash.ravel(), np.asarray(thumbnail))


@dataclass(frozen=True)
class DuplicateGroups:
    """Which of N images are the same.

    Attributes:
        exact: (N,) int64; images of equal pixels share a number.
        near: (N,) int64; images of equal pixels, and those that look the same, share a number. Equal to ``exact``
            where near duplicates were not searched.
        searched_near: whether they were.
    """

    exact: np.ndarray
    near: np.ndarray
    searched_near: bool

    def members(self) -> list[np.ndarray]:
        """Positions of the images of each group of two or more, in order."""
        order = np.argsort(self.near, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(self.near[order])) + 1) if len(order) else []
        return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def _near_pairs(hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """(P, 2) positions of images within ``_NEAR_DISTANCE`` bits that also look alike in small."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        close = np.bitwise_count(block[:, None] ^ hashes[None, start:]) <= _NEAR_DISTANCE
        close = np.triu(close, k=1)  # row r of the block is column r: only later images are left
        close &= np.cumsum(close, axis=1, dtype=np.int32) <= _PROPOSALS
        pairs = np.argwhere(close) + start
        for part in np.array_split(pairs, len(pairs) // 4096 + 1):
            left, right = (thumbnails[part[:, side]].astype(np.int16) for side in (0, 1))
            found.append(part[np.abs(left - right).mean(axis=(1, 2, 3)) <= _NEAR_DIFFERENCE])
    return np.concatenate(found)


def find_duplicates(prints: list[Fingerprint], *, near_limit: int = NEAR_LIMIT) -> DuplicateGroups:
    """Group the images that are the same.

    Equal pixels are found by their digests. For near duplicates all pairs of different images are compared by the
    Hamming distance of their perceptual hashes (at most 6 of 64 bits), and the close ones by their thumbnails (mean
    absolute difference at most 2.5 of 255). What is near by way of a third image is in the same group. Mirrored,
    cropped and strongly relit copies are not found.

    Args:
        prints: one an image.
        near_limit: above so many different images only equal pixels are looked for.

    Example:
        >>> ramp = Image.linear_gradient("L")
        >>> images = [ramp, ramp.copy(), ramp.resize((100, 100)), ramp.rotate(90)]
        >>> groups = find_duplicates([fingerprint(image) for image in images])
        >>> groups.exact.tolist(), groups.near.tolist()
        ([0, 0, 1, 2], [0, 0, 0, 1])
    """
    numbers: dict[bytes, int] = {}
    exact = np.array([numbers.setdefault(each.digest, len(numbers)) for each in prints], dtype=np.int64)
    if not prints or len(numbers) > near_limit:
        return DuplicateGroups(exact, exact, searched_near=not prints)
    firsts = np.unique(exact, return_index=True)[1]
    bits = np.stack([prints[i].phash for i in firsts])
    pairs = _near_pairs(
        np.packbits(bits, axis=1).view(np.uint64).ravel(), np.stack([prints[i].thumbnail for i in firsts])
    )
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(firsts),) * 2)
    _, component = connected_components(links, directed=False)
    return DuplicateGroups(exact, component.astype(np.int64)[exact], searched_near=True)


@dataclass(frozen=True)
class Overlap:
    """How many images of ``second`` occur in ``first`` too; within one split: how many are there once too often."""

    first: str
    second: str
    exact: int
    near: int


def overlaps(groups: DuplicateGroups, split: np.ndarray, names: list[str]) -> list[Overlap]:
    """Count duplicates within and between splits; pairs of splits without any are left out.

    Args:
        groups: of all images.
        split: (N,) position in ``names`` of the split that holds each image.
        names: of the splits; a pair is counted in the later one.

    Example:
        >>> groups = DuplicateGroups(np.array([0, 0, 1, 0, 2]), np.array([0, 0, 1, 0, 1]), True)
        >>> for overlap in overlaps(groups, np.array([0, 0, 0, 1, 1]), ["train", "test"]):
        ...     print(overlap)
        Overlap(first='train', second='train', exact=1, near=0)
        Overlap(first='train', second='test', exact=1, near=1)
    """
    exact, near = (_shared(numbers, split, len(names)) for numbers in (groups.exact, groups.near))
    return [
        Overlap(first, second, int(exact[a, b]), int(near[a, b] - exact[a, b]))
        for a, first in enumerate(names)
        for b, second in enumerate(names)
        if a <= b and near[a, b]
    ]


def _shared(numbers: np.ndarray, split: np.ndarray, splits: int) -> np.ndarray:
    """(S, S): images of split b whose group has an image of split a; on the diagonal those beyond a group's first."""
    counts = np.zeros((numbers.max(initial=-1) + 1, splits), dtype=np.int64)
    np.add.at(counts, (numbers, split), 1)
    present = counts > 0
    shared = present.T.astype(np.int64) @ counts
    shared[np.diag_indices(splits)] -= present.sum(axis=0)
    return shared
